"""The launch options and the termination message survive their own round trip, and refuse what does not fit."""

import dataclasses
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tandem_contracts import engine_settings
from tandem_contracts.engine_settings import FLAGS, EngineSettings, Whole
from tandem_contracts.launch import (
    DEPTH_LIMIT,
    Access,
    DraftEngine,
    InEngineKind,
    InvalidLaunchOptionsError,
    LaunchOptions,
    Role,
    Speculation,
)
from tandem_contracts.recipe import DraftScheme
from tandem_contracts.stopping import DRAIN_LIMIT_SECONDS
from tandem_contracts.termination import MESSAGE_LIMIT_BYTES, ExitCode, Phase, Reason, TerminationMessage

texts = st.text(min_size=1)
ports = st.integers(1, 65535)


def within(kind: Whole) -> st.SearchStrategy[int]:
    return st.integers(kind.least, kind.most)


@st.composite
def flags(draw: st.DrawFn) -> Mapping[str, int | str]:
    names = draw(st.sets(st.sampled_from(sorted(FLAGS)), max_size=4))
    kinds = {name: FLAGS[name] for name in names}
    return {
        name: draw(within(kind) if isinstance(kind, Whole) else st.sampled_from(kind.choices))
        for name, kind in kinds.items()
    }


settings = st.builds(
    EngineSettings,
    data_type=st.none() | st.sampled_from(engine_settings.DataType),
    max_model_length=st.none() | within(engine_settings.MODEL_LENGTH),
    kv_cache_dtype=st.none() | st.sampled_from(engine_settings.KVCacheDtype),
    attention_backend=st.none() | st.sampled_from(engine_settings.AttentionBackend),
    compilation=st.none() | st.sampled_from(engine_settings.Compilation),
    block_tokens=st.none() | st.sampled_from([8, 16, 1024]),
    memory_percent=st.none() | within(engine_settings.MEMORY_PERCENT),
    max_sequences=st.none() | within(engine_settings.SEQUENCES),
    max_batched_tokens=st.none() | within(engine_settings.BATCHED_TOKENS),
    chunked_prefill=st.none() | st.sampled_from(engine_settings.Switch),
    scheduling_policy=st.none() | st.sampled_from(engine_settings.SchedulingPolicy),
    prefix_caching=st.none() | st.sampled_from(engine_settings.Switch),
    prefix_hash=st.none() | st.sampled_from(engine_settings.PrefixHash),
    flags=flags(),
)


@st.composite
def launch_options(draw: st.DrawFn) -> LaunchOptions:
    role = draw(st.sampled_from(Role))
    speculation = draw(st.sampled_from(Speculation)) if role is Role.VERIFIER else Speculation.OFF
    is_remote = speculation is Speculation.REMOTE
    in_engine = draw(st.sampled_from(InEngineKind)) if speculation is Speculation.IN_ENGINE else None
    draft_engine = draw(st.sampled_from(DraftEngine)) if role is Role.DRAFT else None
    schemes = [None, *DraftScheme] if draft_engine is DraftEngine.TRANSFORMERS else [None]
    return LaunchOptions(
        role=role,
        model=draw(texts),
        served_name=draw(texts),
        tensor_parallel=draw(st.integers(1, 64)),
        draft_engine=draft_engine,
        draft_scheme=draw(st.sampled_from(schemes)),
        speculation=speculation,
        max_depth=0 if speculation is Speculation.OFF else draw(st.integers(1, DEPTH_LIMIT)),
        in_engine=in_engine,
        in_engine_model=draw(texts) if in_engine and in_engine.needs_model else "",
        draft_address=f"drafts-{draw(st.integers(0))}:{draw(ports)}" if is_remote else "",
        draft_deadline_seconds=draw(st.floats(0, 5, exclude_min=True)),
        drain_seconds=draw(st.integers(1, DRAIN_LIMIT_SECONDS)),
        access=draw(st.sampled_from(Access)),
        engine=draw(settings),
        host=draw(st.text()),
        http_port=draw(ports),
        grpc_port=draw(ports),
        metrics_port=draw(ports),
        health_port=draw(ports),
        draft_identity=draw(st.sampled_from(["", "chat/pair"])) if is_remote or role is Role.DRAFT else "",
        certificates_folder=draw(texts),
        credentials_folder=draw(texts),
        termination_log=draw(texts),
    )


