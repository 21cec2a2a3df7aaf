"""A wake gate on real sockets, and engines behind it that do what a test tells them."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

import aiohttp
from aiohttp import web
from prometheus_client import CollectorRegistry

from tandem_contracts import metrics
from tandem_contracts.gate import GateOptions
from tandem_runtime.gateway.figures import Figures
from tandem_runtime.gateway.leaving import gone
from tandem_runtime.gateway.server import Gate

LIMIT_SECONDS = 20.0
PATH = "/v1/completions"
HOST = "127.0.0.1"

Behaviour = Callable[[web.Request], Awaitable[web.StreamResponse]]


def run(script: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run a test's script; none lasts longer than the limit."""

    async def limited() -> None:
        async with asyncio.timeout(LIMIT_SECONDS):
            await script()

    asyncio.run(limited())


async def until(condition: Callable[[], bool], what: str) -> None:
    """Wait for it, with the limit; `what` is told where it does not come."""
    for _ in range(int(LIMIT_SECONDS / 0.005)):
        if condition():
            return
        await asyncio.sleep(0.005)
    raise TimeoutError(what)


async def answer_at_once(request: web.Request) -> web.StreamResponse:
    """What an engine does unless a test has something else in mind."""
    return web.Response(text=f"answer to {await request.text()}")


async def break_off(request: web.Request) -> web.StreamResponse:
    """Take the request, close the connection."""
    await request.read()
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


@dataclass
class Engine:
    """An HTTP server whose port is there before it listens, as that of a pod whose engine starts."""

    behaviour: Behaviour = answer_at_once
    is_healthy: bool = True
    probes: int = 0
    bodies: list[str] = field(default_factory=list)
    """Of the requests, in the order in which they were here."""
    cancelled: int = 0
    _runner: web.AppRunner | None = None

    def __post_init__(self) -> None:
        self._socket = socket.socket()
        self._socket.bind((HOST, 0))
        self.port: int = self._socket.getsockname()[1]

    @property
    def address(self) -> str:
        return f"{HOST}:{self.port}"

    async def start(self) -> None:
        """Listen."""
        application = web.Application(client_max_size=2**30)
        application.router.add_get("/health", self._health)
        application.router.add_post("/{path:.*}", self._post)
        runner = web.AppRunner(
            application, access_log=None, handler_cancellation=True, auto_decompress=False, shutdown_timeout=0
        )
        await runner.setup()
        await web.SockSite(runner, self._socket, backlog=1024).start()
        self._runner = runner

    async def stop(self) -> None:
        """Gone, with its port."""
        if self._runner:
            await self._runner.cleanup()
        self._socket.close()

    async def _health(self, _: web.Request) -> web.Response:
        self.probes += 1
        return web.Response(status=200 if self.is_healthy else 503)

    async def _post(self, request: web.Request) -> web.StreamResponse:
        self.bodies.append((await request.read())[:100].decode(errors="replace"))
        try:
            return await self.behaviour(request)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise


@dataclass
class Behind:
    """A gate, a client that talks to it, and the engines that it looks for."""

    gate: Gate
    url: str
    port: int
    client: aiohttp.ClientSession
    engines: list[Engine]
    registry: CollectorRegistry

    @property
    def engine(self) -> Engine:
        return self.engines[0]

    def sample(self, name: str, **labels: str) -> float:
        """A figure of the gate."""
        value = self.registry.get_sample_value(name, labels)
        assert value is not None, name
        return value

    def is_fresh(self) -> bool:
        """Whether the gate would pass a request on without a look."""
        return self.gate._pods.next(but=None) is not None

    def outcomes(self) -> dict[str, float]:
        """Requests that are over, by how they ended."""
        (family,) = [f for f in self.registry.collect() if f"{f.name}_total" == metrics.GATE_REQUESTS]
        return {s.labels["outcome"]: s.value for s in family.samples if s.name == metrics.GATE_REQUESTS and s.value}

    async def ask(self, body: str = "hello", *, path: str = PATH) -> tuple[int, str]:
        """A whole request."""
        async with self.client.post(f"{self.url}{path}", data=body) as answer:
            return answer.status, await answer.text()

    async def hold(self, body: str = "hello") -> asyncio.Task[tuple[int, str]]:
        """A request that waits in the gate by now."""
        before = self.sample(metrics.GATE_HELD)
        task = asyncio.create_task(self.ask(body))
        await until(lambda: self.sample(metrics.GATE_HELD) > before or task.done(), "the request is held")
        return task


@contextlib.asynccontextmanager
async def gate(
    *engines: Engine, key: str = "", is_gone: Callable[[str], Awaitable[None]] = gone, **options: Any
) -> AsyncIterator[Behind]:
    """A gate before engines of which none listens yet: one unless they are given."""
    made = list(engines) or [Engine()]
    registry = CollectorRegistry()
    upstream = ",".join(engine.address for engine in made)
    settings = GateOptions(**{"served_name": "llama", "upstream": upstream, **options})
    running = Gate(settings, key=key, figures=Figures(registry), is_gone=is_gone)
    port = await running.start(HOST, 0)
    async with aiohttp.ClientSession(auto_decompress=False) as client:
        try:
            yield Behind(running, f"http://{HOST}:{port}", port, client, made, registry)
        finally:
            await running.stop(0)
            for engine in made:
                await engine.stop()
