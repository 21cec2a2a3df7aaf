"""Asks a Triton server for drafts, over one stream. What it serves is `repository`'s model.

A context is sent once, and then what is new of it. Whatever goes wrong ends the stream; the next call opens another one
and sends whole contexts again.
"""

from __future__ import annotations

import queue
import secrets
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
from tritonclient.grpc import InferenceServerClient, InferInput
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

from tandem_runtime.draft_server.engines import Ask, Key
from tandem_runtime.draft_server.triton.frames import COUNTS, MODEL, ROWS, TOKENS, Line, What, encoded, parted
from tandem_runtime.draft_server.triton.served_model import Settings

ANSWER_LIMIT_SECONDS = 60.0
REQUEST_LIMIT_SECONDS = 5.0
POLL_SECONDS = 0.001


class TritonFailedError(Exception):
    """Triton, named by its address, does not answer, or says why it cannot."""


class TritonEngine:
    """A `DraftEngine`. Raises TritonFailedError for a server that does not serve our model."""

    name = "triton"
    goes_on = False

    def __init__(self, address: str, *, tokenizer_hash: str = "") -> None:
        """`address`: host:port of a Triton server that is ready."""
        self._address = address
        self._client: Any = InferenceServerClient(address)
        self._answers: queue.SimpleQueue[tuple[Any, Any]] = queue.SimpleQueue()
        self._is_streaming = False
        self._sent: dict[Key, tuple[int, int]] = {}
        """Session, and how many of its tokens Triton has."""
        self._over: deque[int] = deque()
        self._numbers = secrets.randbits(62)
        try:
            config = self._client.get_model_config(MODEL, client_timeout=REQUEST_LIMIT_SECONDS).config
            settings = Settings.of({name: value.string_value for name, value in config.parameters.items()})
        except (InferenceServerException, KeyError, ValueError) as error:
            raise self._failed(f"it serves no model of ours: {error}") from error
        self.tokenizer_hash = tokenizer_hash
        self.vocabulary, self.context_limit = settings.shape.vocabulary, settings.shape.context_limit

    def draft(self, asks: Sequence[Ask], *, is_due: Callable[[], bool]) -> list[list[int]]:
        """See `DraftEngine`."""
        if not asks:
            return []
        over = [Line(What.FORGET, self._over.popleft()) for _ in range(len(self._over))]
        lines = list(map(self._line, asks))
        try:
            drafts = self._answered([*over, *lines], is_due)
        except InferenceServerException as error:
            raise self._failed(str(error)) from error
        if len(drafts) != len(asks):
            raise self._failed(f"{len(drafts)} drafts came for {len(asks)} contexts")
        for ask, line in zip(asks, lines, strict=True):
            self._sent[ask.key] = line.session, line.known + len(line.added)
        return drafts

    def forget(self, keys: Iterable[Key]) -> None:
        """See `DraftEngine`; Triton is told with the next draft."""
        for key in keys:
            if (sent := self._sent.pop(key, None)) is not None:
                self._over.append(sent[0])

    def close(self) -> None:
        """End the connection."""
        self._client.close()

    def _line(self, ask: Ask) -> Line:
        session, known = self._sent.setdefault(ask.key, (self._next_number(), 0))
        return Line(What.DRAFT, session, known, ask.tokens[known:], ask.depth)

    def _answered(self, lines: Sequence[Line], is_due: Callable[[], bool]) -> list[list[int]]:
        if not self._is_streaming:
            answers = self._answers = queue.SimpleQueue()
            self._client.start_stream(lambda result, error: answers.put((result, error)))
            self._is_streaming = True
        number = self._send(lines)
        deadline = time.monotonic() + ANSWER_LIMIT_SECONDS
        is_stopped = False
        while time.monotonic() < deadline:
            try:
                result, error = self._answers.get(timeout=POLL_SECONDS)
            except queue.Empty:
                if not is_stopped and is_due():
                    self._send([Line(What.STOP, number)])
                    is_stopped = True
                continue
            if error is not None:
                raise error
            if result.get_response().id == str(number):
                return parted(result.as_numpy(COUNTS).tolist(), result.as_numpy(TOKENS).tolist())
        raise InferenceServerException(f"no answer within {ANSWER_LIMIT_SECONDS:.0f} s")

    def _send(self, lines: Sequence[Line]) -> int:
        number = self._next_number()
        rows, tokens = encoded(lines)
        inputs = [_input(ROWS, np.array(rows, np.int64)), _input(TOKENS, np.asarray(tokens))]
        self._client.async_stream_infer(MODEL, inputs, request_id=str(number))
        return number

    def _next_number(self) -> int:
        self._numbers += 1
        return self._numbers

    def _failed(self, why: str) -> TritonFailedError:
        """Forgets the stream, and what was sent over it."""
        if self._is_streaming:
            self._client.stop_stream(cancel_requests=True)
        self._is_streaming = False
        self._over += [session for session, _ in self._sent.values()]
        self._sent.clear()
        return TritonFailedError(f"Triton at {self._address}: {why}")


def _input(name: str, value: Any) -> InferInput:
    found = InferInput(name, value.shape, np_to_triton_dtype(value.dtype))
    found.set_data_from_numpy(value)
    return found
