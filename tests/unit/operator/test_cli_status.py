"""`tandem status`: what a person sees of a resource, and what a script learns from the exit code."""

from __future__ import annotations

import copy
import json
from datetime import UTC, datetime
from typing import Any

import pytest
import yaml

from tandem_contracts.launch import Role
from tandem_operator import names
from tandem_operator.cli.inputs import CommandError
from tandem_operator.cli.screen import Paint
from tandem_operator.cli.status import exit_code_of, run_status, tree
from tandem_operator.cli.status_document import KEYS, document_of
from tandem_operator.facts import Manifest, PodFacts
from tandem_operator.facts_parsing import pod_of
from tests.builders import make_body, make_raw_pod
from tests.unit.operator.documents_written import absent, untold

NOW = datetime(2030, 1, 1, 2, 0, tzinfo=UTC)
PLAIN, COLOURED = Paint(is_on=False), Paint(is_on=True)
OLD, NEW, DRAFT = "7f3a90c1", "51c0aa72", "0badcafe"
NOT_FOUND = 'failed to resolve reference "reg.example/engine:9": not found'


def condition(kind: str, status: str, reason: str, message: str, *, minute: int = 30, generation: int = 3) -> Manifest:
    return {
        "type": kind,
        "status": status,
        "reason": reason,
        "message": message,
        "lastTransitionTime": f"2030-01-01T01:{minute}:00Z",
        "observedGeneration": generation,
    }


ROLLING: Manifest = {
    "observedGeneration": 3,
    "conditions": [
        condition("VerifierReady", "False", "RollingOut", "revision 51c0aa72: 0 of 2 pods are Ready", minute=58),
        condition("Available", "True", "Serving", "Service pair has 2 Ready verifier pods of revision 7f3a90c1"),
        condition("Ready", "False", "RollingOut", "revision 51c0aa72: 0 of 2 pods are Ready", minute=58),
        condition("Reconciling", "True", "RollingOut", "revision 51c0aa72: 0 of 2 pods are Ready", minute=58),
        condition("SpeculationEffective", "Unknown", "NotMeasured", "nothing was measured yet"),
        condition("Accepted", "True", "Accepted", "the spec is valid and every name in it resolves"),
        condition("DraftReady", "True", "PodsReady", "1 of 1 draft pods of revision 0badcafe are Ready"),
    ],
    "verifier": {"revision": OLD, "targetRevision": NEW, "summary": "2/2"},
    "draft": {"revision": DRAFT, "targetRevision": DRAFT, "summary": "1/1"},
    "coldStart": {
        "pod": "pair-verifier-7f3a90c1-a",
        "schedule": "3.0s",
        "pull": "41s",
        "warmUp": "4.0s",
        "total": "108s",
    },
    "scaling": {"desiredVerifiers": 2, "cost": {"perHour": "13.76"}},
}


def body(status: Manifest | None = None, **metadata: Any) -> Manifest:
    made = make_body(generation=3, creationTimestamp="2030-01-01T00:00:00Z", **metadata)
    return {**made, "status": copy.deepcopy(status)} if status else made


def raw_pod(name: str, revision: str, *, role: Role = Role.VERIFIER, node: str = "gpu-1", **status: Any) -> Manifest:
    return {**make_raw_pod(role, revision, name=name, **status), "spec": {"nodeName": node}}


READY = {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}
NO_IMAGE = {
    "phase": "Pending",
    "containerStatuses": [{"name": "engine", "state": {"waiting": {"reason": "ErrImagePull", "message": NOT_FOUND}}}],
}
PODS = [
    raw_pod(f"pair-verifier-{NEW}-c", NEW, node="gpu-2", **NO_IMAGE),
    raw_pod(f"pair-verifier-{OLD}-b", OLD, **READY),
    raw_pod(f"pair-verifier-{OLD}-a", OLD, **READY),
    raw_pod(f"pair-draft-{DRAFT}-d", DRAFT, role=Role.DRAFT, **READY),
    raw_pod(f"pair-verifier-{OLD}-z", OLD, phase="Failed", reason="Evicted", message="The node was low on memory."),
]


def facts(*raw: Manifest) -> list[PodFacts]:
    return [pod for manifest in raw if (pod := pod_of(manifest))]


def drawn(resource: Manifest, *raw: Manifest, paint: Paint = PLAIN, note: str = "") -> str:
    return "\n".join(tree(resource, facts(*raw), now=NOW, paint=paint, note=note))


