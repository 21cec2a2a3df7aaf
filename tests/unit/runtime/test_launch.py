"""What the launcher makes of its options, of a model folder, and of an engine's log."""

import dataclasses
import importlib
import itertools
import json
import time
from pathlib import Path

import pytest

from tandem_contracts.draft_access import DraftIdentity
from tandem_contracts.engine_settings import (
    AttentionBackend,
    Compilation,
    DataType,
    EngineSettings,
    KVCacheDtype,
    PrefixHash,
    SchedulingPolicy,
    Switch,
)
from tandem_contracts.launch import Access, InEngineKind, LaunchOptions, Role, Speculation
from tandem_contracts.stopping import StopTimes
from tandem_contracts.termination import ExitCode, Phase, Reason, TerminationMessage
from tandem_contracts.tokenizer import tokenizer_hash_of
from tandem_runtime.drafting.access import DraftAccess
from tandem_runtime.drafting.settings import DraftSettings
from tandem_runtime.launch.__main__ import main
from tandem_runtime.launch.engine import (
    GUARD,
    LEAVING,
    PROPOSER,
    WORKER,
    Platform,
    draft_environment,
    engine_command,
    engine_environment,
)
from tandem_runtime.launch.exporter import PhasesCollector
from tandem_runtime.launch.model_folder import (
    ModelFolder,
    ModelInvalidError,
    ModelNotFoundError,
    read_model_folder,
)
from tandem_runtime.launch.phases import StartPhases
from tandem_runtime.launch.root_cause import root_cause

MODEL = ModelFolder(path=Path("/models/m"), dtype="float32", tokenizer_hash="sha256:a")
COUNTERS = Path("/tmp/counters")


def make_options(**changes: object) -> LaunchOptions:
    return LaunchOptions(**{"role": Role.VERIFIER, "model": "/models/m", "served_name": "m", **changes})  # type: ignore[arg-type]


REMOTE = make_options(speculation=Speculation.REMOTE, max_depth=4, draft_address="d:8000")


def flags_of(options: LaunchOptions, platform: Platform = Platform.CPU) -> dict[str, str]:
    command = engine_command(options, MODEL, platform=platform)
    return {
        flag: value if not value.startswith("--") else ""
        for flag, value in zip(command, [*command[1:], "--"], strict=True)
        if flag.startswith("--")
    }


def test_the_engine_is_told_the_dtype_that_the_weights_have() -> None:
    assert flags_of(make_options())["--dtype"] == "float32"


def test_traces_go_where_the_operator_says_and_nowhere_by_default() -> None:
    assert "--otlp-traces-endpoint" not in flags_of(make_options())
    traced = make_options(traces_endpoint="http://collector:4317")
    assert flags_of(traced)["--otlp-traces-endpoint"] == "http://collector:4317"


def test_without_speculation_the_engine_is_a_plain_one() -> None:
    assert not {"--speculative-config", "--worker-cls"} & flags_of(make_options(), Platform.GPU).keys()
    assert draft_environment(make_options(), MODEL, counters=COUNTERS) == {}


def test_remote_drafts_come_from_our_proposer_in_our_worker() -> None:
    flags = flags_of(REMOTE)
    assert json.loads(flags["--speculative-config"]) == {
        "method": "custom_class",
        "model": PROPOSER,
        "num_speculative_tokens": 4,
    }
    assert flags["--worker-cls"] == WORKER
    settings = DraftSettings.from_environment(draft_environment(REMOTE, MODEL, counters=COUNTERS))
    assert settings == DraftSettings(
        address="d:8000", tokenizer_hash="sha256:a", deadline_seconds=0.1, counters=str(COUNTERS)
    )


def test_another_draft_pod_does_not_change_what_the_engine_keys_its_compile_cache_by() -> None:
    other = dataclasses.replace(REMOTE, draft_address="e:8000")
    assert engine_command(REMOTE, MODEL, platform=Platform.GPU) == engine_command(other, MODEL, platform=Platform.GPU)


