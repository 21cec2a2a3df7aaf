"""How often whole passes write, of scaling: every five minutes at constant load, and hardly more near a target."""

from __future__ import annotations

import pytest
from aiohttp import web

from tandem_contracts import metrics
from tests.builders import KEY, NAMESPACE
from tests.unit.operator.reconcile_world import NOW
from tests.unit.operator.scaling_site import SCALED, Site, play

ENDED = 10.0
"""Requests of each pod between two passes."""


class Flapping(Site):
    """Pods that keep the target for all requests and for too few of them by turns, each for `period` seconds."""

    ended = in_time = 0.0
    period = 70.0

    def work(self) -> None:
        is_kept = (self.now - NOW).total_seconds() // self.period % 2 == 0
        self.ended += ENDED
        self.in_time += ENDED * (1.0 if is_kept else 0.9)

    async def page(self, request: web.Request) -> web.Response:
        plain, family = await super().page(request), metrics.ENGINE_FIRST_TOKEN_SECONDS
        counts = {
            f'{family}_bucket{{le="1.0"}}': 0.0,
            f'{family}_bucket{{le="2.0"}}': self.in_time,
            f'{family}_bucket{{le="+Inf"}}': self.ended,
            f"{family}_count": self.ended,
            f"{family}_sum": self.ended,
            metrics.ENGINE_FINISHED: self.ended,
        }
        text = f"{plain.text}" + "".join(f"{series} {value}\n" for series, value in counts.items())
        return web.Response(text=text, status=plain.status)


def test_constant_load_is_written_down_every_five_minutes_and_no_more() -> None:
    async def script(site: Site) -> None:
        await site.live(400)
        before = len(site.world.writes())
        await site.live(1200)
        written = site.world.writes()[before:]
        assert len([each for each in written if "/status" in each]) <= 4
        assert len([each for each in written if "configmaps" in each]) <= 4
        assert len(written) <= 8

    play(script)


@pytest.mark.parametrize("period", [45.0, 70.0, 150.0])
def test_a_target_that_comes_and_goes_is_written_down_hardly_more_often_after_a_change_too(period: float) -> None:
    async def script(site: Flapping) -> None:
        site.period, site.running = period, 14.0
        await site.live(60)
        assert site.replicas == 6
        targets, before = set(), len(site.world.writes())
        for _ in range(120):
            await site.live(5)
            targets.add(site.told["target"])
        written = [each for each in site.world.writes()[before:] if "/status" in each]
        assert targets == {"Met", "Missed"}
        assert len(written) <= 2 + 2, "every five minutes, and two pieces of news"

    play(script, make=Flapping)


def derate(site: Site) -> float:
    return site.world.reconciler._scalings._scaled[KEY].memory.derate


def test_that_another_target_is_missed_is_told_in_the_next_pass() -> None:
    async def script(site: Flapping) -> None:
        site.period = float("inf")  # kept, each request within 2 s, and none within 1 s
        await site.live(1000)
        assert site.told["target"] == "Met"
        slo = {**SCALED["autoscaling"]["slo"], "timeToFirstToken": "1s"}
        site.world.user_writes({**SCALED, "autoscaling": {**SCALED["autoscaling"], "slo": slo}}, generation=2)
        await site.world.reconciler.fill(NAMESPACE)
        await site.live(5)
        assert site.told["target"] == "Missed"
        await site.live(300)
        assert derate(site) < 0.9, "less is counted on"
        site.world.user_writes(SCALED, generation=3)
        await site.world.reconciler.fill(NAMESPACE)
        await site.live(5)
        assert derate(site) == 1.0, "for what another target asked"

    play(script, make=Flapping)
