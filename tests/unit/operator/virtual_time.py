"""An event loop whose clock jumps to the next timer as soon as nothing else happens: hours pass in milliseconds.

Real input and output still work: before the clock jumps, sockets get a moment of real time to become ready.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")
SOCKET_GRACE_SECONDS = 0.005
STUCK_LIMIT_SECONDS = 10.0
TEST_LIMIT_SECONDS = 3600.0


class _JumpingSelector(selectors.DefaultSelector):
    """Never waits for a timer; tells the loop how far to jump instead."""

    jump: Callable[[float], None]

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if ready or (timeout is not None and timeout <= 0):
            return ready
        if timeout is None:
            ready = super().select(STUCK_LIMIT_SECONDS)
            if not ready:
                raise AssertionError(f"no timer is set and no socket was ready for {STUCK_LIMIT_SECONDS} real seconds")
            return ready
        has_sockets = len(self.get_map()) > 1  # one is the loop's own, for threads
        ready = super().select(SOCKET_GRACE_SECONDS if has_sockets else 0)
        if not ready:
            self.jump(timeout)
        return ready


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """A loop that begins at 1000 s, so that a clock that was never read is told from its beginning."""

    def __init__(self) -> None:
        self._now = 1000.0
        selector = _JumpingSelector()
        selector.jump = self._jump
        super().__init__(selector)

    def time(self) -> float:
        return self._now

    def _jump(self, seconds: float) -> None:
        self._now += seconds


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run `main` to its end in virtual time, at most a virtual hour."""

    async def limited() -> T:
        async with asyncio.timeout(TEST_LIMIT_SECONDS):
            return await main

    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        return runner.run(limited())


def now() -> float:
    """Virtual seconds."""
    return asyncio.get_running_loop().time()
