"""Which pods answer: names are resolved and their addresses asked at /health, over and over, while somebody waits.

It never asks the API server, and looks at nothing while nobody waits. One address that swallows connections, or a DNS
server that is slow, holds up no other.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from typing import Any

from yarl import URL

from tandem_contracts.gate import Upstream

LOOK_SECONDS = 0.005
"""Between two questions to addresses that refuse connections, as a pod does whose engine starts: one after the other,
so that many pods cost the gate no more than one, a tenth of a core (`benchmarks/wake_gate.py`)."""
UNREADY_SECONDS = 0.1
"""The same where something answers, but not 200: an engine would have a line in its log for each."""
RESOLVE_SECONDS = 0.1
FRESH_SECONDS = 1.0
"""A pod that has answered this recently is not asked again before it gets a request."""
SHORTEST_SECONDS = 0.001
HEALTH_LIMIT_SECONDS = 1.0
RESOLVE_LIMIT_SECONDS = 5.0

_GOOD = b"HTTP/1.1 200 "
_NO_ADDRESS = {socket.EAI_NONAME, socket.EAI_NODATA}
"""A headless Service without pods."""


class Pods:
    """The pods of one deployment, by their URLs."""

    def __init__(self, upstreams: Sequence[Upstream], *, found: Callable[[int], None]) -> None:
        """`found` is told how many answer."""
        self._upstreams, self._found = upstreams, found
        self._loop = asyncio.get_running_loop()
        self._addresses: dict[Upstream, frozenset[URL]] = {}
        self._next_look: dict[Upstream | URL, float] = {}
        self._looks: dict[Upstream | URL, asyncio.Task[None]] = {}
        self._answered: dict[URL, float] = {}
        self._ready_since = 0.0
        self._news = asyncio.Event()
        self._turn = 0

    def next(self, *, but: URL | None) -> URL | None:
        """One that answered a moment ago, each in its turn, another one than `but` where there is one; else None."""
        now = self._loop.time()
        fresh = [url for url, at in self._answered.items() if now - at <= FRESH_SECONDS]
        choice = [url for url in fresh if url != but] or fresh
        self._turn += 1
        return choice[self._turn % len(choice)] if choice else None

    @property
    def ready_since(self) -> float:
        """Since when at least one has answered, on the loop's clock."""
        return self._ready_since

    async def look(self) -> None:
        """Ask whoever is due to be asked, and wait for news or for the next who is due, LOOK_SECONDS at most."""
        now = self._loop.time()
        for upstream in self._upstreams:
            self._start(upstream, partial(self._resolve, upstream), now)
        for url in self._known():
            self._start(url, partial(self._ask, url), now)
        self._news.clear()
        due = min((at for whom, at in self._next_look.items() if whom not in self._looks), default=now + LOOK_SECONDS)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(min(max(due, now + SHORTEST_SECONDS), now + LOOK_SECONDS)):
                await self._news.wait()

    def failed(self, url: URL) -> None:
        """It did not take a request, or not answer it: it is asked for its health before it gets another one."""
        if self._answered.pop(url, None) is not None:
            self._found(len(self._answered))

    async def close(self) -> None:
        """End what is under way."""
        looks = tuple(self._looks.values())
        for look in looks:
            look.cancel()
        await asyncio.gather(*looks, return_exceptions=True)

    def _start(self, whom: Upstream | URL, look: Callable[[], Coroutine[Any, Any, float]], now: float) -> None:
        if whom not in self._looks and now >= self._next_look.get(whom, 0.0):
            task = self._loop.create_task(self._looked(whom, look))
            self._looks[whom] = task

    async def _looked(self, whom: Upstream | URL, look: Callable[[], Coroutine[Any, Any, float]]) -> None:
        pause = UNREADY_SECONDS
        try:
            pause = await look()
        finally:
            self._next_look[whom] = self._loop.time() + pause
            del self._looks[whom]
            self._news.set()

    async def _resolve(self, upstream: Upstream) -> float:
        """Take in the addresses of one name; seconds until it is to be looked up again."""
        try:
            async with asyncio.timeout(RESOLVE_LIMIT_SECONDS):
                rows = await self._loop.getaddrinfo(upstream.host, upstream.port, type=socket.SOCK_STREAM)
        except socket.gaierror as error:
            if error.errno not in _NO_ADDRESS:
                return RESOLVE_SECONDS  # the DNS server does not answer: what is known is the best there is
            rows = []
        except TimeoutError:
            return RESOLVE_SECONDS
        urls = frozenset(URL.build(scheme="http", host=str(row[4][0]), port=upstream.port) for row in rows)
        if urls != self._addresses.get(upstream):
            self._addresses[upstream] = urls
            known = self._known()
            self._next_look = {whom: at for whom, at in self._next_look.items() if whom in known or whom == upstream}
            for url in self._answered.keys() - known:
                self.failed(url)
        return RESOLVE_SECONDS

    def _known(self) -> frozenset[URL]:
        return frozenset().union(*self._addresses.values())

    async def _ask(self, url: URL) -> float:
        """Whether it is ready; seconds until it may be asked again."""
        try:
            async with asyncio.timeout(HEALTH_LIMIT_SECONDS):
                is_ready, pause = await _is_healthy(url), UNREADY_SECONDS
        except (TimeoutError, OSError):
            is_ready, pause = False, LOOK_SECONDS * len(self._known())
        if not is_ready:
            self.failed(url)
            return pause
        if not self._answered:
            self._ready_since = self._loop.time()
        self._answered[url] = self._loop.time()
        self._found(len(self._answered))
        return 0.0


async def _is_healthy(url: URL) -> bool:
    """Whether it answers 200 at /health. Raises OSError where it takes no connection.

    By hand: to be refused costs aiohttp's client two and a half times as much, and it happens all the time.
    """
    reader, writer = await asyncio.open_connection(url.host, url.port)
    try:
        writer.write(f"GET /health HTTP/1.1\r\nHost: {url.authority}\r\nConnection: close\r\n\r\n".encode())
        return (await reader.read(len(_GOOD))) == _GOOD
    finally:
        writer.close()
