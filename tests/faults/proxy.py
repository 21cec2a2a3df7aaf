"""A reverse proxy between the operator and the real API server: records every request in order, does damage by rule.

Plain HTTP on loopback towards the operator, whose bearer token is passed on; TLS towards the API server. Runs in a
thread with a loop of its own, so that a test stays sequential code. What the damage is stands in `actions`.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, Self

import aiohttp
from aiohttp import web

from tests.faults.requests import ApiRequest, Match, api_request_of

NOT_PASSED_ON = frozenset({"host", "connection", "keep-alive", "transfer-encoding", "content-length", "upgrade"})
ANSWER_LIMIT_SECONDS = 60.0
Edit = Callable[[AsyncIterator[bytes]], AsyncIterator[bytes]]
"""Turns the lines of a watch stream, one event each, into the lines that the operator gets."""


@dataclass
class Exchange:
    """One request on its way through the proxy, and afterwards its entry in the record."""

    request: ApiRequest
    status: int = 0
    """What the API server answered; 0: it was never asked, or has not answered."""
    told: int = 0
    """What the operator was told; 0: nothing."""
    at: float = field(default_factory=time.monotonic)
    """When it came, in seconds of the monotonic clock."""
    _proxy: Proxy | None = field(default=None, repr=False)
    _incoming: web.Request | None = field(default=None, repr=False)
    _body: bytes = field(default=b"", repr=False)

    async def fetch(self) -> web.Response:
        """Ask the API server, to the end, whatever becomes of the operator meanwhile; its answer."""
        return await asyncio.shield(asyncio.ensure_future(self._fetch()))

    async def pass_on(self, edit: Edit | None = None) -> web.StreamResponse:
        """Ask the API server and answer as it does; `edit` changes a watch stream."""
        if self.request.verb != "watch":
            return await self.fetch()
        assert self._incoming is not None
        async with self._ask() as answer:
            self.status = answer.status
            if answer.status != 200:
                return web.Response(status=answer.status, body=await answer.read(), headers=_kept(answer.headers))
            stream = web.StreamResponse(status=200, headers=_kept(answer.headers))
            stream.enable_chunked_encoding()
            await stream.prepare(self._incoming)
            self.told = 200
            async for line in (edit or _unchanged)(_lines_of(answer.content)):
                await stream.write(line)
            return stream

    def reset(self) -> web.Response:
        """Break the connection with RST; what is returned goes nowhere."""
        assert self._incoming is not None
        transport = self._incoming.transport
        if transport is not None:
            connection: socket.socket = transport.get_extra_info("socket")
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            transport.abort()
        return web.Response(status=502)

    async def _fetch(self) -> web.Response:
        async with self._ask() as answer:
            body = await answer.read()
            self.status = answer.status
            return web.Response(status=answer.status, body=body, headers=_kept(answer.headers))

    def _ask(self) -> aiohttp.client._RequestContextManager:
        assert self._proxy is not None
        assert self._incoming is not None
        limit = None if self.request.verb == "watch" else ANSWER_LIMIT_SECONDS
        return self._proxy.session.request(
            self._incoming.method,
            self._proxy.upstream + self._incoming.raw_path,
            headers=_kept(self._incoming.headers),
            data=self._body or None,
            timeout=aiohttp.ClientTimeout(total=limit),
        )


Action = Callable[[Exchange], Awaitable[web.StreamResponse]]


@dataclass
class Rule:
    """From the `first` matching request on, `times` of them get the action; None: all, until the rule is removed."""

    match: Match
    action: Action
    first: int = 1
    times: int | None = 1
    seen: int = 0
    applied: int = 0

    def takes(self, request: ApiRequest) -> bool:
        """Whether the rule acts on this request; counts it."""
        if not self.match(request):
            return False
        self.seen += 1
        if self.seen < self.first or (self.times is not None and self.applied >= self.times):
            return False
        self.applied += 1
        return True


class Proxy:
    """The running proxy. `record` grows by one entry a request; it may be read at any time."""

    session: aiohttp.ClientSession

    def __init__(self, upstream: str, *, tls: ssl.SSLContext | None = None) -> None:
        self.upstream = upstream.rstrip("/")
        self.record: list[Exchange] = []
        self._tls = tls
        self._rules: tuple[Rule, ...] = ()
        self._port = 0
        self._runner: web.AppRunner | None = None
        self._connections: set[asyncio.Transport] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="fault-proxy", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        self._run(self._open())
        return self

    def __exit__(self, *_: object) -> None:
        self._run(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    @property
    def url(self) -> str:
        """Where the operator finds it; stays the same through `down` and `up`."""
        return f"http://127.0.0.1:{self._port}"

    def add(self, match: Match, action: Action, *, first: int = 1, times: int | None = 1) -> Rule:
        """Add a rule; of several that match, the oldest acts."""
        rule = Rule(match, action, first, times)
        self._rules = (*self._rules, rule)
        return rule

    def remove(self, *rules: Rule) -> None:
        """Take rules away; those that wait in them are not released."""
        self._rules = tuple(rule for rule in self._rules if rule not in rules)

    def clear(self) -> None:
        """Take all rules away."""
        self._rules = ()

    def cut(self) -> None:
        """Break every open connection, watches among them."""
        self._loop.call_soon_threadsafe(self._cut)

    def down(self) -> None:
        """Break every connection and refuse new ones."""
        self._run(self._stop_listening())

    def up(self) -> None:
        """Listen again, at the same port."""
        self._run(self._listen())

    async def _open(self) -> None:
        connector = aiohttp.TCPConnector(limit=0, ssl=self._tls or True)
        self.session = aiohttp.ClientSession(connector=connector, auto_decompress=False, trust_env=False)
        await self._listen()

    async def _close(self) -> None:
        await self._stop_listening()
        await self.session.close()
        await asyncio.sleep(0.1)  # TLS connections say goodbye in the loop's next rounds, and are files until then

    async def _listen(self) -> None:
        application = web.Application(client_max_size=8 * 2**20)
        application.router.add_route("*", "/{path:.*}", self._handle)
        # A watch whose operator has gone must not stay open until the API server ends it.
        self._runner = web.AppRunner(application, handler_cancellation=True, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self._port, reuse_address=True).start()
        self._port = self._runner.addresses[0][1]

    async def _stop_listening(self) -> None:
        runner, self._runner = self._runner, None
        if runner is not None:
            for site in list(runner.sites):
                await site.stop()
            self._cut()
            await runner.cleanup()

    def _cut(self) -> None:
        for transport in list(self._connections):
            transport.abort()

    async def _handle(self, incoming: web.Request) -> web.StreamResponse:
        body = await incoming.read()
        request = api_request_of(
            incoming.method, incoming.path, query=dict(incoming.query), headers=dict(incoming.headers), body=body
        )
        exchange = Exchange(request, _proxy=self, _incoming=incoming, _body=body)
        self.record.append(exchange)
        transport = incoming.transport
        if isinstance(transport, asyncio.Transport):
            self._connections.add(transport)
        try:
            answer = await self._act(exchange)
        except (aiohttp.ClientError, TimeoutError) as error:
            exchange.told = 502
            return web.Response(status=502, text=f"{type(error).__name__}: {error}")
        else:
            exchange.told = exchange.told or answer.status
            return answer
        finally:
            if isinstance(transport, asyncio.Transport):
                self._connections.discard(transport)

    async def _act(self, exchange: Exchange) -> web.StreamResponse:
        for rule in self._rules:
            if rule.takes(exchange.request):
                return await rule.action(exchange)
        return await exchange.pass_on()

    def _run(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(timeout=30)


async def _lines_of(content: aiohttp.StreamReader) -> AsyncIterator[bytes]:
    """The lines of a stream, of any length."""
    held = b""
    async for chunk in content.iter_any():
        *lines, held = (held + chunk).split(b"\n")
        for line in lines:
            yield line + b"\n"
    if held:
        yield held


def _unchanged(lines: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    return lines


def _kept(headers: Any) -> dict[str, str]:
    return {name: value for name, value in headers.items() if name.lower() not in NOT_PASSED_ON}
