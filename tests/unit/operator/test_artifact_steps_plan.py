"""The steps of artifacts that are fetched or quantized, decided: what each Job's end leads to, and what is said."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from tandem_contracts.termination import ExitCode, Phase
from tandem_contracts.termination import Reason as Cause
from tandem_operator import names
from tandem_operator.api.artifact import SUMMARY_LIMIT
from tandem_operator.api.quantization import ConfigMapKeyRef
from tandem_operator.artifact_needs import Settings
from tandem_operator.artifact_steps import Measurement, Step
from tandem_operator.facts import ArtifactFacts, Manifest
from tandem_operator.names import Reason
from tests.builders import make_child, make_config
from tests.unit.operator.artifacts import (
    FETCHED,
    MADE,
    NOW,
    QUANTIZED,
    decide,
    make_artifact_body,
    make_job,
    make_last_word,
    make_measured,
    make_refusal,
    make_texts,
    need_of,
)

FETCH, QUANTIZE, EVALUATE, EVICT = (Step(phase) for phase in (Phase.FETCH, Phase.QUANTIZE, Phase.EVALUATE, Phase.EVICT))
PLAIN = (make_artifact_body(),)
LOSSY = (make_artifact_body(quantization={"scheme": "W8A8"}),)
UNSCHEDULABLE = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "no claim"}
HOUR, MINUTE = timedelta(hours=1), timedelta(minutes=1)


def with_texts(name: str, *texts: str) -> tuple[Manifest, ...]:
    """Deployments of the quantized model, each with texts of its own to measure with."""
    return tuple(
        make_artifact_body(
            f"{name}{number}", quantization={"scheme": "W8A8", "gate": {"evaluation": make_texts(each)} if each else {}}
        )
        for number, each in enumerate(texts)
    )


def of(texts: str) -> Step:
    return Step(Phase.EVALUATE, Measurement(ConfigMapKeyRef(name=texts, key="texts.jsonl")))


def fetched(course: str = "Complete", message: str = "", exit_code: int = 0, **word: Any) -> tuple[Manifest, Manifest]:
    job = make_job(FETCHED, FETCH, course, by=PLAIN, ended=word.pop("ended", NOW))
    return job, make_last_word(job, message, exit_code=exit_code, **word)


def failed(step: Step, code: ExitCode, reason: Cause, *, ended: timedelta = timedelta()) -> tuple[Manifest, Manifest]:
    spec, by = (FETCHED, PLAIN) if step == FETCH else (QUANTIZED, LOSSY)
    job = make_job(spec, step, "Failed", by=by, ended=NOW - ended)
    return job, make_last_word(job, make_refusal(code, step.phase, reason), exit_code=int(code))


def status_of(*steps: Step, by: tuple[Manifest, ...] = LOSSY, known: Manifest | None = None) -> Manifest:
    """The status of the quantized artifact once these Jobs have said their last words."""
    children = []
    for number, step in enumerate(steps):
        job = make_job(QUANTIZED, step, "Complete", by=by, uid=f"k{number}")
        children += [job, make_last_word(job, MADE.encode() if step == QUANTIZE else make_measured())]
    return decide(QUANTIZED, *children, by=by, status=known or {}).status


def stalled(reason: str) -> dict[str, tuple[str, str]]:
    return {"Ready": ("False", reason), "Stalled": ("True", reason)}


def working(reason: str) -> dict[str, tuple[str, str]]:
    return {"Ready": ("False", reason), "Reconciling": ("True", reason)}


# -- fetch -------------------------------------------------------------------------------------------------------------


def test_a_model_of_a_hub_is_fetched_by_a_job_and_published() -> None:
    first = decide(FETCHED, by=PLAIN)
    assert first.does == "make"
    assert first.conditions == working("Fetching")
    assert first.message == f"Job {FETCHED.key}-fetch fetches team/model at main"
    told = decide(FETCHED, *fetched(message=MADE.encode()), by=PLAIN)
    assert told.conditions == {"Ready": ("True", "Published")}
    assert told.does == ""
    assert told.status["files"]["path"] == FETCHED.key
    assert told.status["files"]["revision"] == "c" * 40
    assert told.status["model"]["layers"] == 8


def test_what_was_published_is_known_without_job_and_pod() -> None:
    first = decide(FETCHED, *fetched(message=MADE.encode()), by=PLAIN)
    assert decide(FETCHED, by=PLAIN, status=first.status, now=NOW + 9 * HOUR).status == first.status


def test_a_status_that_was_wiped_is_read_from_the_pod_and_without_it_the_job_is_made_again() -> None:
    first = decide(FETCHED, *fetched(message=MADE.encode()), by=PLAIN)
    for spoilt in ({}, {**first.status, "files": None}, {**first.status, "model": {"layers": 0}}):
        again = decide(FETCHED, *fetched(message=MADE.encode()), by=PLAIN, status=spoilt)
        assert again.status["files"] == first.status["files"]
        assert again.status["model"] == first.status["model"]
        assert decide(FETCHED, by=PLAIN, status=spoilt).does == "make"


def test_a_job_whose_pod_was_deleted_before_it_was_read_is_made_again_two_minutes_later() -> None:
    job = fetched(ended=NOW - 119 * timedelta(seconds=1))[0]
    waits = decide(FETCHED, job, by=PLAIN)
    assert (waits.does, waits.plan.due_seconds) == ("", 1)
    gone = decide(FETCHED, job, by=PLAIN, now=NOW + timedelta(seconds=1))
    assert gone.does == "delete"
    assert "its pod was deleted before it was read" in gone.message


@pytest.mark.parametrize(
    ("step", "code", "reason", "seconds"),
    [
        (FETCH, ExitCode.SOURCE_DENIED, Cause.SOURCE_DENIED, 3600),
        (FETCH, ExitCode.SOURCE_NOT_FOUND, Cause.SOURCE_NOT_FOUND, 3600),
        (FETCH, ExitCode.SOURCE_UNSAFE, Cause.SOURCE_UNSAFE, 3600),
        (FETCH, ExitCode.VOLUME_FULL, Cause.VOLUME_FULL, 3600),
        (FETCH, ExitCode.NETWORK_FAILED, Cause.NETWORK_FAILED, 300),
        (FETCH, ExitCode.CHECKSUM_MISMATCH, Cause.CHECKSUM_MISMATCH, 300),
        (FETCH, ExitCode.READ_FAILED, Cause.READ_FAILED, 300),
        (QUANTIZE, ExitCode.RECIPE_UNSUPPORTED, Cause.RECIPE_UNSUPPORTED, 3600),
        (QUANTIZE, ExitCode.TEXTS_INVALID, Cause.TEXTS_INVALID, 3600),
        (QUANTIZE, ExitCode.VOLUME_FULL, Cause.VOLUME_FULL, 3600),
        (QUANTIZE, ExitCode.STEP_FAILED, Cause.STEP_FAILED, 300),
    ],
)  # fmt: skip
def test_a_step_that_failed_is_tried_again_when_its_cause_may_be_gone(
    step: Step, code: ExitCode, reason: Cause, seconds: int
) -> None:
    spec, by = (FETCHED, PLAIN) if step == FETCH else (QUANTIZED, LOSSY)
    before = decide(spec, *failed(step, code, reason, ended=timedelta(seconds=seconds - 1)), by=by)
    assert before.conditions == stalled(reason.value)
    assert (before.does, before.plan.due_seconds) == ("", 1)
    assert f"team/model at main: why; it is looked at again {'5 minutes' if seconds == 300 else 'an hour'}" in (
        before.message
    )
    after = decide(spec, *failed(step, code, reason, ended=timedelta(seconds=seconds)), by=by)
    assert after.does == "delete"
    assert after.conditions == working("Fetching" if step == FETCH else "Quantizing")
    assert decide(spec, by=by, status=after.status).does == "make"


def test_a_job_that_works_is_not_made_again_for_another_configuration_and_one_that_waits_is() -> None:
    job = make_job(FETCHED, FETCH, by=PLAIN)
    job["metadata"]["annotations"] = {names.ANNOTATION_APPLIED: "0123456789abcdef"}
    at_work = decide(FETCHED, job, make_last_word(job, exit_code=None), by=PLAIN)
    assert (at_work.does, at_work.plan.finding.runs_at) == ("", "10.0.0.9")
    for children in ([job], [job, make_last_word(job, exit_code=None, phase="Pending", containerStatuses=[])]):
        assert decide(FETCHED, *children, by=PLAIN).does == "delete"


# -- quantize and evaluate ---------------------------------------------------------------------------------------------


def test_a_quantized_model_waits_for_its_source_and_says_how_far_that_is_or_what_keeps_it() -> None:
    for source, conditions in (
        (None, working("SourceNotReady")),
        (ArtifactFacts(FETCHED.key, None, Reason.FETCHING, "Job x fetches y"), working("SourceNotReady")),
        (ArtifactFacts(FETCHED.key, None, Reason.FETCH_FAILED, "no", is_stuck=True), stalled("FetchFailed")),
    ):
        told = decide(QUANTIZED, by=LOSSY, source=source)
        assert told.does == ""
        assert told.conditions == conditions
        assert (source.message if source else "waits for the model") in told.message


def test_it_is_quantized_then_measured_then_ready() -> None:
    first = decide(QUANTIZED, by=LOSSY)
    assert first.job["metadata"]["name"] == f"{QUANTIZED.key}-quantize"
    assert first.message == f"Job {QUANTIZED.key}-quantize quantizes team/model at main to W8A8 by RTN"
    made = status_of(QUANTIZE)
    then = decide(QUANTIZED, by=LOSSY, status=made)
    assert then.job["metadata"]["name"] == f"{QUANTIZED.key}-evaluate"
    assert then.conditions == working("Evaluating")
    measured = status_of(EVALUATE, known=made)
    assert measured["losses"][0]["texts"] == "built-in"
    done = decide(QUANTIZED, by=LOSSY, status=measured)
    assert done.conditions == {"Ready": ("True", "MeasuredLoss")}
    assert done.does == ""


def test_without_its_source_it_stays_ready_and_waits_only_where_it_has_to_be_measured_anew() -> None:
    ready = status_of(QUANTIZE, EVALUATE)
    assert decide(QUANTIZED, by=LOSSY, status=ready, source=None).conditions == {"Ready": ("True", "MeasuredLoss")}
    other = decide(QUANTIZED, by=with_texts("a", "other"), status=ready, source=None)
    assert other.conditions == working("SourceNotReady")
    assert other.status["losses"] == ready["losses"]


def test_other_texts_are_one_more_evaluation_and_another_threshold_is_none() -> None:
    ready = status_of(QUANTIZE, EVALUATE)
    strict = (make_artifact_body(quantization={"scheme": "W8A8", "gate": {"minTop1Agreement": "1"}}),)
    assert decide(QUANTIZED, by=strict, status=ready).does == ""
    other = decide(QUANTIZED, by=with_texts("a", "other"), status=ready)
    assert other.job["metadata"]["name"] == of("other").job_name(QUANTIZED.key)


def test_texts_that_nobody_can_read_keep_nobody_elses_evaluation_back() -> None:
    by = with_texts("a", "bad", "")
    job = make_job(QUANTIZED, of("bad"), "Failed", by=by)
    refusal = make_refusal(ExitCode.TEXTS_INVALID, Phase.EVALUATE, Cause.TEXTS_INVALID)
    children = [job, make_last_word(job, refusal, exit_code=int(ExitCode.TEXTS_INVALID))]
    told = decide(QUANTIZED, *children, by=by, status=status_of(QUANTIZE))
    assert told.job["metadata"]["name"] == f"{QUANTIZED.key}-evaluate"
    done = decide(QUANTIZED, *children, by=by, status=status_of(QUANTIZE, EVALUATE))
    assert done.conditions == stalled("TextsInvalid")
    assert done.plan.due_seconds == 3600


def test_texts_that_are_not_there_yet_keep_nobody_elses_evaluation_back() -> None:
    by = with_texts("a", "absent", "")
    job = make_job(QUANTIZED, of("absent"), by=by)
    pod = make_last_word(job, exit_code=None, phase="Pending", containerStatuses=[], conditions=[UNSCHEDULABLE])
    told = decide(QUANTIZED, job, pod, by=by, status=status_of(QUANTIZE))
    assert told.job["metadata"]["name"] == f"{QUANTIZED.key}-evaluate"
    done = decide(QUANTIZED, job, pod, by=by, status=status_of(QUANTIZE, EVALUATE))
    assert "Unschedulable: no claim" in done.message
    at_work = decide(QUANTIZED, job, make_last_word(job, exit_code=None), by=by, status=status_of(QUANTIZE))
    assert at_work.does == "", "one after the other, as long as it goes on"


def test_an_evaluation_that_waits_for_what_nobody_asks_for_any_more_is_ended_and_one_that_works_is_not() -> None:
    job = make_job(QUANTIZED, of("gone"), by=with_texts("a", "gone"))
    ready = status_of(QUANTIZE, EVALUATE)
    waiting = make_last_word(job, exit_code=None, phase="Pending", containerStatuses=[], conditions=[UNSCHEDULABLE])
    assert decide(QUANTIZED, job, waiting, by=LOSSY, status=ready).does == "delete"
    assert decide(QUANTIZED, job, make_last_word(job, exit_code=None), by=LOSSY, status=ready).does == ""


def test_a_job_that_works_goes_on_where_none_could_be_made_any_more() -> None:
    job = make_job(QUANTIZED, QUANTIZE, by=LOSSY)
    without = Settings.of(make_config(engineImages={"cpu": "engine:1"}))
    at_work = decide(QUANTIZED, job, make_last_word(job, exit_code=None), by=LOSSY, settings=without)
    assert (at_work.does, at_work.conditions) == ("", working("Quantizing"))
    assert decide(QUANTIZED, by=LOSSY, settings=without).conditions == stalled("NoJobImage")
    word = make_last_word(job, MADE.encode())
    assert decide(QUANTIZED, job, word, by=LOSSY, settings=without).status["files"]["path"] == QUANTIZED.key


def test_what_is_kept_by_a_revision_alone_is_measured_no_more() -> None:
    """Its deployment asks for another one by now, or another operator would make another one of the same request."""
    measured = status_of(QUANTIZE, of("mine"), by=with_texts("a", "mine"))
    revision = make_child("ControllerRevision", "r", data={"resolved": {"model_path": QUANTIZED.key}})
    told = decide(QUANTIZED, by=[revision], status=measured, source=None)
    assert told.conditions == {"Ready": ("True", "MeasuredLoss")}
    assert told.does == ""
    assert decide(QUANTIZED, status=measured, source=None).conditions == {"Ready": ("True", "MeasuredLoss")}


def test_one_that_was_made_by_hand_is_measured_on_the_built_in_texts() -> None:
    told = decide(QUANTIZED, is_ours=False, status=status_of(QUANTIZE))
    assert told.job["metadata"]["name"] == f"{QUANTIZED.key}-evaluate"


def test_many_sets_of_texts_one_after_the_other_never_make_a_status_that_cannot_be_written() -> None:
    status = status_of(QUANTIZE)
    for number in range(80):
        by = with_texts("a", f"texts{number}")
        status = status_of(of(f"texts{number}"), by=by, known=status)
        assert decide(QUANTIZED, by=by, status=status).conditions == {"Ready": ("True", "MeasuredLoss")}


def test_the_longest_names_that_a_gate_may_have_fit_into_the_status() -> None:
    tasks = [{"name": f"{number:02}" + "t" * 61, "limit": 100_000} for number in range(16)]
    gate = {
        "evaluation": make_texts("c" * 253, "k" * 253),
        "tasks": {"configMapName": "c" * 253, "tasks": tasks},
        "longContext": {"tokens": 1_048_576},
    }
    by = (make_artifact_body(quantization={"scheme": "W8A8", "gate": gate}),)
    step = Step(Phase.EVALUATE, Measurement.of_need(need_of(by[0]).gate, QUANTIZED))
    told = status_of(step, by=by, known=status_of(QUANTIZE))
    assert [loss["texts"] for loss in told["losses"]] == [str(step.measurement)]


QUOTA = 'FailedCreate: Error creating: pods "v1-*" is forbidden: exceeded quota: q'


def test_a_job_whose_pod_may_not_be_made_says_why_and_the_next_step_does_not_wait_for_it() -> None:
    job = make_job(QUANTIZED, QUANTIZE, by=LOSSY)
    told = decide(QUANTIZED, job, by=LOSSY, mishaps={"j1": QUOTA})
    assert told.conditions == working("Quantizing")
    assert told.message.endswith(f" to W8A8 by RTN: {QUOTA}")
    by, known = with_texts("a", "one", "two"), status_of(QUANTIZE)
    held_up = make_job(QUANTIZED, of("one"), by=by)
    assert decide(QUANTIZED, held_up, by=by, status=known).does == "", "one after the other"
    told = decide(QUANTIZED, held_up, by=by, status=known, mishaps={"j1": QUOTA})
    assert told.job["metadata"]["name"] == of("two").job_name(QUANTIZED.key)


def test_a_job_whose_second_pod_may_not_be_made_says_that_and_not_how_the_first_one_ended() -> None:
    job = make_job(QUANTIZED, QUANTIZE, by=LOSSY)
    first = make_last_word(job, exit_code=1)
    assert "exit code 1" in decide(QUANTIZED, job, first, by=LOSSY).message
    assert decide(QUANTIZED, job, first, by=LOSSY, mishaps={"j1": QUOTA}).message.endswith(QUOTA)


def test_a_model_that_calls_itself_by_long_names_is_told_in_short() -> None:
    hostile = replace(MADE, model=replace(MADE.model, architecture="A" * 128, data_type="d" * 128))
    told = decide(FETCHED, *fetched(message=hostile.encode()), by=PLAIN).status
    assert told["summary"].startswith("A" * 128)
    assert len(told["summary"]) == SUMMARY_LIMIT


@pytest.mark.parametrize(("waited", "does"), [(timedelta(seconds=119), ""), (timedelta(seconds=120), "delete")])
def test_a_smoke_test_without_room_is_ended_also_when_nobody_waits_for_it_any_more(
    waited: timedelta, does: str
) -> None:
    """Its deployment may be gone, or ask for another engine: once there is room it would take it from others' pods."""
    job = make_job(QUANTIZED, of("mine"), by=with_texts("a", "mine"))
    labels = {**job["metadata"]["labels"], names.LABEL_COMPONENT: Phase.SMOKE.value}
    made = {"creationTimestamp": (NOW - waited).isoformat(), "labels": labels}
    job["metadata"] |= {**made, "name": Step(Phase.SMOKE, smoke="0123abcd").job_name(QUANTIZED.key)}
    pod = make_last_word(job, exit_code=None, phase="Pending", containerStatuses=[], conditions=[UNSCHEDULABLE])
    told = decide(QUANTIZED, job, pod, by=LOSSY, status=status_of(QUANTIZE, EVALUATE))
    assert told.conditions == {"Ready": ("True", "MeasuredLoss")}
    assert told.does == does
    working_on = make_last_word(job, exit_code=None)
    assert decide(QUANTIZED, job, working_on, by=LOSSY, status=status_of(QUANTIZE, EVALUATE)).does == ""
    ready = {"by": LOSSY, "status": status_of(QUANTIZE, EVALUATE)}
    assert decide(QUANTIZED, job, mishaps={"j1": QUOTA}, **ready).does == does, "old pods may use the quota up"
    forbidden = "FailedCreate: pods is forbidden: violates PodSecurity"
    assert decide(QUANTIZED, job, mishaps={"j1": forbidden}, **ready).does == "", "that is somebody's to mend"
