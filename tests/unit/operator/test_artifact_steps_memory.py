"""What a Job gets that was killed for want of memory, and how far a step is told to be."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tandem_contracts.quality import LongContext, TaskResult
from tandem_contracts.termination import ExitCode, Phase
from tandem_contracts.termination import Reason as Cause
from tandem_operator.api.artifact import ArtifactLoss, ModelArtifactSpec
from tandem_operator.artifact_status import Progress, artifact_status_of, progress_in
from tandem_operator.artifact_steps import Step
from tandem_operator.facts import Manifest
from tests.unit.operator.artifacts import (
    FETCHED,
    GOOD,
    MADE,
    NOW,
    QUANTIZED,
    SOURCE,
    Told,
    decide,
    make_artifact,
    make_artifact_body,
    make_job,
    make_last_word,
)
from tests.unit.operator.test_artifact_steps_plan import (
    EVALUATE,
    FETCH,
    LOSSY,
    MINUTE,
    PLAIN,
    QUANTIZE,
    UNSCHEDULABLE,
    failed,
    fetched,
    of,
    status_of,
    with_texts,
)


def killed(spec: ModelArtifactSpec, step: Step, by: tuple[Manifest, ...], status: Manifest) -> list[Manifest]:
    job = make_job(spec, step, "Failed", by=by, status=status)
    return [job, make_last_word(job, exit_code=137, reason="OOMKilled")]


def memory_of(told: Told) -> str:
    return str(told.job["spec"]["template"]["spec"]["containers"][0]["resources"]["limits"]["memory"])


IN_A_CLAIM = {"persistentVolumeClaim": {"claimName": "models", "path": "verifier"}}


LIES = ModelArtifactSpec.parse({"source": IN_A_CLAIM})


@pytest.mark.parametrize(
    ("spec", "step", "by"),
    [
        (FETCHED, FETCH, PLAIN),
        (QUANTIZED, QUANTIZE, LOSSY),
        (QUANTIZED, EVALUATE, LOSSY),
        (LIES, Step(Phase.INSPECT), (make_artifact_body(source=IN_A_CLAIM),)),
    ],
    ids=["fetch", "quantize", "evaluate", "inspect"],
)  # fmt: skip
def test_a_job_that_was_killed_for_want_of_memory_is_tried_once_more_with_half_as_much_again(
    spec: ModelArtifactSpec, step: Step, by: tuple[Manifest, ...]
) -> None:
    before = status_of(QUANTIZE) if step == EVALUATE else {}
    usual = memory_of(decide(spec, by=by, status=before))
    first = decide(spec, *killed(spec, step, by, before), by=by, status=before)
    more = f"{int(usual.removesuffix('Mi').removesuffix('Gi')) * (1024 if 'Gi' in usual else 1) * 3 // 2}Mi"
    assert first.does == "delete"
    assert f"is tried once more with {more}" in first.message
    again = decide(spec, by=by, status=first.status)
    assert memory_of(again) == more
    assert again.job["spec"]["backoffLimit"] == 0, "what does not fit then does not fit the next time either"
    second = decide(spec, *killed(spec, step, by, again.status), by=by, status=again.status)
    assert (second.does, second.plan.due_seconds) == ("", 3600)
    assert list(second.conditions) == ["Ready", "Stalled"]
    assert "OOMKilled" in second.message
    is_made = spec.quantization is not None
    assert (f"it had {more}, and gets what quantization.job.memory says" in second.message) is is_made


def test_the_memory_of_one_step_is_not_that_of_the_next() -> None:
    oom = decide(QUANTIZED, *killed(QUANTIZED, QUANTIZE, LOSSY, {}), by=LOSSY)
    made = status_of(QUANTIZE, known=oom.status)
    usual = memory_of(decide(QUANTIZED, by=LOSSY, status=status_of(QUANTIZE)))
    assert memory_of(decide(QUANTIZED, by=LOSSY, status=made)) == usual
    killed_too = decide(QUANTIZED, *killed(QUANTIZED, EVALUATE, LOSSY, made), by=LOSSY, status=made)
    assert killed_too.does == "delete"


def test_more_memory_than_the_second_try_had_is_what_the_user_says() -> None:
    generous = (make_artifact_body(quantization={"scheme": "W8A8", "job": {"memory": "64Gi"}}),)
    oom = decide(QUANTIZED, *killed(QUANTIZED, QUANTIZE, LOSSY, {}), by=LOSSY)
    assert memory_of(decide(QUANTIZED, by=generous, status=oom.status)) == "64Gi"
    sparing = (make_artifact_body(quantization={"scheme": "W8A8", "job": {"memory": "1Gi"}}),)
    assert memory_of(decide(QUANTIZED, by=sparing, status=oom.status)) in oom.status["memory"].values()
    for spoilt in ("lots", {f"{QUANTIZED.key}-quantize": "lots"}, {f"{QUANTIZED.key}-quantize": 7}):
        assert memory_of(decide(QUANTIZED, by=LOSSY, status={**oom.status, "memory": spoilt})).endswith("Mi")


def test_the_memory_of_a_job_is_kept_while_another_step_is_looked_at() -> None:
    """Otherwise it is made again with what it was killed with, and killed again, for ever."""
    by, one, other = with_texts("a", "mine", "other"), of("mine"), of("other")
    known = status_of(QUANTIZE, by=by)
    oom = decide(QUANTIZED, *killed(QUANTIZED, one, by, known), by=by, status=known)
    job = make_job(QUANTIZED, one, by=by, status=oom.status)
    pod = make_last_word(job, exit_code=None, phase="Pending", containerStatuses=[], conditions=[UNSCHEDULABLE])
    beside = make_job(QUANTIZED, other, by=by, uid="j2")
    working_on = (beside, make_last_word(beside, exit_code=None))
    told = decide(QUANTIZED, job, pod, *working_on, by=by, status=oom.status)
    assert told.status["job"] == beside["metadata"]["name"]
    later = decide(QUANTIZED, job, pod, *working_on, by=by, status=told.status)
    assert later.does == ""
    failed_twice = killed(QUANTIZED, one, by, later.status)
    last = decide(QUANTIZED, *failed_twice, *working_on, by=by, status=later.status)
    assert last.does == ""
    ready = status_of(one, other, by=by, known=last.status)
    assert decide(QUANTIZED, by=by, status=ready).status["memory"] == {}


PAGE = """# HELP tandem_artifact_step_done x
# TYPE tandem_artifact_step_done gauge
tandem_artifact_step_done{step="fetch"} 2.5e+08
tandem_artifact_step_total{step="fetch"} 1e+09
tandem_artifact_step_seconds{step="fetch"} 30
other_metric 3
"""


def test_progress_is_that_of_the_step_that_is_due_while_something_works_on_it() -> None:
    progress = progress_in(PAGE)
    assert progress == Progress("fetch", 2.5e8, 1e9, 30.0)
    job = make_job(FETCHED, FETCH, by=PLAIN)
    artifact = make_artifact(FETCHED)
    at_work = decide(FETCHED, job, make_last_word(job, exit_code=None), by=PLAIN).plan
    status = artifact_status_of(artifact, at_work, now=NOW, progress=progress)
    assert status["progress"] == {"step": "fetch", "done": "0.2 GB of 1.0 GB", "left": "2m"}
    of_before = Progress("quantize", 1.0, 2.0, 1.0)
    assert "progress" not in artifact_status_of(artifact, at_work, now=NOW, progress=of_before)
    waits = decide(FETCHED, job, by=PLAIN).plan
    assert "progress" not in artifact_status_of(artifact, waits, now=NOW, progress=progress)


@pytest.mark.parametrize(
    ("done", "total", "seconds", "left"),
    [(1, 100, 10, None), (2, 100, 10, 490.0), (0, 0, 0, None), (100, 100, 10, 0.0), (3, 12, 60, 180.0)],
)
def test_what_is_left_is_told_from_what_is_done_once_there_is_enough_of_it(
    done: float, total: float, seconds: float, left: float | None
) -> None:
    assert Progress("quantize", done, total, seconds).seconds_left == left


@pytest.mark.parametrize(
    "page",
    ["", "other_metric 3", PAGE.replace("1e+09", "NaN"), PAGE.replace("2.5e+08", "-1"), PAGE.replace("30", "x"),
     PAGE.replace("30", "+Inf"), "\n".join(PAGE.splitlines()[:3])],
)  # fmt: skip
def test_a_page_that_says_nothing_of_a_step_is_no_progress(page: str) -> None:
    assert progress_in(page) is None


def test_planning_again_from_what_was_written_changes_nothing() -> None:
    cases: list[tuple[ModelArtifactSpec, tuple[Manifest, ...], list[Manifest]]] = [
        (FETCHED, PLAIN, []),
        (FETCHED, PLAIN, [*fetched(message=MADE.encode())]),
        (FETCHED, PLAIN, [*failed(FETCH, ExitCode.SOURCE_DENIED, Cause.SOURCE_DENIED)]),
        (QUANTIZED, LOSSY, [*failed(QUANTIZE, ExitCode.VOLUME_FULL, Cause.VOLUME_FULL)]),
        (QUANTIZED, LOSSY, []),
    ]
    for spec, by, children in cases:
        first = decide(spec, *children, by=by)
        later = decide(spec, *children, by=by, status=first.status, now=NOW + 4 * MINUTE)
        assert later.status == first.status


def test_quality_figures_come_back_through_the_status_as_they_were() -> None:
    (loss,) = status_of(QUANTIZE, EVALUATE)["losses"]
    assert ArtifactLoss.model_validate(loss).quality == GOOD
    whole = replace(
        GOOD,
        tasks=(TaskResult(name="gsm8k", metric="acc", source=0.5, quantized=0.49, recovery_percent=98.0),),
        long_context=LongContext(tokens=2048, wanted_tokens=16384, recall_source=0.9, recall=0.85),
    )
    written = ArtifactLoss.of("built-in", whole).model_dump(mode="json", by_alias=True, exclude_none=True)
    assert ArtifactLoss.model_validate(written).quality == whole
    assert SOURCE.files is not None
