"""Who reads which deployment, and that one which changes sides is counted on as if nothing had been."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import pytest
from aiohttp import web

from tandem_contracts import metrics
from tandem_operator.config import PrometheusConfig
from tandem_operator.engine_readings import EngineReadings
from tandem_operator.prometheus_readings import PrometheusReadings
from tandem_operator.readings_source import SharedReadings, readings_by
from tandem_operator.scaling.flow import Flow, flowed
from tandem_operator.scaling.observed import Observed, Pod
from tandem_operator.scaling.reading import Reading
from tandem_operator.store import Key
from tests.builders import KEY, make_config
from tests.unit.operator.test_prometheus_readings import vector

OTHER = Key("chat", "other")
RATE = 3.0
"""Requests a second that each pod ends."""
SCRAPE_SECONDS = 15.0


@dataclass
class Site:
    """Pods whose pages tell of now, and a Prometheus that tells of its last scrape."""

    now: float = 1000.0
    asked: list[str] = field(default_factory=list)
    readings: SharedReadings = field(init=False)

    async def page(self, request: web.Request) -> web.Response:
        self.asked.append(request.host.partition(":")[0])
        return web.Response(text="".join(f"{name} {value}\n" for name, value in self._told(self.now)))

    async def query(self, request: web.Request) -> web.Response:
        self.asked.append("prometheus")
        query = str((await request.post())["query"])
        pods = query.partition('pod=~"')[2].partition('"')[0].split("|")
        scraped = self.now // SCRAPE_SECONDS * SCRAPE_SECONDS
        found = [({"__name__": name, "pod": pod}, value) for pod in pods for name, value in self._told(scraped)]
        found += [({"pod": pod, "tandem_scraped": "1"}, scraped) for pod in pods]
        result = [{"metric": labels, "value": [self.now, str(value)]} for labels, value in found]
        return web.json_response(vector(result))

    def _told(self, at: float) -> list[tuple[str, float]]:
        return [(metrics.ENGINE_RUNNING, 2.0), (metrics.ENGINE_WAITING, 0.0), (metrics.ENGINE_FINISHED, RATE * at)]

    async def read(self, pods: int, key: Key = KEY) -> dict[str, Reading]:
        """What there is of so many pods, once all that was due has been read; who was asked is in `asked`."""
        self.asked.clear()
        addresses = {f"p{i}": f"127.0.0.{i + 1}" for i in range(pods)}
        self.readings.latest(key, addresses)
        for source in (self.readings._at_pods, self.readings._prometheus):
            await source.settle(key)  # type: ignore[attr-defined]
        return self.readings.latest(key, addresses)

    def side(self) -> str:
        return "prometheus" if "prometheus" in self.asked else "pods" if self.asked else "nobody"


def play(script: Callable[[Site], Awaitable[None]], *, most_pods: int) -> None:
    async def main() -> None:
        site = Site()
        application = web.Application()
        application.router.add_get("/metrics", site.page)
        application.router.add_post("/api/v1/query", site.query)
        runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "0.0.0.0", 0).start()  # noqa: S104 -- pods have addresses of their own in 127.0.0.0/8
        port = runner.addresses[0][1]
        prometheus = PrometheusConfig(address=f"http://127.0.0.1:{port}")
        site.readings = SharedReadings(
            EngineReadings(port=port, clock=lambda: site.now),
            PrometheusReadings(prometheus, clock=lambda: site.now),
            most_pods=most_pods,
        )
        try:
            await script(site)
        finally:
            await site.readings.close()
            await runner.cleanup()

    asyncio.run(main())


def test_pods_are_read_by_the_operator_itself_while_they_are_not_too_many() -> None:
    async def script(site: Site) -> None:
        assert len(await site.read(2)) == 2
        assert (site.side(), site.readings.interval_seconds(KEY)) == ("pods", 5.0)
        assert len(await site.read(3)) == 3
        assert (site.side(), site.readings.interval_seconds(KEY)) == ("prometheus", 15.0)
        assert len(await site.read(1)) == 1
        assert (site.side(), site.readings.interval_seconds(KEY)) == ("pods", 5.0)

    play(script, most_pods=2)


@pytest.mark.parametrize("most_pods", [5, 0])
def test_pods_are_read_on_where_the_clock_was_set_back(most_pods: int) -> None:
    async def script(site: Site) -> None:
        site.now = 100_000.0
        await site.read(1)
        for _ in range(2):
            site.now -= 3600
            found = await site.read(1)
            assert [each.at <= site.now for each in found.values()] == [True], "what is told is new"

    play(script, most_pods=most_pods)


def test_it_is_the_pods_of_all_deployments_that_must_not_be_too_many() -> None:
    async def script(site: Site) -> None:
        await site.read(2)
        assert site.side() == "pods"
        await site.read(2, OTHER)
        assert site.side() == "prometheus"
        site.readings.forget(KEY)
        await site.read(2, OTHER)
        assert site.side() == "pods"

    play(script, most_pods=3)


def test_those_that_are_read_from_prometheus_push_no_other_there() -> None:
    async def script(site: Site) -> None:
        await site.read(4, OTHER)
        assert site.side() == "prometheus"
        await site.read(2)
        assert site.side() == "pods"

    play(script, most_pods=3)


def test_none_at_the_pods_where_the_administrator_says_so() -> None:
    async def script(site: Site) -> None:
        await site.read(1)
        assert site.side() == "prometheus"

    play(script, most_pods=0)


@pytest.mark.parametrize("every", [1, 3, 7])
def test_a_deployment_that_changes_sides_is_neither_counted_twice_nor_lost_sight_of(every: int) -> None:
    """Between two and three pods, with two that may be read at their pods: each change is a change of sides."""

    async def script(site: Site) -> None:
        flow, before, sides = Flow(), dict[str, Reading](), set[str]()
        for tick in range(120):
            site.now += 5.0
            pods = 2 + tick // every % 2
            readings = await site.read(pods)
            sides.add(site.side())
            there = tuple(Pod(f"p{i}", "a", 0.0, 0.0) for i in range(pods))
            interval = site.readings.interval_seconds(KEY)
            seen = Observed(site.now, pods, there, readings, interval)
            assert all(seen.is_fresh(f"p{i}") for i in range(2)), "two pods were there all the time"
            assert all(readings[name].at >= earlier.at for name, earlier in before.items() if name in readings)
            first = {"p0": readings["p0"]}
            flow = flowed(flow, Observed(site.now, 1, there[:1], first, interval), before=before, history_seconds=60)
            before = first
        assert sides >= {"pods", "prometheus"}
        counted = [each for each in flow.arrivals if each.begin < each.end - 1]
        assert all(earlier.end == later.begin for earlier, later in pairwise(counted))
        assert sum(each.count for each in counted) == pytest.approx(RATE * (counted[-1].end - counted[0].begin))

    play(script, most_pods=2)


@pytest.mark.parametrize(
    ("settings", "kind"),
    [
        ({}, EngineReadings),
        ({"prometheus": {"abovePods": 3}}, EngineReadings),
        ({"prometheus": {"address": "http://prometheus:9090"}}, SharedReadings),
    ],
)
def test_without_an_address_of_prometheus_there_is_nobody_else_to_ask(settings: Any, kind: type) -> None:
    assert isinstance(readings_by(make_config(**settings)), kind)
