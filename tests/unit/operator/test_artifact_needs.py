"""Which artifacts a deployment needs, decided from its spec, the accelerator table and the configuration."""

from __future__ import annotations

from typing import Any

import pytest

from tandem_contracts.artifact import artifact_key, is_artifact_key
from tandem_contracts.launch import Role
from tandem_contracts.recipe import TOOLCHAIN, Algorithm, Scheme
from tandem_operator.artifact_facts import names_in
from tandem_operator.artifact_needs import Need, Settings, needs_in, needs_of, online_scheme_of
from tandem_operator.facts import Manifest
from tandem_operator.names import Reason
from tandem_operator.rejection import RejectedSpecError
from tests.builders import NAMESPACE, make_body, make_child, make_config, make_deployment, make_role, make_spec

HUB = {"huggingFace": {"repo": "team/model"}}
CACHE = {"volume": {"claimName": "cache"}}
SETTINGS = Settings.of(make_config())


def role(source: Manifest | None = None, classes: tuple[str, ...] = ("cpu",), **quantization: Any) -> Manifest:
    made = make_role(classes=classes)
    return {**made, "model": {"source": source or made["model"]["source"], "quantization": quantization}}


def spec_of(verifier: Manifest, **more: Any) -> Manifest:
    return {**make_spec(draft=None, verifier=verifier, speculation={"method": "Off"}), "cache": CACHE, **more}


def need(verifier: Manifest, settings: Settings = SETTINGS) -> Need:
    return needs_of(make_deployment(spec_of(verifier)), settings)[Role.VERIFIER]


def rejection_of(verifier: Manifest, settings: Settings = SETTINGS) -> RejectedSpecError:
    with pytest.raises(RejectedSpecError) as caught:
        need(verifier, settings)
    return caught.value


def test_a_model_as_it_lies_needs_what_it_always_did() -> None:
    source = make_role()["model"]["source"]
    plain = needs_of(make_deployment(make_spec(draft=None, speculation={"method": "Off"})), SETTINGS)[Role.VERIFIER]
    assert plain.key == artifact_key(source)
    assert plain.artifacts == (plain.artifact,)
    assert plain.artifact.to_data() == {"source": source}


def test_a_model_of_a_hub_is_one_artifact_on_the_cache_whoever_holds_the_token() -> None:
    made = make_role()
    opened = {"huggingFace": {**HUB["huggingFace"], "secretKeyRef": {"name": "hf", "key": "token"}}}
    plain, gated = (need({**made, "model": {"source": source}}) for source in (HUB, opened))
    assert plain.key == gated.key
    assert is_artifact_key(plain.key)
    assert [(each.variable, each.secret, each.key) for each in gated.credentials] == [("HF_TOKEN", "hf", "token")]
    assert "secretKeyRef" not in str(gated.artifact.to_data())
    assert gated.artifact.to_data() == {
        "source": {"huggingFace": {"repo": "team/model", "revision": "main"}},
        "claimName": "cache",
        "tenant": NAMESPACE,
    }


def test_a_quantized_model_is_made_from_the_model_as_it_is() -> None:
    of_hub, of_claim = need(role(HUB, scheme="W8A8")), need(role(scheme="W8A8"))
    assert [spec.quantization is not None for spec in of_hub.artifacts] == [False, True]
    assert of_hub.artifacts[0].claim_name == "cache"
    assert of_claim.artifacts[0].to_data() == {"source": make_role()["model"]["source"]}
    assert len({spec.key for each in (of_hub, of_claim) for spec in each.artifacts}) == 4


@pytest.mark.parametrize(
    ("classes", "scheme", "algorithm", "why"),
    [
        (("cpu",), Scheme.W8A8, Algorithm.RTN, "the first that cpu has a kernel for"),
        (("nvidia-a100-80gb",), Scheme.W4A16, Algorithm.GPTQ, "the first that nvidia-a100-80gb has a kernel for"),
        (("nvidia-h100-80gb",), Scheme.FP8_DYNAMIC, Algorithm.RTN, "nvidia-h100-80gb"),
        (("nvidia-b200-180gb",), Scheme.FP8_DYNAMIC, Algorithm.RTN, "nvidia-b200-180gb"),
        (("amd-mi300x-192gb",), Scheme.FP8_DYNAMIC, Algorithm.RTN, "amd-mi300x-192gb"),
        (("nvidia-l4-24gb", "nvidia-a10g-24gb"), Scheme.FP8_DYNAMIC, Algorithm.RTN, "nvidia-l4-24gb and nvidia-a10g"),
    ],
)  # fmt: skip
def test_an_omitted_scheme_is_the_first_with_a_kernel_on_every_class(
    classes: tuple[str, ...], scheme: Scheme, algorithm: Algorithm, why: str
) -> None:
    found = need(role(HUB, classes))
    assert found.artifact.quantization is not None
    assert (found.artifact.quantization.scheme, found.artifact.quantization.algorithm) == (scheme, algorithm)
    assert why in found.why
    assert (found.artifact.quantization.calibration is not None) == (algorithm is Algorithm.GPTQ)
    assert found.artifact.quantization.toolchain == TOOLCHAIN


