"""The last changes of replicas in status: of both roles, few, and only what scaling itself has written down."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tandem_operator.api.status import CHANGES_TOLD, REASON_LENGTH
from tandem_operator.facts import Manifest
from tandem_operator.scaling.decision import Decision
from tandem_operator.scaling.drafts import DraftDecision
from tandem_operator.scaling_status import Scaled, ScaledDrafts, told_of_scaling
from tandem_operator.timestamps import timestamp_of
from tests.unit.operator.drafts_world import make_draft_policy
from tests.unit.operator.scaling_site import Site, play
from tests.unit.operator.scaling_world import make_policy

NOW = datetime(2030, 1, 1, tzinfo=UTC)


def decided(minute: int, before: int, after: int) -> Manifest:
    """As it is remembered."""
    at = timestamp_of(NOW + timedelta(minutes=minute))
    return {"at": at, "from": before, "to": after, "reason": f"needs {after}", "inputs": {"waiting": "0"}}


def told(decisions: list[Any], drafts: list[Any] | None = None) -> list[Manifest]:
    """As the API server gets it."""
    scaled = Scaled(make_policy(), Decision(3, "needs 3"), decisions=decisions)
    if drafts is not None:
        of_drafts = ScaledDrafts(make_draft_policy(), DraftDecision(1, "needs 1"), decisions=drafts)
        scaled = Scaled(make_policy(), scaled.decision, decisions=decisions, drafts=of_drafts)
    status = told_of_scaling(scaled, {}, now=NOW).model_dump(mode="json", by_alias=True, exclude_none=True)
    found: list[Manifest] = status.get("changes", [])
    return found


def test_the_newest_of_either_role_comes_first() -> None:
    changes = told([decided(1, 1, 2), decided(3, 2, 4)], [decided(2, 0, 1)])
    assert changes == [
        {"at": "2030-01-01T00:03:00Z", "role": "verifier", "from": 2, "to": 4, "reason": "needs 4"},
        {"at": "2030-01-01T00:02:00Z", "role": "draft", "from": 0, "to": 1, "reason": "needs 1"},
        {"at": "2030-01-01T00:01:00Z", "role": "verifier", "from": 1, "to": 2, "reason": "needs 2"},
    ]


def test_only_the_last_ones_are_told() -> None:
    changes = told([decided(minute, minute, minute + 1) for minute in range(20)], [decided(30, 0, 1)])
    assert [each["to"] for each in changes] == [1, *range(20, 21 - CHANGES_TOLD, -1)]


def test_without_a_change_there_is_nothing_to_tell() -> None:
    assert told([]) == []


@pytest.mark.parametrize(
    "spoilt",
    [
        {},
        {**decided(2, 2, 3), "at": None},
        {**decided(2, 2, 3), "at": "x" * 33},
        {**decided(2, 2, 3), "from": -1},
        {**decided(2, 2, 3), "to": 10**30},
        {**decided(2, 2, 3), "to": "many"},
        {**decided(2, 2, 3), "reason": "\ud800"},
    ],
)
def test_what_somebody_has_spoilt_in_the_memory_is_left_out(spoilt: Manifest) -> None:
    assert [each["to"] for each in told([decided(1, 1, 2), spoilt])] == [2]


@pytest.mark.parametrize(("reason", "length"), [("x" * 5000, REASON_LENGTH), (None, 0)])
def test_whatever_somebody_has_made_of_a_reason_the_api_server_takes(reason: str | None, length: int) -> None:
    (change,) = told([{**decided(1, 1, 2), "reason": reason}])
    assert len(change["reason"]) == length


def test_each_change_is_in_status_as_soon_as_it_is_decided_and_after_a_restart() -> None:
    async def script(site: Site) -> None:
        await site.live(30)
        assert "changes" not in site.told
        site.running = 14.0
        await site.live(60)
        changes = site.told["changes"]
        assert (changes[0]["role"], changes[0]["to"], site.told["desiredVerifiers"]) == ("verifier", 6, 6)
        assert [each["from"] for each in changes] == [each["to"] for each in changes[1:]] + [2]
        await site.restart()
        await site.live(400)
        assert site.told["changes"] == changes

    play(script)
