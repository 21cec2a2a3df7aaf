"""The steps by which files leave a volume, and a volume that is full."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tandem_contracts.termination import ExitCode, Phase
from tandem_contracts.termination import Reason as Cause
from tandem_operator.api.deployment import Owner
from tandem_operator.artifact_attempts import attempts_of
from tandem_operator.artifact_needs import Settings
from tandem_operator.artifact_plan import plan_artifact
from tandem_operator.artifact_status import artifact_status_of
from tandem_operator.artifact_terms import Referrers, job_maker
from tandem_operator.facts import Manifest
from tests.builders import make_config
from tests.unit.operator.artifacts import (
    FETCHED,
    MADE,
    NOW,
    QUANTIZED,
    SETTINGS,
    SOURCE,
    Told,
    decide,
    make_artifact,
    make_job,
    make_last_word,
    make_refusal,
)
from tests.unit.operator.test_artifact_steps_plan import (
    EVICT,
    FETCH,
    HOUR,
    LOSSY,
    PLAIN,
    QUANTIZE,
    QUOTA,
    UNSCHEDULABLE,
    failed,
    fetched,
    stalled,
    working,
)

PUBLISHED = decide(FETCHED, *fetched(message=MADE.encode()), by=PLAIN).status
UNUSED = {**PUBLISHED, "unusedSince": "2029-12-25T12:00:00Z"}
EVICTING = decide(FETCHED, status=UNUSED).status


def test_files_that_nothing_refers_to_go_in_order_first_from_the_status_then_from_the_volume_then_the_artifact() -> (
    None
):
    early = decide(FETCHED, status={**UNUSED, "unusedSince": "2029-12-25T12:00:01Z"})
    assert (early.does, early.conditions) == ("", {"Ready": ("True", "Published")})
    first = decide(FETCHED, status=UNUSED)
    assert (first.does, first.plan.due_seconds) == ("", 1.0)
    assert first.conditions == working("Evicting")
    assert "files" not in first.status, "nobody may count on them any more"
    second = decide(FETCHED, status=first.status)
    assert second.job["metadata"]["name"] == f"{FETCHED.key}-evict"
    job = make_job(FETCHED, EVICT)
    assert decide(FETCHED, job, status=second.status).does == ""
    done = make_job(FETCHED, EVICT, "Complete")
    assert decide(FETCHED, done, make_last_word(done, "{}"), status=second.status).does == "forget"
    assert decide(FETCHED, done, status={}).does == "forget", "also when its status was wiped"


def test_who_needs_it_again_before_its_files_go_has_it_and_who_needs_it_later_waits_and_asks_anew() -> None:
    assert decide(FETCHED, *fetched(message=MADE.encode()), by=PLAIN, status=EVICTING).status["files"]
    assert decide(FETCHED, by=PLAIN, status=EVICTING).job["metadata"]["name"] == f"{FETCHED.key}-fetch"
    going = make_job(FETCHED, EVICT)
    waits = decide(FETCHED, going, *fetched(message=MADE.encode()), by=PLAIN, status=EVICTING)
    assert (waits.does, waits.conditions) == ("", working("Evicting"))
    for course in ("Complete", "Failed"):
        ended = make_job(FETCHED, EVICT, course)
        assert decide(FETCHED, ended, by=PLAIN, status=EVICTING).does == "forget"


def test_an_eviction_that_failed_is_told_and_tried_again_an_hour_later() -> None:
    job = make_job(FETCHED, EVICT, "Failed")
    refusal = make_refusal(ExitCode.READ_FAILED, Phase.EVICT, Cause.READ_FAILED)
    children = (job, make_last_word(job, refusal, exit_code=int(ExitCode.READ_FAILED)))
    told = decide(FETCHED, *children, status=EVICTING)
    assert (told.does, told.conditions) == ("", stalled("ReadFailed"))
    assert told.plan.due_seconds == 3600
    later = decide(FETCHED, *children, status=told.status, now=NOW + HOUR)
    assert later.does == "delete"
    assert decide(FETCHED, status=later.status, now=NOW + HOUR).does == "make"


def test_an_eviction_that_the_api_server_refuses_or_that_no_node_takes_says_so() -> None:
    told = decide(FETCHED, status=EVICTING, refused="jobs.batch is forbidden: exceeded quota")
    assert told.conditions == working("APIRefused")
    assert "exceeded quota" in told.message
    assert told.plan.due_seconds == 15
    assert decide(FETCHED, status=told.status).does == "make", "it is still known that the files are to go"
    job = make_job(FETCHED, EVICT)
    pod = make_last_word(job, exit_code=None, phase="Pending", containerStatuses=[], conditions=[UNSCHEDULABLE])
    assert "Unschedulable: no claim" in decide(FETCHED, job, pod, status=EVICTING).message


def test_an_eviction_that_cannot_begin_is_made_again_with_another_configuration() -> None:
    job = make_job(FETCHED, EVICT)
    mended = Settings.of(make_config(engineImages={"cpu": "engine:1", "cpu-artifacts": "artifacts:2"}))
    pod = make_last_word(job, exit_code=None, phase="Pending", containerStatuses=[])
    told = decide(FETCHED, job, pod, status=EVICTING, settings=mended)
    assert told.does == "delete"
    assert decide(FETCHED, status=told.status, settings=mended).does == "make"
    begun = make_last_word(job, exit_code=None)
    assert decide(FETCHED, job, begun, status=EVICTING, settings=mended).does == ""
    assert decide(FETCHED, job, pod, by=PLAIN, status=EVICTING, settings=mended).does == ""


@pytest.mark.parametrize("unshared", [True, False])
def test_files_that_others_may_count_on_too_are_left_where_they_are(unshared: bool) -> None:
    spec = FETCHED if unshared else FETCHED.model_copy(update={"tenant": None})
    told = decide(spec, status={**UNUSED, "files": {**UNUSED["files"], "path": spec.key}})
    assert told.does == ("" if unshared else "forget")


def test_files_of_an_artifact_that_somebody_made_by_hand_stay() -> None:
    assert decide(FETCHED, is_ours=False, status=UNUSED).conditions == {"Ready": ("True", "Published")}


def test_a_job_for_what_nothing_refers_to_is_ended_and_made_again_for_whoever_needs_it() -> None:
    job = make_job(FETCHED, FETCH, by=PLAIN)
    unused = decide(FETCHED, job, make_last_word(job, exit_code=None))
    assert unused.does == "delete"
    assert "nothing refers to it now" in unused.message
    assert decide(FETCHED, status=unused.status).does == ""
    assert decide(FETCHED, by=PLAIN, status=unused.status).does == "make"


@pytest.mark.parametrize(
    ("others", "is_making_room", "does"),
    [(70, False, ""), (90, False, ""), (69, True, ""), (69, False, "delete")],
    ids=["as before", "more", "files are going", "fewer"],
)
def test_a_job_that_found_the_volume_full_is_tried_again_once_others_have_gone_from_it(
    others: int, is_making_room: bool, does: str
) -> None:
    children = failed(QUANTIZE, ExitCode.VOLUME_FULL, Cause.VOLUME_FULL)

    def told(others: int, *, is_making_room: bool, status: Manifest) -> Told:
        artifact = make_artifact(QUANTIZED, status=status)
        owner = Owner(name=QUANTIZED.key, namespace=artifact.namespace, uid="a1")
        referrers = Referrers(QUANTIZED.key, LOSSY, SETTINGS)
        plan = plan_artifact(
            artifact,
            attempts_of(children, artifact_uid="a1", mishaps={}),
            asked=replace(referrers.asked(), others_bytes=others, is_making_room=is_making_room),
            job_of=job_maker(owner, artifact, SOURCE, referrers=referrers, settings=SETTINGS),
            source=SOURCE,
            now=NOW,
            ttl=HOUR,
        )
        return Told(plan, artifact_status_of(artifact, plan, now=NOW))

    first = told(70, is_making_room=False, status={})
    assert (first.does, first.status["fullBesideBytes"]) == ("", 70)
    then = told(others, is_making_room=is_making_room, status=first.status)
    assert then.does == does
    assert then.status.get("fullBesideBytes") == (None if does else max(others, 70))


def test_an_eviction_whose_pod_may_not_be_made_says_why() -> None:
    assert decide(FETCHED, make_job(FETCHED, EVICT), status=EVICTING, mishaps={"j1": QUOTA}).message.endswith(QUOTA)