@given(launch_options())
def test_what_the_operator_renders_is_what_the_launcher_parses(options: LaunchOptions) -> None:
    assert LaunchOptions.parse(options.to_arguments()) == options


def test_arguments_name_only_what_differs_from_the_defaults() -> None:
    options = LaunchOptions(
        role=Role.VERIFIER,
        model="/models/verifier",
        served_name="llama",
        speculation=Speculation.REMOTE,
        max_depth=4,
        draft_address="llama-draft-1:8000",
    )
    assert options.to_arguments() == [
        "--role=verifier",
        "--model=/models/verifier",
        "--served-name=llama",
        "--speculation=Remote",
        "--max-depth=4",
        "--draft-address=llama-draft-1:8000",
    ]


IN_ENGINE = {"--speculation": "InEngine", "--max-depth": "4", "--in-engine": "MTP"}
REMOTE = {"--speculation": "Remote", "--max-depth": "4", "--draft-address": "drafts:8000"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"--role": "target"}, "'target' is not allowed (allowed: verifier, draft)"),
        ({"--tensor-parallel": "0"}, "--tensor-parallel: 0 is not allowed here (allowed: at least 1)"),
        ({"--http-port": "70000"}, "--http-port: 70000 is not allowed here (allowed: 1 to 65535)"),
        ({**REMOTE, "--max-depth": "17"}, "--max-depth: 17 is not allowed here (allowed: 1 to 16"),
        ({**REMOTE, "--max-depth": "0"}, "--max-depth: 0 is not allowed here (allowed: 1 to 16"),
        ({"--max-depth": "3"}, "--max-depth: 3 is not allowed here (allowed: 0 with --speculation Off)"),
        ({**REMOTE, "--draft-address": "drafts"}, "--draft-address: 'drafts' is not allowed here"),
        ({**REMOTE, "--draft-address": "drafts:0"}, "--draft-address: 'drafts:0' is not allowed here"),
        ({**REMOTE, "--draft-address": "drafts:²"}, "--draft-address: 'drafts:²' is not allowed here"),
        ({"--draft-address": "drafts:8000"}, "left out unless --speculation is Remote"),
        ({**REMOTE, "--role": "draft"}, "--speculation: Remote is not allowed here (allowed: Off for a draft)"),
        ({**REMOTE, "--draft-deadline-seconds": "0"}, "--draft-deadline-seconds: 0.0 is not allowed here"),
        ({**REMOTE, "--draft-deadline-seconds": "nan"}, "--draft-deadline-seconds: nan is not allowed here"),
        ({"--draft-identity": "chat/pair"}, "left out unless --role is draft or --speculation is Remote"),
        (
            {**REMOTE, "--draft-identity": "pair"},
            "--draft-identity: 'pair' is not allowed here (allowed: NAMESPACE/NAME)",
        ),
        ({**REMOTE, "--draft-identity": "a/b/c"}, "--draft-identity: 'a/b/c' is not allowed here"),
        (
            {"--role": "draft", "--draft-engine": "VLLM", "--draft-scheme": "NF4"},
            "--draft-scheme: NF4 is not allowed here (allowed: left out unless --draft-engine is Transformers)",
        ),
        ({"--draft-scheme": "INT8"}, "--draft-scheme: INT8 is not allowed here (allowed: left out unless"),
        ({"--draft-scheme": "W8A8"}, "'W8A8' is not allowed (allowed: NF4, INT8)"),
        ({"--drain-seconds": "0"}, "--drain-seconds: 0 is not allowed here (allowed: 1 to 3600)"),
        (
            {"--speculation": "InEngine", "--max-depth": "1"},
            "--in-engine: nothing is not allowed here (allowed: one of",
        ),
        ({"--in-engine": "MTP"}, "--in-engine: MTP is not allowed here (allowed: left out unless"),
        ({**IN_ENGINE, "--in-engine": "EAGLE3"}, "--in-engine-model: '' is not allowed here (allowed: a path with"),
        ({**IN_ENGINE, "--in-engine-model": "/m"}, "--in-engine-model: '/m' is not allowed here (allowed: left out"),
        ({"--access": "Everybody"}, "'Everybody' is not allowed (allowed: Open, ApiKey)"),
        (
            {"--memory-percent": "100"},
            "--memory-percent: 100 is not allowed here (allowed: a whole number from 1 to 99)",
        ),
        ({"--block-tokens": "9"}, "--block-tokens: 9 is not allowed here (allowed: a multiple of 8)"),
        ({"--data-type": "int8"}, "'int8' is not allowed (allowed: bfloat16, float16, float32)"),
        ({"--engine-flag": "trust-remote-code=Enabled"}, "'trust-remote-code' is not a flag that may be set (allowed:"),
        ({"--engine-flag": "seed=-1"}, "seed (is '-1'): must be a whole number from 0 to 2147483647"),
        ({"--engine-flag": "seed"}, "seed (is ''): must be a whole number"),
        (
            {"--role": "draft", "--draft-engine": "VLLM", "--traces-endpoint": "http://c"},
            "--traces-endpoint: 'http://c' is not allowed here (allowed: left out for a draft)",
        ),
        ({"--served-name": ""}, "--served-name: '' is not allowed here"),
        ({"--model-name": "x"}, "unrecognized arguments: --model-name=x"),
        ({"--rol": "draft"}, "unrecognized arguments: --rol=draft"),
    ],
)
def test_a_wrong_option_is_refused_with_its_value_and_what_is_allowed(changes: dict[str, str], message: str) -> None:
    flags = {"--role": "verifier", "--model": "/m", "--served-name": "n", **changes}
    with pytest.raises(InvalidLaunchOptionsError) as refusal:
        LaunchOptions.parse([f"{flag}={value}" for flag, value in flags.items()])
    assert message in str(refusal.value)


