"""What a deployment sees of a quantized model: its measured loss, judged by the deployment's own gate."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from tandem_contracts.quality import LongContext, Quality, TaskResult
from tandem_contracts.termination import ExitCode, Phase
from tandem_contracts.termination import Reason as Cause
from tandem_operator.artifact_facts import artifact_facts_of
from tandem_operator.artifact_steps import Measurement, Step
from tandem_operator.facts import ArtifactFacts, Manifest
from tandem_operator.model_files import ModelFiles
from tandem_operator.names import Reason
from tandem_operator.objects.artifact_jobs import artifact_of
from tests.builders import NAMESPACE
from tests.unit.operator.artifacts import (
    FETCHED,
    GOOD,
    MADE,
    decide,
    make_artifact_body,
    make_job,
    make_last_word,
    make_measured,
    make_refusal,
    make_texts,
    need_of,
)
from tests.unit.operator.models import TINY

Statuses = Mapping[str, Manifest]


def body(scheme: str = "W8A8", **quantization: Any) -> Manifest:
    return make_artifact_body(quantization={"scheme": scheme, **quantization})


def fetched_status() -> Manifest:
    by = [make_artifact_body()]
    job = make_job(FETCHED, Step(Phase.FETCH), "Complete", by=by)
    return decide(FETCHED, job, make_last_word(job, MADE.encode()), by=by).status


def status_of(deployment: Manifest, quality: Quality | None) -> Manifest:
    """Of the deployment's quantized artifact, once it is made, and measured with this outcome."""
    need = need_of(deployment)
    made = replace(MADE, model=replace(TINY, quantization="compressed-tensors"))
    job = make_job(need.artifact, Step(Phase.QUANTIZE), "Complete", by=[deployment])
    status = decide(need.artifact, job, make_last_word(job, made.encode()), by=[deployment]).status
    if quality is None:
        return status
    (texts,) = {
        step.measurement for step in [decide(need.artifact, by=[deployment], status=status).plan.finding.step] if step
    }
    job = make_job(need.artifact, Step(Phase.EVALUATE, texts), "Complete", by=[deployment])
    children = [job, make_last_word(job, make_measured(quality))]
    return decide(need.artifact, *children, by=[deployment], status=status).status


def seen(deployment: Manifest, statuses: Statuses) -> ArtifactFacts:
    """By a deployment, with artifacts of these statuses, which have been through JSON."""
    need = need_of(deployment)
    there = {
        spec.key: {**artifact_of(spec, NAMESPACE), "status": json.loads(json.dumps(statuses[spec.key]))}
        for spec in need.artifacts
        if spec.key in statuses
    }
    return artifact_facts_of(need, there.get)


def judged(deployment: Manifest, quality: Quality | None = GOOD) -> ArtifactFacts:
    statuses = {need_of(deployment).key: status_of(deployment, quality), FETCHED.key: fetched_status()}
    return seen(deployment, statuses)


def files_of(deployment: Manifest) -> ModelFiles:
    return ModelFiles(claim_name="cache", path=need_of(deployment).key)


BAD = replace(GOOD, top1_agreement=0.5)
SOURCE_FILES = ModelFiles(claim_name="cache", path=FETCHED.key)


def test_a_model_that_is_good_enough_is_served_and_says_what_it_cost() -> None:
    deployment = body(gate={})
    found = judged(deployment)
    assert (found.reason, found.files, found.is_stuck) == (Reason.GATE_PASSED, files_of(deployment), False)
    assert found.model is not None
    assert found.model.quantization == "compressed-tensors"
    assert "W8A8 by RTN: perplexity +0.10 % (at most +0.20 %), KL 0.0010, top-1 99.0 %" in found.message


