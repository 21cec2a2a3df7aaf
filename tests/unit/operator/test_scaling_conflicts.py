"""Others who write the replicas of our Deployments: they are told of, and left alone for ten minutes, once."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tandem_operator.facts import Ref
from tandem_operator.scaling_terms import HANDS_OFF_SECONDS, TakenOver, taken_over_in
from tests.unit.operator.scaling_site import MEMORY_PATH, Site, play

NOW = datetime(2030, 1, 1, tzinfo=UTC)
THEIRS = TakenOver(Ref("Deployment", "pair-verifier-deadbeef"), "hpa", NOW, 5)


def condition(site: Site) -> tuple[str, str]:
    status, reason, _ = site.world.condition("ScalingActive") or ("", "", "")
    return status, reason


@pytest.mark.parametrize("has_time", [True, False])
def test_replicas_that_somebody_else_has_written_are_left_alone_for_ten_minutes(has_time: bool) -> None:
    async def script(site: Site) -> None:
        await site.live(30)
        (path,) = site.verifier_deployments
        site.somebody_scales(path, 5, by="hpa", at=site.now if has_time else None)
        before = len(site.world.writes())
        await site.live(590)
        assert site.replicas == 5
        assert condition(site) == ("False", "ScalingConflict")
        assert "written by hpa" in site.world.condition("ScalingActive")[2]  # type: ignore[index]
        assert len([each for each in site.world.writes()[before:] if each.endswith(path)]) <= 1
        await site.live(600)
        assert condition(site) == ("True", "Deciding")

    play(script)


def test_another_operator_process_keeps_hands_off_for_the_rest_of_the_ten_minutes_alone() -> None:
    async def script(site: Site) -> None:
        await site.live(30)
        (path,) = site.verifier_deployments
        site.somebody_scales(path, 5)
        await site.live(300)
        await site.restart()
        await site.live(280)
        assert (condition(site), site.replicas) == (("False", "ScalingConflict"), 5)
        await site.live(40)
        assert condition(site) == ("True", "Deciding")

    play(script)


def test_what_somebody_has_written_long_ago_is_no_new_conflict_for_another_operator_process() -> None:
    async def script(site: Site) -> None:
        await site.live(30)
        (path,) = site.verifier_deployments
        site.somebody_scales(path, 5)
        await site.live(700)
        managers = [each["manager"] for each in site.world.server.objects[path]["metadata"]["managedFields"]]
        assert (managers, site.replicas) == (["tandem", "kubectl"], 5), "the value is both theirs and ours"
        await site.restart()
        site.running = 14.0
        await site.live(30)
        assert condition(site) == ("True", "Deciding")
        assert site.replicas == 6

    play(script)


def test_who_has_written_the_replicas_is_remembered_at_once() -> None:
    async def script(site: Site) -> None:
        await site.live(30)
        (path,) = site.verifier_deployments
        site.somebody_scales(path, 5)
        await site.live(5)
        remembered = json.loads(site.world.server.objects[MEMORY_PATH]["data"]["verifier"])
        assert (remembered["takenOver"]["by"], remembered["takenOver"]["replicas"]) == ("kubectl", 5)

    play(script)


@pytest.mark.parametrize(
    ("seconds", "lasts"),
    [(0, True), (HANDS_OFF_SECONDS, True), (HANDS_OFF_SECONDS + 1, False), (-5, True), (-3600, False)],
)
def test_they_are_theirs_for_so_long_and_no_longer_where_the_clock_is_set_back(seconds: float, lasts: bool) -> None:
    assert THEIRS.lasts(NOW + timedelta(seconds=seconds)) is lasts


def test_what_is_written_down_of_it_is_read_again() -> None:
    assert taken_over_in(json.loads(json.dumps(THEIRS.to_data()))) == THEIRS


@pytest.mark.parametrize(
    "spoilt",
    [
        None,
        [],
        {},
        {**THEIRS.to_data(), "at": "yesterday"},
        {**THEIRS.to_data(), "at": "2030-01-01T00:00:00"},
        {**THEIRS.to_data(), "at": 3},
        {**THEIRS.to_data(), "replicas": -1},
        {**THEIRS.to_data(), "replicas": "5"},
        {**THEIRS.to_data(), "by": None},
    ],
)
def test_what_somebody_has_spoilt_of_it_is_nothing(spoilt: Any) -> None:
    assert taken_over_in(spoilt) is None