def test_the_proposer_is_told_what_it_has_to_show_to_draft_pods() -> None:
    plain, tls = (
        DraftSettings.from_environment(draft_environment(options, MODEL, counters=COUNTERS))
        for options in (REMOTE, dataclasses.replace(REMOTE, draft_identity="chat/pair"))
    )
    assert plain.access is None
    assert tls.access == DraftAccess(
        DraftIdentity("chat", "pair"), Path("/run/tandem/certificates"), Path("/run/tandem/credentials")
    )


def test_ngram_drafts_need_nothing_of_ours() -> None:
    flags = flags_of(make_options(speculation=Speculation.NGRAM, max_depth=3), Platform.GPU)
    assert json.loads(flags["--speculative-config"])["method"] == "ngram"
    assert "--worker-cls" not in flags


@pytest.mark.parametrize(
    ("kind", "model", "expected"),
    [
        (InEngineKind.DRAFT_MODEL, "/m/d", {"method": "draft_model", "model": "/m/d"}),
        (InEngineKind.EAGLE3, "/m/e", {"method": "eagle3", "model": "/m/e"}),
        (InEngineKind.MTP, "", {"method": "mtp"}),
        (InEngineKind.SUFFIX, "", {"method": "suffix"}),
    ],
)
def test_drafts_in_the_engine_are_vllms_own(kind: InEngineKind, model: str, expected: dict[str, str]) -> None:
    options = make_options(speculation=Speculation.IN_ENGINE, in_engine=kind, in_engine_model=model, max_depth=3)
    flags = flags_of(options, Platform.GPU)
    assert json.loads(flags["--speculative-config"]) == {**expected, "num_speculative_tokens": 3}
    assert "--worker-cls" not in flags


@pytest.mark.parametrize(
    "speculation",
    [
        {"speculation": Speculation.NGRAM},
        {"speculation": Speculation.IN_ENGINE, "in_engine": InEngineKind.MTP},
    ],
)
def test_whatever_drafts_on_a_cpu_is_sampled_by_our_worker(speculation: dict[str, object]) -> None:
    assert flags_of(make_options(max_depth=3, **speculation))["--worker-cls"] == WORKER


def test_what_is_set_of_an_engine_becomes_vllms_flags() -> None:
    settings = EngineSettings(
        data_type=DataType.BFLOAT16,
        max_model_length=8192,
        kv_cache_dtype=KVCacheDtype.FP8,
        attention_backend=AttentionBackend.FLASHINFER,
        compilation=Compilation.EAGER,
        block_tokens=64,
        memory_percent=5,
        max_sequences=16,
        max_batched_tokens=2048,
        chunked_prefill=Switch.DISABLED,
        scheduling_policy=SchedulingPolicy.PRIORITY,
        prefix_caching=Switch.ENABLED,
        prefix_hash=PrefixHash.SHA256_CBOR,
        flags={"seed": 0, "enable-mfu-metrics": "Enabled", "disable-custom-all-reduce": "Disabled"},
    )
    flags = flags_of(make_options(engine=settings), Platform.GPU)
    assert (
        flags.items()
        >= {
            "--dtype": "bfloat16",
            "--max-model-len": "8192",
            "--kv-cache-dtype": "fp8",
            "--attention-backend": "FLASHINFER",
            "--enforce-eager": "",
            "--block-size": "64",
            "--gpu-memory-utilization": "0.05",
            "--max-num-seqs": "16",
            "--max-num-batched-tokens": "2048",
            "--no-enable-chunked-prefill": "",
            "--scheduling-policy": "priority",
            "--enable-prefix-caching": "",
            "--prefix-caching-hash-algo": "sha256_cbor",
            "--seed": "0",
            "--enable-mfu-metrics": "",
            "--no-disable-custom-all-reduce": "",
        }.items()
    )


def test_what_is_not_set_is_left_to_the_engine() -> None:
    assert set(flags_of(make_options(), Platform.GPU)) == {
        "--model", "--served-model-name", "--port", "--tensor-parallel-size", "--dtype", "--shutdown-timeout",
        "--disable-uvicorn-access-log", "--custom-histogram-buckets", "--middleware",
    }  # fmt: skip


def test_a_user_may_have_a_cpu_engine_compile() -> None:
    settings = EngineSettings(compilation=Compilation.COMPILED)
    assert "--no-enforce-eager" in flags_of(make_options(engine=settings))


