"""What may be set of an engine: typed settings, and further flags from a list with the range of each."""

from __future__ import annotations

from typing import Any

import pytest

from tandem_contracts.draft_container import DraftContainer
from tandem_contracts.engine_settings import FLAGS, SWITCH, EngineSettings, OneOf, Whole
from tandem_contracts.launch import LaunchOptions, Role
from tandem_operator.api.deployment import InvalidSpecError, Owner
from tandem_operator.api.engine import Engine
from tandem_operator.inputs import RejectedSpecError
from tandem_operator.objects.pod_template import pod_template_of
from tests.builders import NAMESPACE, UID, make_deployment, make_inputs, make_role, make_spec

NEVER = (
    "trust-remote-code", "hf-overrides", "hf-token", "hf-config-path", "model", "tokenizer", "port", "host", "api-key",
    "worker-cls", "worker-extension-cls", "scheduler-cls", "middleware", "logits-processors", "io-processor-plugin",
    "reasoning-parser-plugin", "tool-parser-plugin", "chat-template", "download-dir", "load-format", "lora-modules",
    "speculative-config", "additional-config", "kv-transfer-config", "compilation-config", "tensor-parallel-size",
    "pipeline-parallel-size", "shutdown-timeout", "otlp-traces-endpoint", "allowed-local-media-path", "tool-server",
    "enable-log-requests", "enable-sleep-mode", "ssl-keyfile", "uds", "root-path", "config", "served-model-name",
)  # fmt: skip


def with_engine(**engine: Any) -> dict[str, Any]:
    return make_spec(verifier={**make_role(), "engine": engine})


def settings_of(**engine: Any) -> EngineSettings:
    return make_deployment(with_engine(**engine)).spec.verifier.engine.settings


def refusal_of(**engine: Any) -> str:
    with pytest.raises(InvalidSpecError) as caught:
        make_deployment(with_engine(**engine))
    return str(caught.value)


def test_what_is_set_reaches_the_launcher_and_what_is_not_does_not() -> None:
    spec = with_engine(
        dataType="bfloat16",
        maxModelLength=8192,
        kvCacheDtype="fp8",
        attentionBackend="FLASHINFER",
        compilation="Eager",
        paging={"blockSize": 32, "memoryUtilizationPercent": 90},
        scheduler={"maxSequences": 64, "maxBatchedTokens": 4096, "chunkedPrefill": "Enabled", "policy": "priority"},
        prefixCache={"mode": "Enabled", "hash": "sha256_cbor"},
        args={"seed": 7, "generation-config": "vllm", "enable-mfu-metrics": "Enabled"},
    )
    owner = Owner(name="pair", namespace=NAMESPACE, uid=UID)
    container = pod_template_of(owner, make_inputs(spec))["spec"]["containers"][0]
    options = LaunchOptions.parse(container["args"])
    assert options.engine == make_deployment(spec).spec.verifier.engine.settings
    assert options.engine.flags == {"seed": 7, "generation-config": "vllm", "enable-mfu-metrics": "Enabled"}
    assert None not in options.engine.given().values()
    assert len(options.engine.given()) == 14


def test_nothing_is_set_by_itself() -> None:
    assert settings_of() == EngineSettings()
    assert Engine().settings.given() == {}


@pytest.mark.parametrize("name", NEVER)
def test_a_flag_that_tandem_sets_or_that_loads_something_is_never_on_the_list(name: str) -> None:
    assert name not in FLAGS
    assert "spec.verifier.engine.args: the flags that may be set are" in refusal_of(args={name: "x"})


def values_of(name: str) -> tuple[list[Any], list[Any]]:
    """Values at the edges of a flag's range, inside and outside."""
    kind = FLAGS[name]
    if isinstance(kind, Whole):
        return [kind.least, kind.most], [kind.least - 1, kind.most + 1, str(kind.least), "", "x"]
    return list(kind.choices), ["", kind.choices[0].swapcase(), kind.choices[0] + "\n", 1, "--" + kind.choices[0]]