def test_a_rollout_is_shown_with_its_causes_revisions_and_pods() -> None:
    assert (
        drawn(body(ROLLING), *PODS)
        == f"""\
LLMDeployment chat/pair  generation 3, 2h old
├─ ✓ Available              30m  Serving: Service pair has 2 Ready verifier pods of revision 7f3a90c1
├─ ✗ Ready                   2m  RollingOut: revision 51c0aa72: 0 of 2 pods are Ready
├─ … Reconciling             2m  RollingOut: revision 51c0aa72: 0 of 2 pods are Ready
├─ ✓ Accepted               30m  Accepted: the spec is valid and every name in it resolves
├─ ✗ VerifierReady           2m  RollingOut: revision 51c0aa72: 0 of 2 pods are Ready
├─ ✓ DraftReady             30m  PodsReady: 1 of 1 draft pods of revision 0badcafe are Ready
├─ ? SpeculationEffective   30m  NotMeasured: nothing was measured yet
├─ verifier 2/2
│  ├─ revision 7f3a90c1 (serves)
│  │  ├─ pair-verifier-7f3a90c1-a  Ready on gpu-1  2h
│  │  ├─ pair-verifier-7f3a90c1-b  Ready on gpu-1  2h
│  │  └─ pair-verifier-7f3a90c1-z  ended on gpu-1  2h  Evicted: The node was low on memory.
│  └─ revision 51c0aa72 (is to take over)
│     └─ pair-verifier-51c0aa72-c  not Ready on gpu-2  2h  ImagePullBackOff: {NOT_FOUND}
├─ draft 1/1
│  └─ revision 0badcafe
│     └─ pair-draft-0badcafe-d  Ready on gpu-1  2h
├─ last cold start (pair-verifier-7f3a90c1-a): schedule 3.0s, pull 41s, warm-up 4.0s, total 108s
└─ costs 13.76 dollars an hour"""
    )


@pytest.mark.parametrize(
    ("status", "reason", "mark"),
    [
        ("False", "NotLimited", "✓"),
        ("True", "AtMaximum", "✗"),
        ("True", "AtMinimum", "…"),
        ("True", "LimitedByBehavior", "…"),
        ("Unknown", "NotLimited", "?"),
    ],
)
def test_a_condition_that_is_good_while_it_is_false_is_shown_so(status: str, reason: str, mark: str) -> None:
    limited = {**ROLLING, "conditions": [condition("ScalingLimited", status, reason, "m")]}
    assert f"{mark} ScalingLimited" in drawn(body(limited))


@pytest.mark.parametrize(
    ("updated", "line"),
    [("2030-01-01T01:56:00Z", "   these figures are 4 minutes old"), ("2030-01-01T01:59:30Z", None)],
)
def test_conditions_of_scaling_have_the_age_of_their_figures(updated: str, line: str | None) -> None:
    active = condition("ScalingActive", "True", "Deciding", "needs 1")
    missed = condition("LatencyTargetMet", "False", "TargetMissed", "asked for 95 % of requests")
    accepted = condition("Accepted", "True", "Accepted", "the spec is valid")
    lines = drawn(
        body({"observedGeneration": 3, "scaling": {"updated": updated}, "conditions": [active, missed, accepted]})
    ).splitlines()
    assert [each for each in lines if "figures" in each] == ([line] if line else [])
    if line:
        assert "LatencyTargetMet" in lines[lines.index(line) - 1]


def test_a_resource_of_which_no_operator_has_heard_says_so() -> None:
    assert drawn(body()) == (
        "LLMDeployment chat/pair  generation 3, 2h old\n"
        "└─ the operator has said nothing of it yet: does one run in this namespace?"
    )


def test_a_generation_that_was_not_acted_on_is_told_from_one_that_was() -> None:
    shown = drawn(body({**ROLLING, "observedGeneration": 2}))
    assert "├─ the operator has not acted on generation 3 yet\n" in shown
    assert "has not acted" not in drawn(body(ROLLING))
    assert "├─ it is being deleted\n" in drawn(body(ROLLING, deletionTimestamp="2030-01-01T01:59:00Z"))


def test_revisions_that_only_have_pods_left_are_shown_as_going() -> None:
    shown = drawn(body(ROLLING), raw_pod("pair-verifier-00000000-x", "00000000", **READY))
    assert "revision 00000000 (on its way out)" in shown


def test_colours_are_there_only_when_they_are_wanted() -> None:
    assert "\x1b" not in drawn(body(ROLLING), *PODS)
    coloured = drawn(body(ROLLING), *PODS, paint=COLOURED)
    assert "\x1b[31m✗\x1b[0m Ready" in coloured
    assert "\x1b[32m✓\x1b[0m Available" in coloured


def test_what_others_wrote_cannot_draw_on_the_terminal() -> None:
    hostile = {**ROLLING, "conditions": [condition("Ready", "False", "PodsFailing", "\x1b[2Jgone\nReady True")]}
    shown = drawn(body({**hostile, "coldStart": {"pod": "\x1b[2J", "total": "\x1b[2J1s"}}))
    assert "\x1b" not in shown
    assert "PodsFailing: gone Ready True\n" in shown