@pytest.mark.parametrize(
    ("classes", "quantization", "parts"),
    [
        (("cpu",), {"scheme": "FP8_DYNAMIC"},
         ("spec.verifier.model.quantization.scheme (is FP8_DYNAMIC)", "cpu cannot serve it", "only emulated", "W8A8")),
        (("cpu",), {"scheme": "NVFP4"}, ("(is NVFP4)", "no kernel is registered")),
        (("cpu",), {"scheme": "W2A16"}, ("(is W2A16)", "takes 4 bits only")),
        (("nvidia-b200-180gb",), {"scheme": "W8A8"}, ("(is W8A8)", "not for compute capability 10.0", "FP8_DYNAMIC")),
        (("nvidia-h100-80gb", "nvidia-b200-180gb"), {"scheme": "W8A8"}, ("nvidia-b200-180gb cannot serve it",)),
        (("intel-gaudi3-128gb",), {}, ("(is omitted)", "no scheme to choose on intel-gaudi3-128gb")),
        (("cpu",), {"mode": "Online"}, ("(is omitted)", "no scheme to choose on cpu")),
        (("cpu",), {"mode": "Online", "scheme": "FP8_BLOCK"}, ("(is FP8_BLOCK)", "requires AMX")),
        (("cpu",), {"algorithm": "AWQ"}, ("quantization.algorithm (is AWQ)", "W8A8 is made by one of")),
    ],
)  # fmt: skip
def test_a_scheme_without_a_kernel_is_refused_with_the_kernels_own_reason(
    classes: tuple[str, ...], quantization: Manifest, parts: tuple[str, ...]
) -> None:
    refused = rejection_of(role(HUB, classes, **quantization))
    assert refused.reason is Reason.SCHEME_NOT_SUPPORTED
    for part in parts:
        assert part in str(refused)


def test_the_administrators_table_decides_over_schemes() -> None:
    settings = Settings.of(make_config(accelerators={"cpu": {"schemes": ["W2A16"]}}))
    found = need(role(HUB), settings)
    assert found.artifact.quantization is not None
    assert found.artifact.quantization.scheme is Scheme.W2A16


def test_a_hub_that_the_configuration_does_not_know_is_refused_with_those_that_it_knows() -> None:
    source = {"huggingFace": {"repo": "team/model", "hub": "mirror"}}
    assert "the operator's modelHubs has none" in str(rejection_of(role(source)))
    settings = Settings.of(make_config(modelHubs={"inner": "https://hub.example"}))
    refused = rejection_of(role(source), settings)
    assert refused.reason is Reason.UNKNOWN_HUB
    assert "spec.verifier.model.source.huggingFace.hub (is mirror): must be one of inner" in str(refused)


def test_a_bucket_is_one_artifact_and_its_keys_are_those_of_a_secret() -> None:
    source = {"s3": {"bucket": "models", "prefix": "llama/8b", "secretName": "s3"}}
    made = make_role()
    found = need({**made, "model": {"source": source}})
    assert found.artifact.to_data()["source"] == {"s3": {"bucket": "models", "prefix": "llama/8b"}}
    assert [(each.variable, each.secret, each.is_optional) for each in found.credentials] == [
        ("AWS_ACCESS_KEY_ID", "s3", False), ("AWS_SECRET_ACCESS_KEY", "s3", False), ("AWS_SESSION_TOKEN", "s3", True),
    ]  # fmt: skip
    stored = {"s3": {**source["s3"], "store": "minio"}}
    refused = rejection_of({**made, "model": {"source": stored}})
    assert refused.reason is Reason.UNKNOWN_STORE
    settings = Settings.of(make_config(modelStores={"minio": "https://minio.example:9000"}))
    assert need({**made, "model": {"source": stored}}, settings).key != found.key


def test_online_and_prequantized_models_are_served_as_they_are() -> None:
    online = role(HUB, ("nvidia-h100-80gb",), mode="Online")
    for given in (online, role(HUB, mode="Prequantized")):
        assert need(given).artifact.quantization is None
    spec = make_deployment(spec_of(online)).spec.verifier
    assert online_scheme_of(spec, "spec.verifier", table=SETTINGS.table) == "fp8_per_channel"


