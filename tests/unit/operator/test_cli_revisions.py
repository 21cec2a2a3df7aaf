"""`tandem rollback`: which revision it goes back to, and that the spec then asks for exactly that revision."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tandem_contracts.launch import Role
from tandem_operator.cli.inputs import CommandError
from tandem_operator.cli.revisions import chosen_revision, rolled_back
from tandem_operator.facts import Facts, Manifest, RevisionFacts
from tests.builders import make_config, make_role, make_spec
from tests.unit.operator.rollouts import started
from tests.unit.operator.simulation import Operator

FIRST, SECOND, THIRD = (
    RevisionFacts(Role.VERIFIER, name, number, {}, {}, {}) for number, name in enumerate(("one", "two", "three"), 1)
)
DRAFT = RevisionFacts(Role.DRAFT, "draft", 9, {}, {}, {})
FACTS = Facts(revisions=(FIRST, SECOND, THIRD, DRAFT))


@pytest.mark.parametrize(
    ("facts", "present", "asked", "chosen"),
    [
        (FACTS, "three", None, "two"),
        (FACTS, "two", None, "three"),
        (FACTS, "three", "one", "one"),
        (FACTS, "", None, "three"),
        (replace(FACTS, revisions=(FIRST, replace(SECOND, failed="late"), THIRD)), "three", None, "one"),
    ],
)
def test_a_rollback_goes_to_the_newest_other_revision_or_the_named_one(
    facts: Facts, present: str, asked: str | None, chosen: str
) -> None:
    assert chosen_revision(facts, Role.VERIFIER, present=present, revision=asked).revision == chosen


@pytest.mark.parametrize("asked", ["draft", "nonsense"])
def test_an_unknown_revision_is_refused_with_those_there_are(asked: str) -> None:
    with pytest.raises(CommandError, match=f"--to .is {asked}.: must be .* there are: two, one"):
        chosen_revision(FACTS, Role.VERIFIER, present="three", revision=asked)


def test_without_an_earlier_revision_there_is_nothing_to_go_back_to() -> None:
    with pytest.raises(CommandError, match="there are: none"):
        chosen_revision(Facts(revisions=(FIRST,)), Role.VERIFIER, present="one", revision=None)


def _target(operator: Operator, role: Role) -> str:
    return operator.intent(operator.facts()).wants[role].target.revision


@pytest.mark.parametrize(
    ("role", "before", "after"),
    [
        (Role.VERIFIER, make_spec(), make_spec(verifier=make_role("other", replicas=4))),
        (Role.VERIFIER, make_spec(), make_spec(servedName="renamed")),
        (Role.VERIFIER, make_spec(), make_spec(speculation={"method": "NGram", "maxDepth": 2})),
        (Role.VERIFIER, make_spec(draft=None, speculation={"method": "Off"}), make_spec()),
        (Role.VERIFIER, make_spec(verifier=make_role(image="x:1")), make_spec()),
        (Role.DRAFT, make_spec(), make_spec(draft=make_role("other"))),
    ],
)
def test_after_a_rollback_the_spec_asks_for_the_former_revision(role: Role, before: Manifest, after: Any) -> None:
    operator = started(before)
    operator.config = make_config(engineImageAllowList=[".*"])
    operator.converge()
    former = operator.intent(operator.facts()).wants[role].target
    operator.change_spec(after)
    operator.converge()
    assert _target(operator, role) != former.revision
    back = rolled_back(operator.body["spec"], role, former.requested)
    assert back[role].get("replicas") == after[role].get("replicas")
    operator.change_spec(back)
    assert _target(operator, role) == former.revision