def test_the_engines_wait_for_requests_is_shorter_than_what_would_cut_it_off() -> None:
    options = make_options(drain_seconds=90)
    assert flags_of(options)["--shutdown-timeout"] == "90"
    assert StopTimes.of_drain(90).limit_seconds > 90


def test_a_key_is_asked_for_by_our_guard_and_is_no_argument() -> None:
    command = engine_command(make_options(access=Access.API_KEY), MODEL, platform=Platform.CPU)
    assert "--api-key" not in command
    asked = [value for flag, value in itertools.pairwise(command) if flag == "--middleware"]
    assert asked == [LEAVING, GUARD]
    for path in asked:
        module, _, name = path.rpartition(".")
        assert isinstance(getattr(importlib.import_module(module), name), type)


def test_only_a_cpu_engine_is_kept_from_compiling() -> None:
    assert "--enforce-eager" in flags_of(REMOTE, Platform.CPU)
    assert "--enforce-eager" not in flags_of(REMOTE, Platform.GPU)


def test_the_engine_fetches_and_reports_nothing_and_writes_to_scratch_only() -> None:
    environment = engine_environment({"HOME": "/home/x", "HF_HUB_OFFLINE": "0"}, platform=Platform.GPU)
    assert environment["HF_HUB_OFFLINE"] == "1"
    assert environment["VLLM_NO_USAGE_STATS"] == "1"
    assert environment["HOME"] != "/home/x"
    assert "VLLM_CPU_KVCACHE_SPACE" not in environment


@pytest.mark.parametrize(
    ("platform", "compilation", "is_disabled"),
    [
        (Platform.CPU, None, True),
        (Platform.CPU, Compilation.EAGER, True),
        (Platform.CPU, Compilation.COMPILED, False),
        (Platform.GPU, None, False),
    ],
)
def test_nothing_at_all_is_compiled_where_there_may_be_no_compiler(
    platform: Platform, compilation: Compilation | None, is_disabled: bool
) -> None:
    environment = engine_environment({}, platform=platform, compilation=compilation)
    assert ("TORCHDYNAMO_DISABLE" in environment) is is_disabled


def test_what_the_operator_sets_for_an_accelerator_stays() -> None:
    environment = engine_environment({"VLLM_CPU_KVCACHE_SPACE": "7"}, platform=Platform.CPU)
    assert environment["VLLM_CPU_KVCACHE_SPACE"] == "7"


def make_model_folder(folder: Path, configuration: object) -> Path:
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(configuration))
    (folder / "model.safetensors").touch()
    return folder


@pytest.mark.parametrize(
    ("configuration", "dtype"),
    [
        ({"model_type": "llama", "dtype": "bfloat16"}, "bfloat16"),
        ({"model_type": "llama", "torch_dtype": "float16"}, "float16"),
        ({"model_type": "llama"}, "auto"),
    ],
)
def test_a_model_folder_tells_its_dtype(tmp_path: Path, configuration: object, dtype: str) -> None:
    folder = make_model_folder(tmp_path / "m", configuration)
    assert read_model_folder(folder) == ModelFolder(path=folder, dtype=dtype, tokenizer_hash="")


def test_a_model_folder_tells_which_tokenizer_it_has(tmp_path: Path) -> None:
    folder = make_model_folder(tmp_path / "m", {"model_type": "llama"})
    tokenizer = {"model": {"vocab": {"a": 0, "b": 1}}}
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    assert read_model_folder(folder).tokenizer_hash == tokenizer_hash_of(tokenizer)
    (folder / "tokenizer.json").write_text("{")
    assert read_model_folder(folder).tokenizer_hash == ""


@pytest.mark.parametrize("configuration", [[], {}, {"model_type": 3}, None])
def test_a_folder_whose_configuration_is_no_models_is_refused(tmp_path: Path, configuration: object) -> None:
    folder = make_model_folder(tmp_path / "m", configuration)
    with pytest.raises(ModelInvalidError, match=f"{folder}: config.json has no model_type"):
        read_model_folder(folder)


