"""Clients that keep a served model busy, and what they see of it: load for demo and tests. Standard library only."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from functools import partial
from types import TracebackType
from typing import Self

from deploy import openai


@dataclass(frozen=True)
class Seen:
    """One answered request, as its client saw it."""

    at: float
    """When it was over, on the monotonic clock."""
    first_token_seconds: float
    seconds: float


class Load:
    """So many clients for as long as the block lasts, each asking again, over a new connection, once it is answered.

    A request that fails ends its client; `failed` has what it said.
    """

    def __init__(
        self,
        address: str,
        *,
        model: str,
        clients: int,
        max_tokens: int,
        prompt: str = "def f(",
        temperature: float = 0.0,
    ) -> None:
        self._ask = partial(
            openai.timed, address, model=model, prompt=prompt, max_tokens=max_tokens, temperature=temperature
        )
        self._is_over = threading.Event()
        self._clients = [threading.Thread(target=self._client, daemon=True) for _ in range(clients)]
        self._seen: list[Seen] = []
        self.failed: list[Exception] = []

    def __enter__(self) -> Self:
        for client in self._clients:
            client.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._is_over.set()
        for client in self._clients:
            client.join()

    def _client(self) -> None:
        while not self._is_over.is_set():
            try:
                first, seconds = self._ask()
            except (OSError, EOFError) as error:
                self.failed.append(error)
                return
            self._seen.append(Seen(time.monotonic(), first, seconds))

    @property
    def asking(self) -> int:
        """Clients that are at it."""
        return sum(client.is_alive() for client in self._clients)

    def since(self, seconds: float) -> list[Seen]:
        """What was answered in the last so many seconds."""
        oldest = time.monotonic() - seconds
        return [each for each in tuple(self._seen) if each.at >= oldest]

    def share_within(self, target_seconds: float, *, last_seconds: float) -> float | None:
        """Of the requests of the last so many seconds, how many had their first token in time; None without any."""
        found = self.since(last_seconds)
        return sum(each.first_token_seconds <= target_seconds for each in found) / len(found) if found else None
