"""When Prometheus is asked, and for what: seldom, once at a time, and for all that a page is read for."""

from __future__ import annotations

import re
from typing import Any

from tandem_operator.prometheus_readings import READ_EVERY_SECONDS, PrometheusReadings
from tandem_operator.scaling.reading import reading_in
from tests.builders import KEY
from tests.unit.operator.test_prometheus_readings import POD, Prometheus, healthy, play, read, scraped, vector
from tests.unit.operator.test_scaling_reading import PAGE


def test_it_is_asked_every_fifteen_seconds_and_not_in_each_pass() -> None:
    async def script(readings: PrometheusReadings, server: Prometheus) -> None:
        asked = []
        for _ in range(7):
            await read(readings)
            await readings.settle(KEY)
            asked.append(len(server.queries))
            server.now += READ_EVERY_SECONDS / 3
        assert asked == [1, 1, 1, 2, 2, 2, 3]

    play(healthy, script)


def test_a_prometheus_that_has_not_answered_yet_is_not_asked_again() -> None:
    async def script(readings: PrometheusReadings, server: Prometheus) -> None:
        server.may_answer.clear()
        for _ in range(3):
            assert readings.latest(KEY, {POD: "10.0.0.7"}) == {}
            await server.is_asked.wait()
            server.now += READ_EVERY_SECONDS
        server.may_answer.set()
        await readings.settle(KEY)
        assert len(server.queries) == 1
        await read(readings)
        assert len(server.queries) == 2

    play(healthy, script)


def test_the_series_that_it_is_asked_for_are_all_that_a_page_is_read_for() -> None:
    def answer(query: str) -> Any:
        """As Prometheus does it: names match from their first letter to the last."""
        wanted = query.partition('__name__=~"')[2].partition('"')[0]
        found = [each for each in scraped() if re.fullmatch(wanted, each["metric"].get("__name__", ""))]
        return vector([*found, *(each for each in scraped() if "tandem_scraped" in each["metric"])])

    async def script(readings: PrometheusReadings, _: Prometheus) -> None:
        reading = await read(readings)
        assert reading == reading_in(PAGE, at=1699.5)
        assert len(reading.first_token.bounds) == 3

    play(answer, script)
