"""What `tandem why` prints: the decision, what speaks for it, and the last changes."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
import yaml

from tandem_operator import names
from tandem_operator.cli.inputs import CommandError
from tandem_operator.cli.screen import Paint
from tandem_operator.cli.why import KEYS, run_why
from tandem_operator.facts import Manifest
from tests.builders import NAME, make_body, make_spec
from tests.unit.operator.documents_written import absent, untold

SCALED = make_spec(autoscaling={"slo": {"timeToFirstToken": "2s"}, "verifier": {"maxReplicas": 4}})
TOLD = {"desiredVerifiers": 3, "reason": "needs 3: 9.0 requests/s"}
DECISION = {
    "at": "2030-01-01T00:10:00Z",
    "from": 2,
    "to": 3,
    "reason": "needs 3: 9.0 requests/s",
    "inputs": {"requests": "9.00", "surge": "1.50", "capacity": "4.20", "samples": "240", "firstToken": "97.1"},
}


INPUTS = (
    "      9.00 requests/s arrive, 1.50/s more within a cold start, a replica does 4.20/s, "
    "learned from 240 samples of its steps, 97.1 % of first tokens in time"
)


class Cluster:
    """Answers as a `Connection` does."""

    namespace = "chat"

    def __init__(self, body: Manifest, memory: Manifest | None) -> None:
        self.body, self.memory = body, memory

    def get(self, kind: str, name: str = "", **_: str) -> Manifest:
        if kind == names.KIND:
            return self.body
        assert (kind, name) == ("ConfigMap", f"{NAME}-scaling")
        if self.memory is None:
            raise CommandError("configmaps is forbidden")
        return self.memory


NOW = datetime(2030, 1, 1, 1, tzinfo=UTC)


def why(spec: Manifest, *, status: Any = None, memory: Any = None, drafts: Any = None, **metadata: Any) -> str:
    body = {**make_body(spec, **metadata), "status": status or {}}
    found = (
        None if memory is None else {"data": {"verifier": memory if isinstance(memory, str) else json.dumps(memory)}}
    )
    if found and drafts:
        found["data"]["draft"] = json.dumps(drafts)
    return run_why(Cluster(body, found), NAME, now=NOW)  # type: ignore[arg-type]


def test_the_decision_comes_first_then_conditions_then_changes_with_their_inputs() -> None:
    conditions = [
        {"type": "Ready", "status": "True", "reason": "RolledOut"},
        {"type": "ScalingActive", "status": "True", "reason": "Deciding"},
    ]
    older = {**DECISION, "at": "2030-01-01T00:05:00Z", "from": 1, "to": 2}
    said = why(SCALED, status={"scaling": TOLD, "conditions": conditions}, memory={"decisions": [older, DECISION]})
    assert said.splitlines() == [
        "3 verifiers: needs 3: 9.0 requests/s",
        "  ScalingActive True (Deciding)",
        "last changes, the newest first:",
        "  2030-01-01T00:10:00Z  2 → 3  needs 3: 9.0 requests/s",
        INPUTS,
        "  2030-01-01T00:05:00Z  1 → 2  needs 3: 9.0 requests/s",
        INPUTS,
    ]


def test_the_last_ten_changes_are_printed() -> None:
    many = [{**DECISION, "from": number, "to": number + 1} for number in range(15)]
    changes = why(SCALED, status={"scaling": TOLD}, memory={"decisions": many}).splitlines()[2:]
    assert [line.split()[1:4] for line in changes[::2]] == [[f"{n}", "→", f"{n + 1}"] for n in range(14, 4, -1)]


def test_drafts_have_a_decision_and_changes_of_their_own() -> None:
    told = {**TOLD, "desiredDrafts": 2, "draftReason": "needs 2: 1900 tokens/s are asked for, a draft gives 2000"}
    inputs = {"verifiers": "4", "tokens": "1900", "tokenCapacity": "2000", "late": "0.3"}
    change = {"at": "2030-01-01T00:10:00Z", "from": 1, "to": 2, "reason": "needs 2", "inputs": inputs}
    said = why(SCALED, status={"scaling": told}, memory={"decisions": [DECISION]}, drafts={"decisions": [change]})
    assert said.splitlines()[:2] == [
        "3 verifiers: needs 3: 9.0 requests/s",
        "2 drafts: needs 2: 1900 tokens/s are asked for, a draft gives 2000",
    ]
    assert said.splitlines()[-3:] == [
        "last changes of drafts, the newest first:",
        "  2030-01-01T00:10:00Z  1 → 2  needs 2",
        "      4 Ready verifiers, 1900 tokens/s are asked of drafts, a draft gives 2000, 0.3 % of steps wait in vain",
    ]


@pytest.mark.parametrize(
    ("cost", "line"),
    [
        ({"perHour": "13.76"}, "  costs 13.76 dollars an hour"),
        (
            {"perHour": "13.76", "perMillionTokens": "0.09", "perMillionOutputTokens": "0.43"},
            "  costs 13.76 dollars an hour, 0.09 a million tokens, 0.43 a million of answers",
        ),
        (None, None),
        ("free", None),
        ({"perMillionTokens": "0.09"}, None),
    ],
)
def test_what_it_costs_is_said_where_it_is_known(cost: Any, line: str | None) -> None:
    lines = why(SCALED, status={"scaling": {**TOLD, "cost": cost}}, memory={}).splitlines()
    assert lines[1:] == ([line] if line else [])


@pytest.mark.parametrize(
    ("updated", "line"),
    [
        ("2030-01-01T00:59:00Z", None),
        ("2030-01-01T00:58:59Z", "  these figures are 1 minute old"),
        ("2030-01-01T00:55:01Z", "  these figures are 4 minutes old"),
        ("2029-12-31T22:00:00Z", "  these figures are 3 hours old"),
        ("2029-12-29T00:00:00Z", "  these figures are 3 days old"),
        ("2031-01-01T00:00:00Z", None),
        ("2030-01-01T00:00:00", None),
        ("yesterday", None),
        (None, None),
    ],
)
def test_figures_that_are_not_new_have_their_age(updated: str | None, line: str | None) -> None:
    lines = why(SCALED, status={"scaling": {**TOLD, "updated": updated}}, memory={}).splitlines()
    assert lines[1:] == ([line] if line else [])


def test_a_decision_from_before_the_spec_was_changed_is_told_as_one() -> None:
    lines = why(SCALED, status={"scaling": TOLD, "observedGeneration": 4}, memory={}, generation=5).splitlines()
    assert lines[0] == "the operator has not acted on generation 5 yet; before that:"
    assert lines[1].startswith("3 verifiers: ")
    assert why(SCALED, status={"scaling": TOLD, "observedGeneration": 5}, memory={}, generation=5).startswith("3 ver")


def test_a_number_that_somebody_has_scaled_to_is_said_to_count_only_without_autoscaling() -> None:
    fields = {"f:spec": {"f:verifier": {"f:replicas": {}}}}
    scale = {"manager": "kubectl", "operation": "Update", "subresource": "scale", "fieldsV1": fields}
    scaled = {**SCALED, "verifier": {**SCALED["verifier"], "replicas": 7}}
    assert why(scaled, status={"scaling": TOLD}, memory={}, managedFields=[scale]).splitlines()[1:] == [
        "kubectl has set spec.verifier.replicas to 7, which counts only once spec.autoscaling is taken out: until then "
        "its minReplicas and maxReplicas bound the verifiers (told until another value is applied or patched to that "
        "field)"
    ]


def test_without_autoscaling_the_spec_is_the_reason() -> None:
    assert why(make_spec()) == f"{NAME} has no spec.autoscaling: spec.verifier.replicas says how many, 1\n"


@pytest.mark.parametrize("memory", ["", "no JSON", "[]", '{"decisions": 3}', '{"decisions": [3, {"inputs": 7}]}'])
def test_a_memory_that_somebody_has_spoilt_is_no_error(memory: str) -> None:
    assert why(SCALED, status={"scaling": TOLD}, memory=memory).startswith("3 verifiers: needs 3")


def test_what_may_not_be_read_is_said_and_the_rest_is_shown() -> None:
    said = why(SCALED, status={"scaling": TOLD})
    assert "its last changes are not shown: configmaps is forbidden" in said
    assert "nothing is decided yet" in why(SCALED)


def document(spec: Manifest, *, status: Any = None, memory: Any = None, form: str = "json") -> Any:
    body = {**make_body(spec), "status": status or {}}
    found = None if memory is None else {"data": {role: json.dumps(each) for role, each in memory.items()}}
    said = run_why(Cluster(body, found), NAME, now=NOW, form=form)  # type: ignore[arg-type]
    return json.loads(said) if form == "json" else yaml.safe_load(said)


def test_a_program_reads_the_same_under_the_keys_that_the_help_tells() -> None:
    status = {
        "scaling": {
            **TOLD,
            "desiredDrafts": 1,
            "draftReason": "needs 1",
            "updated": "2030-01-01T00:59:00Z",
            "cost": {"perHour": "1"},
        },
        "conditions": [{"type": "ScalingActive", "status": "True", "reason": "Deciding"}],
    }
    older = {**DECISION, "at": "2030-01-01T00:05:00Z"}
    memory = {"verifier": {"decisions": [older, DECISION]}, "draft": {"decisions": []}}
    told = document(SCALED, status=status, memory=memory)
    assert told == document(SCALED, status=status, memory=memory, form="yaml")
    assert untold(told, KEYS) == set()
    assert absent(told, KEYS) == set()
    assert (told["autoscaled"], told["verifier"]["desired"], told["draft"]["desired"]) == (True, 3, 1)
    assert [each["at"] for each in told["verifier"]["changes"]] == [DECISION["at"], older["at"]]
    assert told["verifier"]["changes"][0]["inputs"] == DECISION["inputs"]


def test_a_program_is_told_what_is_not_known() -> None:
    told = document(SCALED)
    assert (told["verifier"]["desired"], told["draft"], told["updated"]) == (None, None, None)
    assert told["notes"] == ["its last changes are not shown: configmaps is forbidden"]
    by_hand = document(make_spec(verifier={**make_spec()["verifier"], "replicas": 4}))
    assert by_hand["autoscaled"] is False
    assert by_hand["verifier"] == {"desired": 4, "reason": "spec.verifier.replicas", "changes": []}


def test_colours_are_there_only_when_they_are_wanted() -> None:
    body = {**make_body(SCALED), "status": {"scaling": TOLD}}
    cluster = Cluster(body, {"data": {"verifier": json.dumps({"decisions": [DECISION]})}})
    coloured = run_why(cluster, NAME, now=NOW, paint=Paint(is_on=True))  # type: ignore[arg-type]
    assert coloured.startswith("\x1b[1m3 verifiers\x1b[0m: needs 3")
    assert "\x1b" not in run_why(cluster, NAME, now=NOW)  # type: ignore[arg-type]