def test_a_folder_without_weights_is_refused(tmp_path: Path) -> None:
    folder = make_model_folder(tmp_path / "m", {"model_type": "llama"})
    (folder / "model.safetensors").unlink()
    with pytest.raises(ModelInvalidError, match="has no weights"):
        read_model_folder(folder)


def test_a_file_and_a_missing_path_are_no_model_folders(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFoundError, match="does not exist"):
        read_model_folder(tmp_path / "missing")
    (tmp_path / "file").touch()
    with pytest.raises(ModelNotFoundError, match="is not a folder"):
        read_model_folder(tmp_path / "file")


@pytest.mark.parametrize(
    ("changes", "code", "reason", "message"),
    [
        (["--model={folder}", "--access=ApiKey"], ExitCode.INVALID_OPTIONS, Reason.INVALID_OPTIONS, "VLLM_API_KEY"),
        (["--model={folder}/missing"], ExitCode.MODEL_NOT_FOUND, Reason.MODEL_NOT_FOUND, "{folder}/missing"),
        (["--model={folder}"], ExitCode.MODEL_INVALID, Reason.MODEL_INVALID, "{folder} has no config.json"),
        (["--model={folder}", "--max-depth=2"], ExitCode.INVALID_OPTIONS, Reason.INVALID_OPTIONS, "--max-depth"),
    ],
)
def test_what_can_be_known_beforehand_ends_the_launcher_with_its_own_code(
    tmp_path: Path, changes: list[str], code: ExitCode, reason: Reason, message: str
) -> None:
    model, log = tmp_path / "model", tmp_path / "log"
    model.mkdir()
    given = [change.format(folder=model) for change in changes]
    arguments = ["--role=verifier", "--served-name=m", f"--termination-log={log}", *given]
    assert main(arguments) == code
    if code is not ExitCode.INVALID_OPTIONS:
        written = TerminationMessage.decode(log.read_text())
        assert (written.code, written.phase, written.reason) == (code, Phase.CHECK, reason)
        assert message.format(folder=model) in written.message


def test_the_phases_of_a_start_are_read_from_the_log() -> None:
    phases = StartPhases(100.0)
    seen = [phases.current]
    for line, now in (
        ("(APIServer pid=1) INFO 01-01 00:00:00 [api_utils.py:1] version 0.32.0", 103.0),
        ("(Worker pid=3) INFO 01-01 00:00:00 [cpu_model_runner.py:68] Starting to load model /m...", 110.0),
        ("(Worker pid=3) INFO 01-01 00:00:00 [default_loader.py:501] Loading weights took 2.0 seconds", 112.5),
    ):
        phases.see_line(line, now)
        seen.append(phases.current)
    phases.see_answer(120.0)
    assert [*seen, phases.current] == [Phase.PROCESS, Phase.PROCESS, Phase.WEIGHTS, Phase.WARM_UP, Phase.SERVE]
    assert phases.durations_seconds() == {"process": 10.0, "weights": 2.5, "warm_up": 7.5, "total": 20.0}


def test_compiling_is_told_from_the_rest_of_the_warm_up() -> None:
    phases = StartPhases(100.0)
    seen = []
    for line, now in (
        ("(Worker_TP0 pid=3) INFO 01-01 00:00:00 [gpu_model_runner.py:1] Starting to load model /m...", 110.0),
        ("(Worker_TP0 pid=3) INFO 01-01 00:00:00 [default_loader.py:501] Loading weights took 2.0 seconds", 112.5),
        ("(Worker_TP0 pid=3) INFO 01-01 00:00:00 [monitor.py:36] Starting torch.compile", 113.0),
        ("(Worker_TP0 pid=3) INFO 01-01 00:00:00 [monitor.py:59] torch.compile took 3.50 s in total", 116.5),
        ("(Worker_TP1 pid=4) INFO 01-01 00:00:00 [monitor.py:59] torch.compile took 3.25 s in total", 116.5),
        (
            "(Worker_TP0 pid=3) INFO 01-01 00:00:00 [monitor.py:59] [draft] torch.compile and initial profiling/warmup "
            "run together took 1.00 s in total",
            117.5,
        ),
    ):
        phases.see_line(line, now)
        seen.append(phases.current)
    phases.see_answer(120.0)
    assert seen == [Phase.WEIGHTS, Phase.WARM_UP, Phase.COMPILE, Phase.WARM_UP, Phase.WARM_UP, Phase.WARM_UP]
    assert phases.durations_seconds() == {
        "process": 10.0,
        "weights": 2.5,
        "compile": 4.5,
        "warm_up": 3.0,
        "total": 20.0,
    }