messages = st.builds(
    TerminationMessage,
    code=st.sampled_from(ExitCode),
    phase=st.sampled_from(Phase),
    reason=st.sampled_from(Reason),
    message=st.text(max_size=200),
)


@given(messages)
def test_a_termination_message_reads_back_as_it_was_written(message: TerminationMessage) -> None:
    assert TerminationMessage.decode(message.encode()) == message


@given(messages, st.sampled_from(["x", "\x00", "ß", "🦊", '"', "\n"]), st.integers(4000, 5000))
def test_a_long_termination_message_is_shortened_at_its_end(
    message: TerminationMessage, filler: str, length: int
) -> None:
    long = dataclasses.replace(message, message=message.message + length * filler)
    text = long.encode()
    assert len(text.encode()) <= MESSAGE_LIMIT_BYTES
    read = TerminationMessage.decode(text)
    assert read.message == long.message or long.message.startswith(read.message.removesuffix("…"))
    assert read.code == long.code


def test_shortening_cuts_no_more_than_it_must() -> None:
    message = TerminationMessage(
        code=ExitCode.ENGINE_FAILED, phase=Phase.SERVE, reason=Reason.ENGINE_FAILED, message="x" * 9000
    )
    assert len(message.encode().encode()) > MESSAGE_LIMIT_BYTES - 12


@pytest.mark.parametrize("text", ["", "OOMKilled", "[]", "{}", "null", '{"code": 1, "phase": "serve"}', "3"])
def test_text_that_is_no_termination_message_of_ours_is_told_apart(text: str) -> None:
    with pytest.raises(ValueError, match="not a termination message of ours"):
        TerminationMessage.decode(text)