@pytest.mark.parametrize(
    ("engine", "quantization", "part"),
    [
        ("Triton", {}, "must be left out with engine.type Triton"),
        ("Triton", {"mode": "Prequantized"}, "must be left out with engine.type Triton"),
        ("Transformers", {"mode": "Online", "scheme": "FP8_DYNAMIC"}, "must be Offline with engine.type Transformers"),
    ],
)
def test_an_engine_that_cannot_load_the_form_is_told_before_any_pod(
    engine: str, quantization: Manifest, part: str
) -> None:
    draft = {**role(HUB, ("nvidia-l4-24gb",), **quantization), "engine": {"type": engine}}
    spec = {**make_spec(draft=draft), "cache": CACHE}
    with pytest.raises(RejectedSpecError, match=part):
        needs_of(make_deployment(spec), SETTINGS)


@pytest.mark.parametrize(
    ("change", "is_another"),
    [
        ({"scheme": "W4A16"}, True),
        ({"scheme": "W8A8", "algorithm": "RTN"}, False),
        ({"scheme": "W8A8", "algorithm": "GPTQ"}, True),
        ({"scheme": "W8A8", "ignore": ["lm_head", "re:.*gate$"]}, True),
        ({"scheme": "W8A8", "kvCache": "fp8"}, True),
        ({"scheme": "W8A8", "gate": {"minTop1Agreement": "0.5"}}, False),
        ({"scheme": "W8A8", "job": {"memory": "64Gi"}}, False),
        ({"scheme": "W8A8", "calibration": {"samples": 3}}, False),
    ],
)  # fmt: skip
def test_what_changes_the_files_changes_the_key_and_nothing_else_does(change: Manifest, is_another: bool) -> None:
    before = need(role(HUB, scheme="W8A8")).key
    assert (need(role(HUB, **change)).key != before) is is_another


def test_calibration_is_part_of_the_key_where_it_is_used() -> None:
    def key(**calibration: Any) -> str:
        return need(role(HUB, scheme="W4A16", calibration=calibration)).key

    assert key() == key(samples=256, maxSequenceLength=2048, seed=42)
    others = [
        {"samples": 255}, {"seed": 1}, {"maxSequenceLength": 64}, {"configMapKeyRef": {"name": "a", "key": "b"}}
    ]  # fmt: skip
    assert len({key(), *(key(**other) for other in others)}) == 1 + len(others)


def test_files_of_a_namespace_are_its_own_unless_the_administrator_shares_them() -> None:
    def key(namespace: str, settings: Settings) -> str:
        body = make_body(spec_of(role(HUB)))
        body["metadata"]["namespace"] = namespace
        return needs_in(body, settings)[Role.VERIFIER].key

    shared = Settings.of(make_config(shareArtifacts=True))
    assert key("a", SETTINGS) != key("b", SETTINGS)
    assert key("a", shared) == key("b", shared) != key("a", SETTINGS)


@pytest.mark.parametrize(
    "verifier",
    [
        role(scheme="W8A8"),
        role(HUB, scheme="W4A16", calibration={"configMapKeyRef": {"name": "texts", "key": "data.jsonl"}}),
    ],
    ids=["a claim", "texts of a ConfigMap"],
)
def test_what_is_made_from_a_namespaces_own_things_is_shared_with_nobody(verifier: Manifest) -> None:
    """Another namespace has another claim, and another ConfigMap, of the same name."""
    shared = Settings.of(make_config(shareArtifacts=True))
    bodies = [make_body(spec_of(verifier)) for _ in range(2)]
    bodies[1]["metadata"]["namespace"] = "other"
    first, second = (needs_in(body, shared)[Role.VERIFIER] for body in bodies)
    assert first.key != second.key
    assert (first.artifact.tenant, second.artifact.tenant) == (NAMESPACE, "other")


def test_a_deployment_names_every_artifact_that_it_could_need() -> None:
    body = make_body(spec_of(role(HUB, scheme="W4A16"), draft=role(HUB, scheme="W8A8")))
    named = names_in(body, SETTINGS)
    assert {spec.key for each in needs_in(body, SETTINGS).values() for spec in each.artifacts} < named
    assert len(named) == 3, "the source, and two forms of it"


def test_a_frozen_revision_names_the_files_that_its_pods_mount() -> None:
    key = need(role(HUB)).key
    data = {"resolved": {"model_path": key, "in_engine_model": {"path": "v1-" + "a" * 26}}, "requested": {}}
    assert names_in(make_child("ControllerRevision", "r", data=data), SETTINGS) == {key, "v1-" + "a" * 26}
    plain = {"resolved": {"model_path": "verifier"}, "requested": make_role()}
    assert names_in(make_child("ControllerRevision", "r", data=plain), SETTINGS) == {
        artifact_key(make_role()["model"]["source"])
    }


def test_an_artifact_names_what_it_is_made_from() -> None:
    found = need(role(HUB))
    made = {"kind": "ModelArtifact", "metadata": {"name": found.key}, "spec": found.artifact.to_data()}
    assert names_in(made, SETTINGS) == {found.artifacts[0].key}
    assert names_in({**made, "spec": found.artifacts[0].to_data()}, SETTINGS) == set()