def test_why_it_is_this_scheme_is_told_where_nobody_has_named_it() -> None:
    left_open = make_artifact_body(quantization={})
    assert "W8A8 by RTN (the first that cpu has a kernel for): " in judged(left_open).message
    for waits in (seen(left_open, {}), judged(left_open, None)):
        assert waits.message.endswith("; W8A8 by RTN is the first that cpu has a kernel for")
    online = make_artifact_body(classes=("nvidia-h100-80gb",), quantization={"mode": "Online"})
    told = "; the engine quantizes it to FP8_DYNAMIC, the first that nvidia-h100-80gb has a kernel for"
    for found in (seen(online, {}), seen(online, {FETCHED.key: fetched_status()})):
        assert found.message.endswith(told)
    named = make_artifact_body(classes=("nvidia-h100-80gb",), quantization={"mode": "Online", "scheme": "FP8_BLOCK"})
    assert "kernel" not in seen(named, {FETCHED.key: fetched_status()}).message


@pytest.mark.parametrize(
    ("gate", "reason", "files", "is_stuck"),
    [
        (None, Reason.BELOW_GATE, "quantized", False),
        ({"onFailure": "Warn"}, Reason.BELOW_GATE, "quantized", False),
        ({}, Reason.GATE_FAILED, "", True),
        ({"onFailure": "Fail"}, Reason.GATE_FAILED, "", True),
        ({"onFailure": "ServeUnquantized"}, Reason.SERVES_UNQUANTIZED, "source", False),
    ],
)
def test_what_becomes_of_a_model_that_is_not_good_enough_is_the_gates_to_say(
    gate: Manifest | None, reason: Reason, files: str, is_stuck: bool
) -> None:
    deployment = body() if gate is None else body(gate=gate)
    found = judged(deployment, BAD)
    allowed = {"quantized": files_of(deployment), "source": SOURCE_FILES, "": None}[files]
    assert (found.reason, found.files, found.is_stuck) == (reason, allowed, is_stuck)
    assert (found.model is None) is (files == "")
    assert "the most likely token is the same in 50.0 % (needed: 97 %)" in found.message


@pytest.mark.parametrize(
    ("scheme", "changes", "passes"),
    [
        ("W8A8", {}, True),
        ("W8A8", {"increase_percent_upper": 1.0}, True),
        ("W8A8", {"increase_percent_upper": 1.01}, False),
        ("W4A16", {"increase_percent_upper": 3.0}, True),
        ("W4A16", {"increase_percent_upper": 3.01}, False),
        ("W8A8", {"kl_divergence": 0.011}, False),
        ("W4A16", {"kl_divergence": 0.05}, True),
        ("W4A16", {"kl_divergence": 0.051}, False),
        ("W8A8", {"top1_agreement": 0.9699}, False),
        ("W4A16", {"top1_agreement": 0.92}, True),
        ("W4A16", {"top1_agreement": 0.9199}, False),
        ("W8A8", {"increase_percent": -3.0, "increase_percent_upper": -2.0}, True),
    ],
)
def test_bounds_that_are_left_out_follow_from_the_bits_of_a_weight(
    scheme: str, changes: dict[str, float], passes: bool
) -> None:
    found = judged(body(scheme, gate={}), replace(GOOD, **changes))
    assert found.reason is (Reason.GATE_PASSED if passes else Reason.GATE_FAILED)


@pytest.mark.parametrize(
    ("gate", "passes"),
    [
        ({"maxPerplexityIncreasePercent": "0.2"}, True),
        ({"maxPerplexityIncreasePercent": "0.19"}, False),
        ({"maxKLDivergence": "0.001"}, True),
        ({"maxKLDivergence": "0"}, False),
        ({"minTop1Agreement": "0.99"}, True),
        ({"minTop1Agreement": "1"}, False),
    ],
)
def test_a_changed_threshold_judges_what_was_measured_again(gate: Manifest, passes: bool) -> None:
    statuses = {need_of(body(gate={})).key: status_of(body(gate={}), GOOD)}
    assert seen(body(gate={}), statuses).reason is Reason.GATE_PASSED
    assert seen(body(gate=gate), statuses).reason is (Reason.GATE_PASSED if passes else Reason.GATE_FAILED)


def test_deployments_that_share_an_artifact_are_told_by_their_own_gates() -> None:
    statuses = {need_of(body()).key: status_of(body(), BAD)}
    lax, strict = body(gate={"minTop1Agreement": "0.4"}), body(gate={})
    assert need_of(lax).key == need_of(strict).key
    assert seen(lax, statuses).reason is Reason.GATE_PASSED
    assert seen(strict, statuses).reason is Reason.GATE_FAILED


