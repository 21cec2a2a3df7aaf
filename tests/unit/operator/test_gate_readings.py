"""A gate is idle only if each of its pods has said so, twice in a row."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from aiohttp import web

from tandem_contracts import metrics
from tandem_operator.gate_readings import READ_EVERY_SECONDS, GateReadings
from tests.builders import KEY
from tests.unit.operator.scaling_site import serving

ONE, BOTH = {"a": "127.0.0.1"}, {"a": "127.0.0.1", "b": "127.0.0.2"}


class Gates:
    """Pods of a gate, by their addresses, and what reads them."""

    def __init__(self) -> None:
        self.held = dict.fromkeys(BOTH.values(), 0)
        self.silent: set[str] = set()
        self.now = 100.0
        self.readings: GateReadings

    async def page(self, request: web.Request) -> web.Response:
        address = request.host.partition(":")[0]
        text = f"{metrics.GATE_HELD} {self.held[address]}\n{metrics.GATE_ANSWERING} 0\n"
        return web.Response(text=text, status=503 if address in self.silent else 200)

    async def read(self, addresses: dict[str, str]) -> bool:
        """Whether it is idle, after another reading."""
        self.now += READ_EVERY_SECONDS
        self.readings.latest(KEY, addresses)
        await self.readings.settle(KEY)
        return self.readings.is_idle(KEY)


def play(script: Callable[[Gates], Awaitable[None]]) -> None:
    async def main() -> None:
        gates = Gates()
        runner = await serving(gates.page)
        gates.readings = GateReadings(port=runner.addresses[0][1], clock=lambda: gates.now)
        try:
            await script(gates)
        finally:
            await gates.readings.close()
            await runner.cleanup()

    asyncio.run(main())


def test_one_reading_without_a_request_is_not_enough() -> None:
    async def script(gates: Gates) -> None:
        assert [await gates.read(ONE) for _ in range(3)] == [False, True, True]
        gates.held["127.0.0.1"] = 2
        assert not await gates.read(ONE)
        gates.held["127.0.0.1"] = 0
        assert [await gates.read(ONE) for _ in range(2)] == [False, True]

    play(script)


def test_each_of_its_pods_has_to_say_so() -> None:
    async def script(gates: Gates) -> None:
        gates.silent = {"127.0.0.2"}
        assert [await gates.read(BOTH) for _ in range(3)] == [False] * 3
        gates.silent = set()
        gates.held["127.0.0.2"] = 1
        assert [await gates.read(BOTH) for _ in range(3)] == [False] * 3
        found = gates.readings.latest(KEY, BOTH)
        assert found is not None
        assert found.held == 1

    play(script)


def test_what_one_of_its_pods_leaves_unsaid_is_not_said_by_the_others() -> None:
    async def script(gates: Gates) -> None:
        await gates.read(BOTH)
        before = gates.readings.latest(KEY, BOTH)
        assert before is not None
        assert before.at == gates.now
        gates.silent, gates.held["127.0.0.1"] = {"127.0.0.2"}, 1
        await gates.read(BOTH)
        assert gates.readings.latest(KEY, BOTH) == before, "and it grows old"

    play(script)


def test_it_is_not_read_more_often_than_that_and_without_pods_it_is_not_idle() -> None:
    async def script(gates: Gates) -> None:
        assert [await gates.read(ONE) for _ in range(2)] == [False, True]
        before = gates.readings.latest(KEY, ONE)
        gates.held["127.0.0.1"] = 5
        gates.now += READ_EVERY_SECONDS / 2
        gates.readings.latest(KEY, ONE)
        await gates.readings.settle(KEY)
        assert gates.readings.latest(KEY, ONE) == before
        gates.readings.latest(KEY, {})
        assert not gates.readings.is_idle(KEY)

    play(script)
