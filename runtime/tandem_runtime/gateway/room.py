"""How many requests a gate holds, and how many bytes it keeps of them. Counts only; never waits."""

from __future__ import annotations

from collections.abc import Callable
from http import HTTPStatus
from typing import Self

from tandem_contracts.gate import GateOptions
from tandem_runtime.gateway.answers import SentAwayError
from tandem_runtime.gateway.figures import Outcome


class Room:
    """All requests of one gate."""

    def __init__(self, options: GateOptions, *, changed: Callable[[], None]) -> None:
        self._options, self._changed = options, changed
        self.held = 0
        """Requests that wait, or whose body is still coming."""
        self.in_hand = 0
        """Those, and the ones that were passed on and are not over."""
        self.size = 0
        """Bytes of the bodies that are kept."""

    def place(self, announced_bytes: int | None) -> Place:
        """For a request that has come, with the length that it announces. Raises SentAwayError."""
        if self.held >= self._options.most_held:
            raise _full(f"{self.held} requests wait for a pod of this model already, and no more are held")
        self.require(announced_bytes or 0, before=0)
        return Place(self)

    def require(self, size: int, *, before: int) -> None:
        """Room for `size` more bytes of a request that has brought `before`. Raises SentAwayError."""
        if before + size > self._options.most_body_bytes:
            message = f"the request is larger than {self._options.most_body_bytes} bytes, the most that is held"
            raise SentAwayError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, Outcome.REFUSED, message)
        if self.size + size > self._options.most_held_bytes:
            raise _full("the requests that wait for a pod of this model are as large as can be held")

    def count(self, *, held: int = 0, in_hand: int = 0, size: int = 0) -> None:
        """More, or fewer."""
        self.held += held
        self.in_hand += in_hand
        self.size += size
        self._changed()


class Place:
    """One request's share of the room, to be used in a `with` block: it counts as held until `passed_on`, its bytes
    until `freed`, both at the latest until the block is left."""

    def __init__(self, room: Room) -> None:
        self._room, self._size, self._is_held = room, 0, False
        self.chunks: list[bytes] = []
        """The body, as it came: joined, it would be there twice for a moment."""

    def __enter__(self) -> Self:
        self._room.count(in_hand=1)
        self.held()
        return self

    def __exit__(self, *_: object) -> None:
        self.passed_on()
        self.freed()
        self._room.count(in_hand=-1)

    def add(self, chunk: bytes) -> None:
        """A part of the body. Raises SentAwayError when there is no room for it."""
        self._room.require(len(chunk), before=self._size)
        self._size += len(chunk)
        self.chunks.append(chunk)
        self._room.count(size=len(chunk))

    def held(self) -> None:
        """It waits: at first, and again where it was passed on in vain."""
        if not self._is_held:
            self._is_held = True
            self._room.count(held=1)

    def passed_on(self) -> None:
        """It waits no more."""
        if self._is_held:
            self._is_held = False
            self._room.count(held=-1)

    def freed(self) -> None:
        """Nobody will ask for its body again."""
        self._room.count(size=-self._size)
        self._size = 0
        self.chunks.clear()


def _full(message: str) -> SentAwayError:
    return SentAwayError(HTTPStatus.SERVICE_UNAVAILABLE, Outcome.REFUSED, message)