def test_nothing_is_served_before_it_was_measured_on_the_texts_of_the_gate() -> None:
    deployment = body(gate={"evaluation": make_texts("mine")})
    unmeasured = judged(deployment, None)
    assert (unmeasured.reason, unmeasured.files, unmeasured.model) == (Reason.EVALUATING, None, None)
    assert "measures what quantizing has cost" in unmeasured.message
    elsewhere = seen(deployment, {need_of(deployment).key: status_of(body(), GOOD)})
    assert (elsewhere.reason, elsewhere.files) == (Reason.EVALUATING, None)
    assert judged(deployment).reason is Reason.GATE_PASSED


def test_an_evaluation_that_failed_is_told_with_its_cause() -> None:
    deployment = body(gate={"evaluation": make_texts("mine")})
    need, status = need_of(deployment), status_of(deployment, None)
    step = decide(need.artifact, by=[deployment], status=status).plan.finding.step
    assert step is not None
    job = make_job(need.artifact, step, "Failed", by=[deployment])
    refusal = make_refusal(ExitCode.TEXTS_INVALID, Phase.EVALUATE, Cause.TEXTS_INVALID, "line 3 is no JSON")
    word = make_last_word(job, refusal, exit_code=int(ExitCode.TEXTS_INVALID))
    failed = decide(need.artifact, job, word, by=[deployment], status=status).status
    found = seen(deployment, {need.key: failed})
    assert (found.reason, found.is_stuck, found.files) == (Cause.TEXTS_INVALID, True, None)
    assert "line 3 is no JSON" in found.message


@pytest.mark.parametrize("step", [Phase.FETCH, Phase.QUANTIZE])
def test_a_step_that_failed_is_told_with_its_cause(step: Phase) -> None:
    deployment = make_artifact_body() if step is Phase.FETCH else body()
    need = need_of(deployment)
    job = make_job(need.artifact, Step(step), "Failed", by=[deployment])
    word = make_last_word(job, make_refusal(ExitCode.VOLUME_FULL, step, Cause.VOLUME_FULL), exit_code=20)
    status = decide(need.artifact, job, word, by=[deployment]).status
    found = seen(deployment, {need.key: status})
    assert (found.reason, found.is_stuck) == (Cause.VOLUME_FULL, True)


def test_the_source_is_served_only_once_it_is_there() -> None:
    deployment = body(gate={"onFailure": "ServeUnquantized"})
    found = seen(deployment, {need_of(deployment).key: status_of(deployment, BAD)})
    assert (found.reason, found.files, found.model) == (Reason.FETCHING, None, None)
    assert f"Job {FETCHED.key}-fetch fetches team/model at main; the source is to be served: W8A8" in found.message
    evicting = decide(FETCHED, status={**fetched_status(), "unusedSince": "2020-01-01T00:00:00Z"}).status
    gone = seen(deployment, {need_of(deployment).key: status_of(deployment, BAD), FETCHED.key: evicting})
    assert (gone.reason, gone.files) == (Reason.EVICTING, None)
    job = make_job(FETCHED, Step(Phase.FETCH), "Failed", by=[deployment])
    word = make_last_word(job, make_refusal(ExitCode.SOURCE_DENIED, Phase.FETCH, Cause.SOURCE_DENIED), exit_code=10)
    denied = decide(FETCHED, job, word, by=[deployment]).status
    stuck = seen(deployment, {need_of(deployment).key: status_of(deployment, BAD), FETCHED.key: denied})
    assert (stuck.reason, stuck.is_stuck) == (Cause.SOURCE_DENIED, True)


def test_files_that_are_on_their_way_out_are_not_counted_on() -> None:
    deployment = body()
    ready = status_of(deployment, GOOD)
    evicting = decide(need_of(deployment).artifact, status={**ready, "unusedSince": "2020-01-01T00:00:00Z"}).status
    found = seen(deployment, {need_of(deployment).key: evicting})
    assert (found.reason, found.files, found.model) == (Reason.EVICTING, None, None)