def test_a_log_that_tells_nothing_still_gives_the_total() -> None:
    phases = StartPhases(100.0)
    phases.see_line("something else", 101.0)
    phases.see_answer(120.0)
    assert phases.durations_seconds() == {"total": 20.0}


def test_a_start_is_told_from_the_beginning_and_is_the_same_at_each_scrape() -> None:
    began = time.time()
    collector = PhasesCollector(StartPhases(100.0))
    pages = [{each.name: [sample.value for sample in each.samples] for each in collector.collect()} for _ in range(2)]
    ((started,), *_) = pages[0].values()
    assert began <= started <= time.time()
    expected = {"tandem_start_time_seconds": [started], "tandem_start_phase_seconds": [], "tandem_engine_ready": [0.0]}
    assert pages == [expected, expected]


WORKER_FAILS = """\
(APIServer pid=1) INFO 01-01 00:00:00 [api_utils.py:1] version 0.32.0
(Worker pid=3) ERROR 01-01 00:00:00 [multiproc_executor.py:900] WorkerProc failed to start.
(Worker pid=3) ERROR 01-01 00:00:00 [multiproc_executor.py:900] Traceback (most recent call last):
(Worker pid=3) ERROR 01-01 00:00:00 [multiproc_executor.py:900]   File "x.py", line 3, in load
(Worker pid=3) ERROR 01-01 00:00:00 [multiproc_executor.py:900] safetensors_rust.SafetensorError: header too small
(EngineCore pid=2) ERROR 01-01 00:00:00 [core.py:1] Exception: WorkerProc initialization failed due to an exception
(APIServer pid=1) RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): {}
"""
CONFIGURATION_FAILS = """\
(APIServer pid=1)   File "x.py", line 3, in check
(APIServer pid=1) pydantic_core._pydantic_core.ValidationError: 1 validation error for ModelConfig
(APIServer pid=1)   Value error, unknown architecture [type=value_error]
(APIServer pid=1)     For further information visit a page
"""


TRITON_FAILS = """\
E0101 00:00:00.000000 7 server.cc:241] "CudaDriverHelper has not been initialized."
I0101 00:00:00.000000 7 model_lifecycle.cc:472] "loading: draft:1"
E0101 00:00:00.000000 7 model_lifecycle.cc:642] "failed to load 'draft' version 1: Internal: ValueError: no graph\\n\\nAt:\\n  /tmp/model.py(8): <module>\\n"
I0101 00:00:00.000000 7 model_lifecycle.cc:777] "failed to load 'draft'"
error: creating server: Internal - failed to load all models
"""  # noqa: E501


@pytest.mark.parametrize(
    ("log", "status", "cause"),
    [
        (TRITON_FAILS, 1, "ValueError: no graph"),
        (WORKER_FAILS, 1, "safetensors_rust.SafetensorError: header too small"),
        (
            CONFIGURATION_FAILS,
            1,
            "pydantic_core._pydantic_core.ValidationError: 1 validation error for ModelConfig\n"
            "Value error, unknown architecture [type=value_error]",
        ),
        ("api_server.py: error: argument --dtype: invalid choice: 'x'\n", 2, "argument --dtype: invalid choice: 'x'"),
        (
            "(EngineCore pid=2) vllm.v1.engine.exceptions.EngineDeadError: EngineCore died\n",
            1,
            "vllm.v1.engine.exceptions.EngineDeadError: EngineCore died",
        ),
        ("loading\n\n", -9, "the engine was ended by SIGKILL (out of memory?); its last line: loading"),
        ("", 3, "the engine exited with 3; its last line: it logged nothing"),
    ],
)
def test_the_root_cause_is_the_first_exception_and_not_its_consequences(log: str, status: int, cause: str) -> None:
    assert root_cause(log.splitlines(), status) == cause
