"""An omitted count is sized, waits for its model or is refused; pairs are checked; what is predicted is said."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from tandem_contracts.launch import Role
from tandem_contracts.model_facts import ModelFacts
from tandem_operator.accelerators import table_of
from tandem_operator.api.deployment import Owner
from tandem_operator.api.status import SIZING_LENGTH, SIZING_SENTENCES
from tandem_operator.assessment import Assessment, assess
from tandem_operator.facts import Facts, Manifest
from tandem_operator.names import Reason
from tandem_operator.observation import Observation
from tandem_operator.plan import plan
from tandem_operator.rollout import Clock, Wait
from tandem_operator.sizing import Sizing, Unfit
from tandem_operator.status import status_of
from tandem_operator.targets import Intent, intent_of
from tests.builders import (
    NAME,
    NAMESPACE,
    UID,
    make_body,
    make_config,
    make_deployment,
    make_pod,
    make_role,
    make_spec,
    make_workload,
)
from tests.unit.operator.models import LLAMA_1B, LLAMA_8B, LLAMA_70B, QWEN_32B, TINY

NOW = datetime(2030, 5, 1, 12, 0, 0, tzinfo=UTC)
H100, L40S, L4 = ("nvidia-h100-80gb",), ("nvidia-l40s-48gb",), ("nvidia-l4-24gb",)
PAIR = {Role.VERIFIER: LLAMA_70B, Role.DRAFT: LLAMA_1B}


def make_pair_spec(count: int | None = None, **parts: Any) -> Manifest:
    """Verifiers on H100, drafts on L40S; counts left to sizing unless one is given."""
    pair = {"verifier": make_role(classes=H100, count=count), "draft": make_role("draft", L40S, count=count)}
    return make_spec(**{**pair, **parts})


def intent(spec: Manifest, models: Mapping[Role, ModelFacts], facts: Facts | None = None, **settings: Any) -> Intent:
    config = make_config(**settings)
    known = replace(facts or Facts(), models=models)
    return intent_of(make_body(spec), known, config=config, table=table_of(config))


def status(spec: Manifest, models: Mapping[Role, ModelFacts], facts: Facts | None = None) -> Manifest:
    meant = intent(spec, models, facts)
    seen = facts or Facts()
    planned = plan(
        Owner(name=NAME, namespace=NAMESPACE, uid=UID),
        seen,
        meant.wants,
        clock=Clock(NOW),
        asked_replicas=meant.asked_replicas,
        waits=meant.waits,
    )
    observation = Observation(
        name=NAME, generation=1, facts=seen, plan=planned, problem=meant.problem, assessment=meant.assessment
    )
    return status_of(observation, previous={}, now=NOW)


def condition(said: Manifest, kind: str) -> Manifest:
    return next((c for c in said["conditions"] if c["type"] == kind), {})


def test_an_omitted_count_is_what_sizing_says() -> None:
    wants = intent(make_pair_spec(), PAIR).wants
    assert wants[Role.VERIFIER].target.resolved["count"] == 4
    assert wants[Role.DRAFT].target.resolved["count"] == 1
    limits = wants[Role.VERIFIER].target.template["spec"]["containers"][0]["resources"]["limits"]
    assert limits["nvidia.com/gpu"] == "4"


def test_a_count_that_is_given_needs_no_inspection() -> None:
    meant = intent(make_pair_spec(count=2), {})
    assert (meant.waits, meant.problem) == ((), None)
    assert meant.wants.keys() == {Role.VERIFIER, Role.DRAFT}


def test_a_sized_count_is_frozen_and_asked_for_by_the_same_request() -> None:
    first = intent(make_pair_spec(), PAIR).wants[Role.VERIFIER].target
    kept = Facts(revisions=(first,))
    for models in (PAIR, {}, {**PAIR, Role.VERIFIER: replace(LLAMA_70B, weights_bytes=10**9)}):
        wants = intent(make_pair_spec(), models, kept).wants
        assert wants[Role.VERIFIER].target is first, "what runs is not sized anew"


def test_a_role_whose_model_is_not_inspected_waits_and_the_other_one_goes_on() -> None:
    meant = intent(make_pair_spec(), {Role.DRAFT: LLAMA_1B})
    assert meant.wants.keys() == {Role.DRAFT}
    (wait,) = meant.waits
    assert isinstance(wait, Wait)
    assert (wait.condition, wait.reason) == ("VerifierReady", Reason.MODEL_NOT_INSPECTED)
    assert wait.message.startswith("spec.verifier.accelerator.count is omitted: it follows from the model")


def test_waiting_for_an_inspection_is_told_by_the_roles_condition_and_the_spec_is_accepted() -> None:
    said = status(make_pair_spec(), {})
    assert condition(said, "Accepted")["status"] == "True"
    for kind in ("VerifierReady", "DraftReady"):
        assert (condition(said, kind)["status"], condition(said, kind)["reason"]) == ("False", "ModelNotInspected")
    assert condition(said, "Ready")["reason"] == "ModelNotInspected"
    assert condition(said, "Reconciling")["status"] == "True"
    assert condition(said, "Stalled") == {}


def test_a_draft_that_waits_with_its_verifier_is_not_called_unused() -> None:
    said = status(make_pair_spec(), {Role.DRAFT: LLAMA_1B})
    told = condition(said, "DraftReady")
    assert (told["status"], told["reason"]) == ("False", "ModelNotInspected")
    assert told["message"] == "draft pods start with the verifier's, which wait"


def test_an_uninspected_model_leaves_what_runs_running() -> None:
    serving = intent(make_pair_spec(), PAIR).wants[Role.VERIFIER].target
    other = make_pair_spec(verifier=make_role("another", classes=H100, count=None))
    meant = intent(other, {Role.DRAFT: LLAMA_1B}, Facts(revisions=(serving,)))
    assert Role.VERIFIER not in meant.wants
    assert meant.problem is None


def test_a_model_that_no_count_holds_is_refused_with_path_numbers_and_what_would_fit() -> None:
    spec = make_pair_spec(verifier=make_role(classes=L4, count=None))
    problem = intent(spec, PAIR).problem
    assert problem is not None
    assert problem.reason is Reason.MODEL_DOES_NOT_FIT
    assert problem.message.startswith("spec.verifier.accelerator.count (is omitted): no count will do: 8 × nvidia-l4")
    assert problem.message.endswith("would fit: a class with 29 GiB for 8 of them")


@pytest.mark.parametrize(
    ("engine", "part"),
    [
        ({"maxModelLength": 8192}, "cache wanted: 16 sequences × 8192 tokens = 40.0 GiB"),
        ({"kvCacheDtype": "fp8"}, "× 1 bytes (fp8) = 160 KiB"),
        ({"paging": {"memoryUtilizationPercent": 50}}, "× 0.50 × 0.95"),
        ({"maxModelLength": 8192, "scheduler": {"maxSequences": 4}}, "cache wanted: 4 sequences × 8192 tokens"),
        ({}, "× 0.92 × 0.95"),
    ],
)
def test_what_the_engine_is_told_is_what_is_sized(engine: Manifest, part: str) -> None:
    role = {**make_role(classes=H100, count=None), "engine": engine}
    sentences = intent(make_pair_spec(verifier=role), PAIR).assessment.sentences_of(Role.VERIFIER)
    assert any(part in sentence for sentence in sentences), sentences


@pytest.mark.parametrize(
    ("method", "engine", "part"),
    [
        ("compressed-tensors", {}, "× 1 bytes (fp8) = 160 KiB"),
        ("compressed-tensors", {"kvCacheDtype": "auto"}, "× 1 bytes (fp8) = 160 KiB"),
        ("compressed-tensors", {"kvCacheDtype": "bfloat16"}, "× 2 bytes (bfloat16) = 320 KiB"),
        ("", {}, "× 2 bytes (bfloat16) = 320 KiB"),
    ],
    ids=["by the files", "by the files, said so", "as the engine is told", "the source is served"],
)
def test_a_cache_that_the_files_have_scales_for_takes_a_byte_a_value(method: str, engine: Manifest, part: str) -> None:
    role = {**make_role(classes=H100, count=None), "engine": engine}
    role["model"] = {**role["model"], "quantization": {"scheme": "FP8_DYNAMIC", "kvCache": "fp8"}}
    spec = {**make_pair_spec(verifier=role), "cache": {"volume": {"claimName": "cache"}}}
    models = {**PAIR, Role.VERIFIER: replace(PAIR[Role.VERIFIER], quantization=method)}
    told = assess(make_deployment(spec), models, table=table_of(make_config())).sentences_of(Role.VERIFIER)
    assert any(part in sentence for sentence in told), told


def test_a_count_that_the_model_cannot_be_split_over_is_refused_with_those_that_it_can() -> None:
    three = make_pair_spec(verifier=make_role(classes=H100, count=3))
    problem = intent(three, PAIR).problem
    assert problem is not None
    assert problem.reason is Reason.MODEL_DOES_NOT_FIT
    assert problem.message == (
        "spec.verifier.accelerator.count (is 3): 64 attention heads are not divisible by 3; this model can be split "
        "over 1, 2, 4, 8, 16"
    )
    assert intent(three, {}).problem is None, "nobody knows yet"
    shares = make_pair_spec(verifier=make_role(classes=("cpu",), count=3))
    assert intent(shares, {Role.VERIFIER: TINY}).problem is None, "shares of CPU split nothing"


@pytest.mark.parametrize(
    ("verifier", "told"),
    [
        (
            {**make_role(classes=("cpu",), count=6), "tensorParallel": 3},
            "spec.verifier.tensorParallel (is 3): 64 attention heads",
        ),
        (
            {**make_role(classes=H100, count=None), "tensorParallel": 3},
            "spec.verifier.tensorParallel (is 3): 64 attention heads",
        ),
        (
            {**make_role(classes=H100, count=4), "engine": {"maxModelLength": 200_000}},
            "spec.verifier.engine.maxModelLength (is 200000): must be at most 131072, what the model was made for",
        ),
    ],
)
def test_what_no_engine_can_do_is_refused_with_the_field_that_was_written(verifier: Manifest, told: str) -> None:
    problem = intent(make_pair_spec(verifier=verifier), PAIR).problem
    assert problem is not None
    assert told in problem.message


def test_what_no_engine_can_do_is_refused_although_the_model_became_known_after_the_first_pass() -> None:
    three = make_pair_spec(verifier=make_role(classes=H100, count=3))
    frozen = intent(three, {}).wants[Role.VERIFIER].target
    problem = intent(three, PAIR, Facts(revisions=(frozen,))).problem
    assert problem is not None
    assert problem.message.startswith("spec.verifier.accelerator.count (is 3): 64 attention heads")


def test_a_given_count_that_does_not_fit_by_estimate_is_tried_and_the_doubt_is_told_when_its_pods_fail() -> None:
    one = make_pair_spec(verifier=make_role(classes=H100, count=1))
    frozen = intent(one, {}).wants[Role.VERIFIER].target
    starting = make_pod(Role.VERIFIER, frozen.revision, is_ready=False)
    facts = Facts(
        revisions=(frozen,),
        workloads=(make_workload(Role.VERIFIER, frozen.revision, ready=0),),
        pods=(starting,),
    )
    assert intent(one, PAIR, facts).problem is None
    doubt = "; by estimate it does not fit: 1 × nvidia-h100-80gb"
    assert doubt not in condition(status(one, PAIR, facts), "VerifierReady")["message"]
    failing = replace(facts, pods=(replace(starting, trouble="engine: OutOfMemory"),))
    told = condition(status(one, PAIR, failing), "VerifierReady")
    assert told["reason"] == "PodsFailing"
    assert doubt in told["message"]
    elsewhere = replace(facts, pods=(replace(starting, trouble="FailedMount: secret no-such-secret not found"),))
    assert doubt not in condition(status(one, PAIR, elsewhere), "VerifierReady")["message"]


def test_a_draft_of_another_tokenizer_is_refused_with_both_values() -> None:
    problem = intent(make_pair_spec(), {**PAIR, Role.VERIFIER: QWEN_32B}).problem
    assert problem is not None
    assert problem.reason is Reason.PAIR_DOES_NOT_FIT
    assert problem.message.startswith("spec.draft.model: the models have different tokenizers")
    for part in ("vocabulary 151936", "vocabulary 128256", "bbbbbbbbbbbb", "aaaaaaaaaaaa"):
        assert part in problem.message


def test_a_draft_that_is_not_used_or_cannot_be_compared_is_not_refused() -> None:
    other = {**PAIR, Role.VERIFIER: QWEN_32B}
    assert intent(make_pair_spec(speculation={"method": "Off"}), other).problem is None
    assert intent(make_pair_spec(), {**PAIR, Role.DRAFT: replace(LLAMA_1B, tokenizer_hash="")}).problem is None


def test_a_misfit_leaves_what_runs_running() -> None:
    serving = intent(make_pair_spec(), PAIR).wants
    facts = Facts(revisions=tuple(want.target for want in serving.values()))
    said = status(make_pair_spec(), {**PAIR, Role.VERIFIER: QWEN_32B}, facts)
    assert (condition(said, "Stalled")["status"], condition(said, "Stalled")["reason"]) == ("True", "PairDoesNotFit")
    assert intent(make_pair_spec(), {**PAIR, Role.VERIFIER: QWEN_32B}, facts).wants == {}


def effective(spec: Manifest, models: Mapping[Role, ModelFacts]) -> Manifest:
    return condition(status(spec, models), "SpeculationEffective")


def test_a_pair_that_should_pay_is_unknown_until_it_is_measured() -> None:
    said = effective(make_pair_spec(), PAIR)
    assert (said["status"], said["reason"]) == ("Unknown", "NotMeasured")
    assert "predicted for Remote: speed-up 1." in said["message"]
    assert "assumed: acceptance 0.70, round trip 1.0 ms" in said["message"]


def test_a_pair_that_should_not_pay_says_so() -> None:
    slow = make_pair_spec(draft=make_role("draft", classes=L4, count=1))
    said = effective(slow, {**PAIR, Role.VERIFIER: LLAMA_8B})
    assert (said["status"], said["reason"]) == ("Unknown", "PredictedSlower")
    assert ", below 1.1" in said["message"]


@pytest.mark.parametrize("models", [{}, {Role.DRAFT: LLAMA_1B}, {Role.VERIFIER: LLAMA_70B}])
def test_without_the_facts_nothing_is_predicted(models: Mapping[Role, ModelFacts]) -> None:
    said = effective(make_pair_spec(count=2), models)
    assert (said["status"], said["reason"]) == ("Unknown", "NotMeasured")
    assert "not predicted" in said["message"]
    assert "has not been inspected" in said["message"]


def test_warnings_of_the_pair_stand_beside_the_prediction() -> None:
    said = effective(make_pair_spec(), {**PAIR, Role.DRAFT: replace(LLAMA_1B, max_positions=8192)})
    assert "the draft was made for 8192 tokens" in said["message"]


@pytest.mark.parametrize("method", ["Remote", "NGram"])
def test_a_default_that_the_engine_refuses_while_it_speculates_is_refused(method: str) -> None:
    models = {**PAIR, Role.VERIFIER: replace(LLAMA_70B, generation_min_p=0.05)}
    spec = make_pair_spec(speculation={"method": method})
    problem = intent(spec, models).problem
    assert problem is not None
    assert problem.message.startswith(f"spec.speculation.method (is {method}): must be Off for this model")
    assert "min_p 0.05" in problem.message
    assert condition(status(spec, models), "Accepted")["status"] == "False"
    spec["verifier"] = {**spec["verifier"], "engine": {"type": "VLLM", "args": {"generation-config": "vllm"}}}
    assert intent(spec, models).problem is None
    assert intent(make_pair_spec(speculation={"method": "Off"}), models).problem is None


def test_without_speculation_there_is_nothing_to_say_of_its_effect() -> None:
    assert effective(make_pair_spec(speculation={"method": "Off"}), PAIR) == {}


def test_an_unknown_effect_is_no_reason_not_to_be_ready() -> None:
    said = status(make_pair_spec(), PAIR)
    assert condition(said, "Ready")["reason"] not in {"NotMeasured", "PredictedSlower"}


def test_the_arithmetic_is_in_the_status_within_its_limits() -> None:
    said = status(make_pair_spec(), PAIR)
    sentences = said["verifier"]["sizing"]
    assert sentences[0].startswith("weights: 131.4 GiB")
    assert sentences[-2].startswith("4 × nvidia-h100-80gb: ")
    assert "≤" in sentences[-2]
    assert len(sentences) <= SIZING_SENTENCES
    assert all(len(sentence) <= SIZING_LENGTH for sentence in sentences)
    assert "sizing" not in status(make_pair_spec(count=2), {})["verifier"]


def test_a_given_count_that_should_not_fit_is_kept_and_told() -> None:
    spec = make_pair_spec(verifier=make_role(classes=H100, count=1))
    assert intent(spec, PAIR).wants[Role.VERIFIER].target.resolved["count"] == 1
    assert "too little; would fit: a count of 4" in status(spec, PAIR)["verifier"]["sizing"][-1]


def test_an_assessment_leaves_out_what_is_not_known() -> None:
    deployment = make_deployment(make_pair_spec())
    nothing = assess(deployment, {}, table={})
    assert (nothing.sizings, nothing.pair, nothing.prediction) == ({}, None, None)
    assert assess(deployment, PAIR, table={}).sizings == {}, "classes that the table does not have"
    assert Assessment().sentences_of(Role.VERIFIER) == ()
    table = table_of(make_config())
    assert isinstance(assess(deployment, PAIR, table=table).sizings[Role.VERIFIER], Sizing)
    small = make_deployment(make_pair_spec(verifier=make_role(classes=L4, count=None)))
    unfit = assess(small, PAIR, table=table)
    assert isinstance(unfit.sizings[Role.VERIFIER], Unfit)
    assert unfit.sentences_of(Role.VERIFIER)[-1] == unfit.sizings[Role.VERIFIER].reason


def make_in_engine_spec(kind: str = "DraftModel", count: int | None = None) -> Manifest:
    """Verifiers on H100 that draft for themselves."""
    source = {"persistentVolumeClaim": {"claimName": "models", "path": "draft"}}
    inside: Manifest = {"kind": kind, "model": {"source": source}}
    return make_spec(
        verifier=make_role(classes=H100, count=count),
        draft=None,
        speculation={"method": "InEngine", "maxDepth": 4, "inEngine": inside},
    )


def test_a_draft_model_inside_the_engine_takes_memory_of_the_verifier() -> None:
    beside = intent(make_in_engine_spec(), {**PAIR, Role.DRAFT: replace(LLAMA_8B, vocabulary_size=128256)})
    sentences = beside.assessment.sentences_of(Role.VERIFIER)
    assert sentences[0] == "weights: 131.4 GiB of safetensors + 15.0 of the drafting model = 146.4 GiB"
    assert sentences[1].endswith("= 320 KiB, with the drafting model's 448 KiB")
    assert "cache wanted: 16 sequences × 8192 tokens = 56.0 GiB" in sentences
    assert beside.wants[Role.VERIFIER].target.resolved["count"] == 4
    alone = intent(make_pair_spec(), PAIR).assessment.sizings[Role.VERIFIER]
    both = beside.assessment.sizings[Role.VERIFIER]
    assert isinstance(alone, Sizing)
    assert isinstance(both, Sizing)
    assert both.kv_tokens < alone.kv_tokens


def test_an_omitted_count_waits_for_the_drafting_model_too_but_not_for_a_head() -> None:
    (wait,) = intent(make_in_engine_spec(), {Role.VERIFIER: LLAMA_70B}).waits
    assert "it follows from the model of spec.speculation.inEngine" in wait.message
    assert intent(make_in_engine_spec("EAGLE3"), {Role.VERIFIER: LLAMA_70B}).waits == ()


def test_the_engine_refuses_a_draft_model_with_other_rows_inside_it_and_so_do_we() -> None:
    padded = {**PAIR, Role.DRAFT: replace(LLAMA_1B, vocabulary_size=128320)}
    problem = intent(make_in_engine_spec(), padded).problem
    assert problem is not None
    assert problem.reason is Reason.PAIR_DOES_NOT_FIT
    assert problem.message.startswith("spec.speculation.inEngine.model: the engine refuses a draft model with another")
    assert intent(make_pair_spec(), padded).problem is None, "a remote draft's padding does not matter"
    assert intent(make_in_engine_spec("EAGLE3"), padded).problem is None, "a head has rows of its own"
    other = {**PAIR, Role.DRAFT: replace(LLAMA_1B, tokenizer_hash="f" * 64)}
    assert "different tokenizers" in str(intent(make_in_engine_spec(), other).problem)


def test_drafts_inside_the_engine_are_predicted_on_the_verifiers_accelerators() -> None:
    assessment = intent(make_in_engine_spec(), PAIR).assessment
    assert isinstance(assessment.speed, tuple)
    assert [made.method for made in assessment.speed] == ["Off", "InEngine"]
    said = effective(make_in_engine_spec(), PAIR)
    assert "predicted for InEngine: speed-up 2." in said["message"]
    assert "not predicted" in effective(make_in_engine_spec("EAGLE3"), PAIR)["message"]
