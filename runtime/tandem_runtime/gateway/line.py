"""Held requests in the order of their arrival: each is given a pod in its turn, once one answers."""

from __future__ import annotations

import asyncio
from collections import deque
from http import HTTPStatus

from yarl import URL

from tandem_runtime.gateway.answers import SentAwayError
from tandem_runtime.gateway.figures import Outcome
from tandem_runtime.gateway.pods import Pods

SENDING_AT_ONCE = 8
"""Requests that are on their way to pods at one time. Few, so that pods get them in their order; more than one, so that
a pod that takes a connection slowly does not hold up all."""


class Turn:
    """One request's turn. To be left by `Line.leave`, whatever became of it."""

    def __init__(self, but: URL | None) -> None:
        self.but = but
        """A pod that it had in vain."""
        self.pod: asyncio.Future[URL] = asyncio.get_running_loop().create_future()


class Line:
    """Of one gate."""

    def __init__(self, pods: Pods) -> None:
        self._pods = pods
        self._turns: deque[Turn] = deque()
        self._sending: set[Turn] = set()
        self._may_send = asyncio.Event()
        self._giving: asyncio.Task[None] | None = None
        self._is_closed = False

    @property
    def is_closed(self) -> bool:
        """Whether nobody gets a turn any more."""
        return self._is_closed

    def join(self) -> Turn:
        """At the end, for a request that is whole. Raises SentAwayError once the line is closed."""
        turn = Turn(None)
        self._turns.append(turn)
        self._joined()
        return turn

    def rejoin(self, but: URL) -> Turn:
        """At the front, for one that `but` did not take or answer. Raises SentAwayError once the line is closed."""
        turn = Turn(but)
        self._turns.appendleft(turn)
        self._joined()
        return turn

    def leave(self, turn: Turn) -> None:
        """It was sent, or will not be. Twice is once."""
        turn.pod.cancel()
        self._sending.discard(turn)
        self._may_send.set()

    async def close(self) -> None:
        """Send away whoever waits, and all that come."""
        self._is_closed = True
        for turn in self._turns:
            if not turn.pod.done():
                turn.pod.set_exception(_stopped())
        self._turns.clear()
        if self._giving:
            self._giving.cancel()
            await asyncio.gather(self._giving, return_exceptions=True)

    def _joined(self) -> None:
        if self._is_closed:
            self._turns.clear()
            raise _stopped()
        if self._giving is None or self._giving.done():
            self._giving = asyncio.create_task(self._give(), name="line")

    async def _give(self) -> None:
        """Until nobody waits any more."""
        while self._turns:
            if self._turns[0].pod.done():  # its client is gone, or its time is over
                self._turns.popleft()
            elif len(self._sending) >= SENDING_AT_ONCE:
                self._may_send.clear()
                await self._may_send.wait()
            elif pod := self._pods.next(but=self._turns[0].but):
                turn = self._turns.popleft()
                self._sending.add(turn)
                turn.pod.set_result(pod)
            else:
                await self._pods.look()


def _stopped() -> SentAwayError:
    message = "the gate that held the request stopped before a pod of this model was ready"
    return SentAwayError(HTTPStatus.SERVICE_UNAVAILABLE, Outcome.REFUSED, message)
