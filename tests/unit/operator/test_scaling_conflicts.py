"""Others who write the replicas of our Deployments: they are told of, and left alone for ten minutes, once."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tandem_contracts.launch import Role
from tandem_operator.facts import Facts, Ref, WorkloadFacts
from tandem_operator.scaling.policy import Bounds
from tandem_operator.scaling_terms import HANDS_OFF_SECONDS, TakenOver, taken_over, taken_over_in
from tests.builders import NAMESPACE, make_workload
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


def test_who_writes_into_the_memory_that_somebody_has_scaled_gets_no_more_replicas() -> None:
    async def script(site: Site) -> None:
        await site.live(30)
        (path,) = site.verifier_deployments
        there = site.world.server.objects[MEMORY_PATH]
        forged = TakenOver(Ref("Deployment", path.rpartition("/")[2]), "kubectl", site.now, 50)
        remembered = {**json.loads(there["data"]["verifier"]), "takenOver": forged.to_data()}
        site.world.server.put(MEMORY_PATH, {**there, "data": {"verifier": json.dumps(remembered)}})
        await site.restart()
        await site.world.reconciler.fill(NAMESPACE)
        await site.live(30)
        assert (condition(site), site.replicas) == (("True", "Deciding"), 2)

    play(script)


@pytest.mark.parametrize(
    ("seconds", "lasts"),
    [(0, True), (HANDS_OFF_SECONDS, True), (HANDS_OFF_SECONDS + 1, False), (-5, True), (-3600, False)],
)
def test_they_are_theirs_for_so_long_and_no_longer_where_the_clock_is_set_back(seconds: float, lasts: bool) -> None:
    assert THEIRS.lasts(NOW + timedelta(seconds=seconds)) is lasts


def seen(*workloads: WorkloadFacts, before: TakenOver | None = None, later: float = 0.0) -> TakenOver | None:
    """Who is found to have written replicas, so many seconds after NOW."""
    now = NOW + timedelta(seconds=later)
    return taken_over(Facts(workloads=workloads), before, now=now, role=Role.VERIFIER)


def workload(at: datetime | None = None, **parts: Any) -> WorkloadFacts:
    """Whose replicas somebody else has written."""
    return replace(
        make_workload(Role.VERIFIER, "deadbeef"), **{"wanted": 5, "scaled_by": "hpa", "scaled_at": at, **parts}
    )


def test_a_deployment_that_goes_or_drains_is_nobodys_to_scale() -> None:
    assert seen(workload()) is not None
    assert seen(workload(is_going=True)) is None
    assert seen(workload(draining_since=NOW)) is None


def test_who_writes_the_same_number_again_gets_ten_minutes_more() -> None:
    first = seen(workload(NOW), later=1)
    assert first is not None
    assert seen(workload(NOW), before=first, later=500) == first
    again = seen(workload(NOW + timedelta(seconds=300)), before=first, later=500)
    assert again == replace(first, at=NOW + timedelta(seconds=300))


def test_another_number_or_somebody_else_is_a_new_writing_without_a_time_too() -> None:
    first = seen(workload())
    assert first is not None
    assert seen(workload(), before=first, later=500) == first
    then = NOW + timedelta(seconds=500)
    assert seen(workload(wanted=4), before=first, later=500) == replace(first, at=then, replicas=4)
    assert seen(workload(scaled_by="kubectl"), before=first, later=500) == replace(first, at=then, by="kubectl")


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


class Autoscaler(Site):
    """One beside somebody else's autoscaler, which every 15 seconds wants five and nothing else."""

    fights, has_time = False, False
    times: Sequence[datetime] = ()

    def work(self) -> None:
        if not self.fights or self.now.second % 15:
            return
        (path,) = self.verifier_deployments
        if self.world.server.objects[path]["spec"]["replicas"] != 5:
            self.somebody_scales(path, 5, by="hpa", at=self.now if self.has_time else None)
            self.times = [*self.times, self.now]


@pytest.mark.parametrize("has_time", [True, False])
def test_an_autoscaler_that_stays_has_the_replicas_for_ever_longer(*, has_time: bool) -> None:
    async def script(site: Autoscaler) -> None:
        await site.live(30)
        site.fights, site.has_time = True, has_time
        await site.live(80 * 60)
        between = [round((b - a).total_seconds() / 60) for a, b in itertools.pairwise(site.times)]
        assert len(between) >= 2
        assert all(longer >= 1.5 * shorter for shorter, longer in itertools.pairwise(between)), between
        assert condition(site)[1] == "ScalingConflict"

    play(script, make=Autoscaler)


def test_an_autoscaler_that_writes_again_within_its_time_has_no_more_of_it() -> None:
    first = TakenOver(Ref("Deployment", "x"), "hpa", NOW, 5)
    soon, late = NOW + timedelta(seconds=300), NOW + timedelta(seconds=900)
    assert replace(first, at=soon, replicas=6).again(first).seconds == HANDS_OFF_SECONDS
    twice = replace(first, at=late).again(first)
    assert twice.seconds == 2 * HANDS_OFF_SECONDS
    assert "; 20 minutes later the load decides again" in twice.told(Bounds(1, 9))
    assert replace(first, at=NOW + timedelta(days=2)).again(twice).seconds == HANDS_OFF_SECONDS
    assert replace(first, at=late, by="kubectl").again(replace(first, by="kubectl")).seconds == HANDS_OFF_SECONDS
    assert replace(first, at=late, by="keda").again(first).seconds == HANDS_OFF_SECONDS


@pytest.mark.parametrize(
    ("written", "seconds"), [(1200.0, 1200.0), (None, 600.0), (1e9, 600.0), ("x", 600.0), (5, 600)]
)
def test_for_how_long_is_written_down_and_only_believed_within_its_range(written: Any, seconds: float) -> None:
    found = taken_over_in({**THEIRS.to_data(), "seconds": written})
    assert found == replace(THEIRS, seconds=seconds)
