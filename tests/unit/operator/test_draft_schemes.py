"""NF4 and INT8, which bitsandbytes makes of a draft as it is loaded: who may ask for them, what pods and sizing get."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from tandem_contracts.launch import LaunchOptions, Role
from tandem_contracts.recipe import DraftScheme
from tandem_operator.accelerators import table_of
from tandem_operator.api.deployment import InvalidSpecError, Owner
from tandem_operator.api.quantization import QuantizationMode
from tandem_operator.artifact_needs import Settings, needs_of
from tandem_operator.assessment import assess
from tandem_operator.facts import Manifest
from tandem_operator.inputs import is_same_request, requested_of, require_servable
from tandem_operator.names import Reason
from tandem_operator.objects.pod_template import pod_template_of
from tandem_operator.rejection import RejectedSpecError
from tandem_operator.sizing import Sizing, SizingRequest, size, weights_bytes_of
from tests.builders import NAME, NAMESPACE, UID, make_config, make_deployment, make_inputs, make_role, make_spec
from tests.unit.operator.models import GIB, LLAMA_1B, LLAMA_8B, make_card

SCHEMES = list(DraftScheme)
SETTINGS = Settings.of(make_config())
EMBEDDING_1B = 128256 * 2048
LINEAR_1B = LLAMA_1B.parameters - EMBEDDING_1B - 33 * 2048
DRAFT = replace(LLAMA_1B, linear_parameters=LINEAR_1B)


def drafting(
    scheme: str | None = "NF4", *, engine: str = "Transformers", classes: tuple[str, ...] = ("cpu",), **more: Any
) -> Manifest:
    """A pair whose draft is quantized so; `more`: of the quantization."""
    draft = make_role("draft", classes)
    draft["model"]["quantization"] = {**({} if scheme is None else {"scheme": scheme}), **more}
    draft["engine"] = {"type": engine, **({"image": "registry.example/drafts:1"} if engine == "Custom" else {})}
    return make_spec(draft=draft)


def refusal_of(spec: Manifest) -> str:
    with pytest.raises(InvalidSpecError) as caught:
        make_deployment(spec)
    return str(caught.value)


def rejection_of(spec: Manifest) -> str:
    with pytest.raises(RejectedSpecError) as caught:
        needs_of(make_deployment(spec), SETTINGS)
    assert caught.value.reason is Reason.SCHEME_NOT_SUPPORTED
    return str(caught.value)


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("mode", [{}, {"mode": "Online"}])
def test_the_draft_server_quantizes_the_model_as_it_lies(scheme: DraftScheme, mode: Manifest) -> None:
    """No volume for artifacts is asked for, and the artifact is that of the plain model."""
    deployment, plain = make_deployment(drafting(scheme, **mode)), make_deployment()
    assert needs_of(deployment, SETTINGS)[Role.DRAFT].key == needs_of(plain, SETTINGS)[Role.DRAFT].key
    template = pod_template_of(
        Owner(name=NAME, namespace=NAMESPACE, uid=UID), make_inputs(drafting(scheme, **mode), Role.DRAFT)
    )
    arguments = template["spec"]["containers"][0]["args"]
    assert f"--draft-scheme={scheme}" in arguments
    assert LaunchOptions.parse(arguments).draft_scheme is scheme


def test_a_draft_without_a_scheme_keeps_its_revision_and_its_arguments() -> None:
    plain = make_inputs(role=Role.DRAFT)
    assert "draft_scheme" not in plain.as_data()
    assert len({plain.revision, *(make_inputs(drafting(each), Role.DRAFT).revision for each in SCHEMES)}) == 3


@pytest.mark.parametrize("quantization", [{"scheme": None}, {"scheme": "W8A8"}, {"scheme": "W8A8", "mode": "Offline"}])
def test_an_omitted_mode_is_offline_for_every_other_scheme(quantization: Manifest) -> None:
    deployment = make_deployment({**drafting(**quantization), "cache": {"volume": {"claimName": "cache"}}})
    draft = deployment.spec.draft
    assert draft is not None
    assert draft.model.quantization is not None
    assert draft.model.quantization.mode is QuantizationMode.OFFLINE
    frozen = requested_of(deployment, Role.DRAFT)
    assert frozen["model"]["quantization"]["mode"] == "Offline"
    assert is_same_request(frozen, requested_of(deployment, Role.DRAFT))


@pytest.mark.parametrize(
    ("quantization", "said"),
    [
        (
            {"mode": "Offline"},
            "spec.draft.model.quantization.mode: mode must be Online, or left out, when scheme is NF4 or INT8 (mode is "
            "Offline, scheme is NF4)",
        ),
        ({"mode": "Prequantized"}, "mode must be Online, or left out, when scheme is NF4 or INT8 (mode is Prequantiz"),
        ({"algorithm": "RTN"}, "algorithm, calibration, gate, job must be left out unless mode is Offline"),
        ({"algorithm": "GPTQ"}, "algorithm must be RTN, or GPTQ for"),
        ({"gate": {}}, "algorithm, calibration, gate, job must be left out unless mode is Offline"),
        ({"ignore": ["lm_head", "model.layers.0"]}, "ignore and kvCache must be left out when scheme is NF4 or INT8"),
        ({"kvCache": "fp8"}, "ignore and kvCache must be left out when scheme is NF4 or INT8"),
    ],
)
def test_what_bitsandbytes_does_not_do_is_refused_at_once(quantization: Manifest, said: str) -> None:
    assert said in refusal_of(drafting(**quantization))


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize(
    ("engine", "parts"),
    [
        ("VLLM", ("must be one of FP8_DYNAMIC, FP8_BLOCK, W8A8", "engine.type VLLM: vLLM refuses what bitsandbytes")),
        ("Custom", ("with engine.type Custom: a server that is not ours loads the files as they lie",)),
    ],
)
def test_a_draft_of_another_engine_is_told_which_one_takes_it(
    scheme: DraftScheme, engine: str, parts: tuple[str, ...]
) -> None:
    told = rejection_of(drafting(scheme, engine=engine))
    for part in (f"spec.draft.model.quantization.scheme (is {scheme}): ", *parts, "engine.type Transformers takes it"):
        assert part in told


def test_triton_takes_no_form_of_quantized_weights() -> None:
    assert "must be left out with engine.type Triton" in rejection_of(drafting(engine="Triton"))


def test_a_verifier_is_told_that_vllm_refuses_it() -> None:
    verifier = make_role()
    verifier["model"]["quantization"] = {"scheme": "INT8"}
    told = rejection_of(make_spec(verifier=verifier))
    assert "spec.verifier.model.quantization.scheme (is INT8): must be one of FP8_DYNAMIC" in told
    assert "vLLM refuses what bitsandbytes makes; a draft with engine.type Transformers takes it" in told


def test_a_draft_on_transformers_must_name_what_it_makes_online() -> None:
    told = rejection_of(drafting(None, mode="Online"))
    assert "mode (is Online): must be Offline with engine.type Transformers, or the scheme NF4 or INT8" in told


@pytest.mark.parametrize("name", ["cpu", "nvidia-h100-80gb", "nvidia-a100-40gb-mig-1g-5gb", "amd-mi210-64gb"])
def test_it_is_never_chosen_by_itself_where_there_is_a_kernel(name: str) -> None:
    cache = {"cache": {"volume": {"claimName": "cache"}}}
    made = needs_of(make_deployment({**drafting(None, classes=(name,)), **cache}), SETTINGS)[Role.DRAFT].artifact
    assert made.quantization is not None
    for scheme in SCHEMES:
        assert needs_of(make_deployment(drafting(scheme, classes=(name,))), SETTINGS)


@pytest.mark.parametrize("name", ["intel-gaudi3-128gb", "intel-max-1550-128gb", "google-tpu-v6e-32gb"])
def test_hardware_on_which_such_a_draft_does_not_run_is_refused_with_the_reason(name: str) -> None:
    told = rejection_of(drafting(classes=(name,)))
    assert f"(is NF4): {name} cannot serve it: drafts on Transformers run on CPUs and on GPUs of NVIDIA and AMD" in told


def test_a_model_that_is_quantized_already_is_not_quantized_once_more() -> None:
    with pytest.raises(RejectedSpecError, match=r"\(is NF4\): must be left out for this model, which is .* \(awq\)"):
        require_servable(make_deployment(drafting()), Role.DRAFT, replace(DRAFT, quantization="awq"), is_cpu=True)
    require_servable(make_deployment(drafting()), Role.DRAFT, DRAFT, is_cpu=True)


@pytest.mark.parametrize(
    ("scheme", "bytes_per_weight"), [(DraftScheme.NF4, 0.5 + 4 / 64), (DraftScheme.INT8, 1 + 4 / 2048)]
)
def test_linear_layers_are_sized_as_they_are_loaded_and_the_embedding_as_it_lies(
    scheme: DraftScheme, bytes_per_weight: float
) -> None:
    found = weights_bytes_of(DRAFT, "", draft_scheme=scheme)
    assert found == pytest.approx(2 * EMBEDDING_1B + LINEAR_1B * bytes_per_weight, rel=0.001)


@pytest.mark.parametrize("unknown", [{"linear_parameters": 0}, {"parameters": 0}, {"parameters": LINEAR_1B - 1}])
def test_nothing_is_saved_where_it_is_not_known_how_large_the_linear_layers_are(unknown: dict[str, int]) -> None:
    model = replace(DRAFT, **unknown)  # type: ignore[arg-type]
    assert weights_bytes_of(model, "", draft_scheme=DraftScheme.NF4) == LLAMA_1B.weights_bytes


def test_the_arithmetic_of_a_draft_says_in_which_form_its_weights_are() -> None:
    sized = size(DRAFT, make_card(80), request=SizingRequest(draft_scheme=DraftScheme.NF4))
    assert isinstance(sized, Sizing)
    expected = weights_bytes_of(DRAFT, "", draft_scheme=DraftScheme.NF4) / GIB
    assert sized.arithmetic[0] == f"weights: {expected:.2f} GiB as NF4"


def test_a_quantized_draft_is_assessed_in_its_form_and_inside_the_verifier_as_it_lies() -> None:
    table = table_of(make_config())
    models: Mapping[Role, Any] = {Role.VERIFIER: LLAMA_8B, Role.DRAFT: replace(DRAFT, linear_parameters=LINEAR_1B)}

    def token_seconds(scheme: str | None) -> dict[str, float]:
        gpu = ("nvidia-l4-24gb",)
        draft = {**drafting(scheme, classes=gpu)["draft"], **({} if scheme else {"model": make_role()["model"]})}
        spec = make_spec(verifier=make_role(classes=gpu), draft=draft)
        found = assess(make_deployment(spec), models, table=table).speed
        assert isinstance(found, tuple)
        return {made.method: made.draft_token_seconds for made in found}

    plain, small = token_seconds(None), token_seconds("NF4")
    assert small["Remote"] < plain["Remote"]
    assert small["InEngine"] == plain["InEngine"]