@pytest.mark.parametrize("spoilt", [{"losses": [{"texts": "built-in"}]}, {"losses": []}, {"files": {}}, {"model": {}}])
def test_what_cannot_be_read_in_a_status_is_not_served(spoilt: Manifest) -> None:
    found = seen(body(), {need_of(body()).key: {**status_of(body(), GOOD), **spoilt}})
    assert (found.files, found.model) == (None, None)


TASK = TaskResult(name="gsm8k", metric="exact_match", source=0.5, quantized=0.48, recovery_percent=96.0)
RECALL = LongContext(tokens=8192, wanted_tokens=16384, recall_source=0.8, recall=0.6)


def tasks(least: str = "97") -> Manifest:
    return {"configMapName": "tasks", "tasks": [{"name": "gsm8k", "limit": 250, "minRecoveryPercent": least}]}


@pytest.mark.parametrize(
    ("quantization", "quality", "reason", "said"),
    [
        ({"gate": {"tasks": tasks("96")}}, replace(GOOD, tasks=(TASK,)), Reason.GATE_PASSED, "W8A8"),
        ({"gate": {"tasks": tasks()}}, replace(GOOD, tasks=(TASK,)), Reason.GATE_FAILED,
         "task gsm8k: exact_match is 0.48, 96.0 % of the source's 0.5 (needed: 97 %)"),
        ({"gate": {"tasks": tasks()}}, GOOD, Reason.GATE_FAILED, "task gsm8k was not measured"),
        ({"gate": {"longContext": {"minRecall": "0.7"}}}, replace(GOOD, long_context=RECALL), Reason.GATE_PASSED, ""),
        ({"gate": {}, "kvCache": "fp8"}, replace(GOOD, long_context=RECALL), Reason.GATE_FAILED,
         "60 % is recalled from 8192 tokens, by the source 80 % (needed: 90 % of that)"),
        ({"gate": {}, "kvCache": "fp8"}, GOOD, Reason.GATE_FAILED, "recall from a long context was not measured"),
        ({"gate": {"longContext": {"minRecall": "0"}}, "kvCache": "fp8"}, GOOD, Reason.GATE_PASSED, ""),
        ({"kvCache": "fp8"}, replace(GOOD, long_context=RECALL), Reason.BELOW_GATE, "60 % is recalled"),
    ],
)  # fmt: skip
def test_tasks_and_recall_are_judged_beside_the_source(
    quantization: Manifest, quality: Quality, reason: Reason, said: str
) -> None:
    found = judged(body(**quantization), quality)
    assert found.reason is reason
    assert said in found.message


def test_a_job_that_evaluates_has_the_tasks_mounted_and_is_told_of_the_context() -> None:
    by = [body(gate={"tasks": tasks()}, kvCache="fp8")]
    need = need_of(by[0])
    job = make_job(need.artifact, Step(Phase.EVALUATE, Measurement.of_need(need.gate, need.artifact)), by=by)
    spec = job["spec"]["template"]["spec"]
    assert {"name": "tasks", "configMap": {"name": "tasks"}} in spec["volumes"]
    arguments = spec["containers"][0]["args"]
    assert '--tasks=[{"name": "gsm8k", "limit": 250}]' in arguments
    assert "--tasks-folder=/tasks" in arguments
    assert "--long-context=16384" in arguments


def test_what_is_measured_names_its_loss_so_that_another_measurement_is_another_job() -> None:
    def name(**quantization: Any) -> str:
        need = need_of(body(**quantization))
        return str(Measurement.of_need(need.gate, need.artifact))

    assert name() == name(gate={"minTop1Agreement": "0.5"}) == "built-in"
    assert name(gate={"tasks": tasks()}) == name(gate={"tasks": tasks("50")}) == "built-in; tasks tasks/gsm8k:250"
    assert name(gate={"longContext": {"tokens": 1024}}) == "built-in; context 1024"
    assert name(kvCache="fp8") == "built-in; context 16384"