@pytest.mark.parametrize("name", FLAGS)
def test_a_flag_is_accepted_within_its_range_and_refused_outside_with_its_range_named(name: str) -> None:
    inside, outside = values_of(name)
    needed = {"tool-call-parser": "hermes"} if name == "enable-auto-tool-choice" else {}
    for value in inside:
        assert settings_of(args={**needed, name: value}).flags == {**needed, name: value}
    for value in outside:
        message = refusal_of(args={name: value})
        assert "spec.verifier.engine.args" in message
        assert name in message
        assert str(FLAGS[name]) in message


@pytest.mark.parametrize("value", [True, 1.5, [], {}])
def test_a_flag_of_another_type_is_refused(value: Any) -> None:
    assert "spec.verifier.engine.args.seed" in refusal_of(args={"seed": value})


def test_a_long_text_and_many_flags_are_refused() -> None:
    assert "at most 64 characters" in refusal_of(args={"generation-config": "x" * 65})
    assert "at most 32 items" in refusal_of(args={f"flag-{n}": 1 for n in range(33)})


def test_every_flag_is_lower_case_without_dashes_in_front_and_has_a_range() -> None:
    for name, kind in FLAGS.items():
        assert name == name.lower().strip("-")
        assert isinstance(kind, Whole | OneOf)
        if isinstance(kind, Whole):
            assert kind.least < kind.most
        else:
            assert len(set(kind.choices)) == len(kind.choices) > 1
            assert not any(set(choice) & set(" '\"\\\n=") for choice in kind.choices)
    assert {name for name, kind in FLAGS.items() if kind is SWITCH} >= {"enable-auto-tool-choice", "kv-cache-metrics"}


@pytest.mark.parametrize(
    ("engine", "path"),
    [
        ({"dataType": "float8"}, "engine.dataType (is 'float8')"),
        ({"maxModelLength": 0}, "engine.maxModelLength (is 0)"),
        ({"maxModelLength": 16_777_217}, "engine.maxModelLength (is 16777217)"),
        ({"kvCacheDtype": "FP8"}, "engine.kvCacheDtype (is 'FP8')"),
        ({"attentionBackend": "flash_attn"}, "engine.attentionBackend (is 'flash_attn')"),
        ({"compilation": True}, "engine.compilation (is true)"),
        ({"paging": {"blockSize": 12}}, "engine.paging.blockSize (is 12): must be a multiple of 8 from 8 to 1024"),
        ({"paging": {"blockSize": 2048}}, "engine.paging.blockSize (is 2048)"),
        ({"paging": {"memoryUtilizationPercent": 100}}, "engine.paging.memoryUtilizationPercent (is 100)"),
        ({"paging": {"memoryUtilizationPercent": 0.9}}, "engine.paging.memoryUtilizationPercent (is 0.9)"),
        ({"scheduler": {"maxSequences": 0}}, "engine.scheduler.maxSequences (is 0)"),
        ({"scheduler": {"chunkedPrefill": "On"}}, "engine.scheduler.chunkedPrefill (is 'On')"),
        ({"prefixCache": {"hash": "xxhash"}}, "engine.prefixCache.hash (is 'xxhash')"),
        (
            {"scheduler": {"maxSequences": 65, "maxBatchedTokens": 64}},
            "engine.scheduler.maxBatchedTokens: maxBatchedTokens must not be below maxSequences",
        ),
        ({"args": {"enable-auto-tool-choice": "Enabled"}}, "engine.args: tool-call-parser is required when"),
        (
            {"prefixCache": {"mode": "Disabled", "hash": "sha256"}},
            "engine.prefixCache.hash: hash must be left out when mode is Disabled",
        ),
        (
            {"maxModelLength": 4096, "scheduler": {"chunkedPrefill": "Disabled", "maxBatchedTokens": 2048}},
            "engine: scheduler.maxBatchedTokens must not be below maxModelLength when scheduler.chunkedPrefill is",
        ),
    ],
)
def test_a_setting_outside_its_range_is_refused_by_path(engine: dict[str, Any], path: str) -> None:
    assert f"spec.verifier.{path}" in refusal_of(**engine)