def ready(status: str, generation: int) -> Manifest:
    return {
        "observedGeneration": generation,
        "conditions": [condition("Ready", status, "R", "", generation=generation)],
    }


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (ready("True", 3), 0),
        (ready("False", 3), 1),
        (ready("Unknown", 3), 1),
        (ready("True", 2), 1),
        (ROLLING, 1),
        (None, 1),
    ],
)
def test_the_exit_code_says_whether_the_present_generation_is_ready(status: Manifest | None, code: int) -> None:
    assert exit_code_of(body(status)) == code


class Answers:
    """The user's cluster: what it answers by kind."""

    def __init__(self, **by_kind: Manifest | CommandError) -> None:
        self._by_kind = by_kind

    def get(self, kind: str, name: str = "", **query: str) -> Manifest:
        answer = self._by_kind[kind]
        if isinstance(answer, CommandError):
            raise answer
        return answer


def status_of(**by_kind: Manifest | CommandError) -> tuple[str, int]:
    return run_status(Answers(**by_kind), "pair", now=NOW, paint=PLAIN)  # type: ignore[arg-type]


def test_the_resource_and_its_pods_are_read_with_the_users_rights() -> None:
    bare = [{key: value for key, value in pod.items() if key not in {"apiVersion", "kind"}} for pod in PODS]
    shown, code = status_of(**{names.KIND: body(ROLLING), "Pod": {"items": bare}})
    assert shown == drawn(body(ROLLING), *PODS) + "\n"
    assert code == 1


def test_without_the_right_to_see_pods_the_rest_is_shown() -> None:
    shown, code = status_of(**{names.KIND: body(ready("True", 3)), "Pod": CommandError("Pod chat/: forbidden")})
    assert shown.splitlines()[-1] == "└─ pods are not shown: Pod chat/: forbidden"
    assert code == 0


def test_a_resource_that_is_not_there_is_an_error() -> None:
    with pytest.raises(CommandError, match="not found"):
        status_of(**{names.KIND: CommandError("LLMDeployment chat/pair: not found", exit_code=2)})


def test_a_program_reads_the_same_under_the_keys_that_the_help_tells() -> None:
    answers = {names.KIND: body(ROLLING), "Pod": {"items": PODS}}
    as_json, code = run_status(Answers(**answers), "pair", now=NOW, paint=COLOURED, form="json")  # type: ignore[arg-type]
    as_yaml, _ = run_status(Answers(**answers), "pair", now=NOW, paint=COLOURED, form="yaml")  # type: ignore[arg-type]
    document = json.loads(as_json)
    assert yaml.safe_load(as_yaml) == document
    assert code == 1
    assert untold(document, KEYS) == set()
    assert absent(document, KEYS) == set()
    assert document["ready"] is False
    first, second, *_ = document["conditions"]
    assert (first["type"], first["good"]) == ("Available", True)
    assert (second["type"], second["good"], second["reason"]) == ("Ready", False, "RollingOut")
    verifier, draft = document["roles"]
    assert (verifier["revision"], verifier["targetRevision"], verifier["failed"]) == (OLD, NEW, False)
    assert {pod["name"][-1]: pod["state"] for pod in verifier["pods"]} == {
        "a": "Ready",
        "b": "Ready",
        "c": "NotReady",
        "z": "Ended",
    }
    assert [pod["trouble"] for pod in verifier["pods"] if pod["revision"] == NEW] == [f"ImagePullBackOff: {NOT_FOUND}"]
    assert draft["summary"] == "1/1"
    assert document["cost"] == {"perHour": "13.76"}


def test_a_program_is_told_that_nothing_is_known() -> None:
    shown, code = run_status(
        Answers(**{names.KIND: body(), "Pod": CommandError("pods is forbidden")}),  # type: ignore[arg-type]
        "pair",
        now=NOW,
        paint=PLAIN,
        form="json",
    )
    document = json.loads(shown)
    assert code == 1
    assert (document["conditions"], document["roles"], document["observedGeneration"]) == ([], [], 0)
    assert document["notes"] == ["pods are not shown: pods is forbidden"]


@pytest.mark.parametrize(
    ("status", "reason", "good"),
    [("False", "NotLimited", True), ("True", "AtMaximum", False), ("True", "AtMinimum", True), ("Unknown", "", None)],
)
def test_a_program_is_told_which_conditions_are_good(status: str, reason: str, good: bool | None) -> None:
    limited = body({**ROLLING, "conditions": [condition("ScalingLimited", status, reason, "m")]})
    assert document_of(limited, [], notes=[])["conditions"][0]["good"] is good