@pytest.mark.parametrize("kind", ["Transformers", "Triton"])
def test_an_engine_that_only_drafts_takes_the_number_of_sequences_and_no_setting_of_vllm(kind: str) -> None:
    def drafting(**engine: Any) -> dict[str, Any]:
        return make_spec(draft={**make_role(), "engine": {"type": kind, **engine}})

    owner = Owner(name="pair", namespace=NAMESPACE, uid=UID)
    settings = {"engineImages": {"cpu": "c:1", "cpu-triton": "t:1"}}
    template = pod_template_of(owner, make_inputs(drafting(scheduler={"maxSequences": 9}), Role.DRAFT, **settings))
    assert {f"--draft-engine={kind}", "--max-sequences=9"} <= set(template["spec"]["containers"][0]["args"])
    for setting in ({"dataType": "bfloat16"}, {"scheduler": {"policy": "fcfs"}}, {"args": {"seed": 1}}):
        with pytest.raises(InvalidSpecError, match=r"spec\.draft\.engine: only image and scheduler\.maxSequences"):
            make_deployment(drafting(**setting))
    with pytest.raises(InvalidSpecError, match=r"spec\.verifier\.engine\.type must be VLLM"):
        make_deployment(with_engine(type=kind))


def _custom(**engine: Any) -> dict[str, Any]:
    return make_spec(draft={**make_role(), "engine": {"type": "Custom", **engine}})


def _container(spec: dict[str, Any]) -> dict[str, Any]:
    inputs = make_inputs(spec, Role.DRAFT, engineImageAllowList=["mine/.*"])
    template = pod_template_of(Owner(name="pair", namespace=NAMESPACE, uid=UID), inputs)
    container: dict[str, Any] = template["spec"]["containers"][0]
    return container


def test_a_draft_server_of_ones_own_is_started_by_its_images_command_and_told_by_variables() -> None:
    container = _container(_custom(image="mine/card:1", scheduler={"maxSequences": 9}))
    assert not container.keys() & {"command", "args"}
    assert container["image"] == "mine/card:1"
    told = {each["name"]: each["value"] for each in container["env"]}
    mounts = [mount["mountPath"] for mount in container["volumeMounts"]]
    assert DraftContainer.of(told) == DraftContainer(model=told["TANDEM_MODEL"], max_sessions=9)
    assert any(told["TANDEM_MODEL"].startswith(mount) for mount in mounts)
    assert container["startupProbe"]["grpc"] == {"port": DraftContainer.of(told).grpc_port, "service": ""}


def test_a_draft_server_of_ones_own_is_told_whom_to_answer_over_tls() -> None:
    spec = _custom(image="mine/card:1")
    spec["speculation"] = {"method": "Remote", "tls": {"secretName": "tls"}}
    container = _container(spec)
    told = DraftContainer.of({each["name"]: each["value"] for each in container["env"]})
    assert told.identity == f"{NAMESPACE}/pair"
    assert {told.certificates_folder, told.credentials_folder} <= {m["mountPath"] for m in container["volumeMounts"]}
    assert container["readinessProbe"]["grpc"]["port"] == told.health_port


def test_a_draft_server_of_ones_own_needs_an_image_that_may_be_named() -> None:
    with pytest.raises(InvalidSpecError, match=r"spec\.draft\.engine: image is required when type is Custom"):
        make_deployment(_custom())
    with pytest.raises(InvalidSpecError, match=r"only image and scheduler\.maxSequences may be set when type is"):
        make_deployment(_custom(image="mine/card:1", dataType="bfloat16"))
    with pytest.raises(RejectedSpecError, match=r"spec\.draft\.engine\.image \(is other:1\): must match one of mine/"):
        _container(_custom(image="other:1"))


def test_the_environment_cannot_be_set() -> None:
    """An unknown field: the API server and `tandem plan` refuse it, and an operator that meets it takes no notice."""
    given = make_inputs(with_engine(env=[{"name": "LD_PRELOAD", "value": "/models/x.so"}]))
    assert given == make_inputs(with_engine())
