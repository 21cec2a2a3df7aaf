"""The verifier's end of one gRPC stream to a draft server. A thread reads it; nothing here ever blocks an engine step.

Frames out and frames in, and a new stream when one has ended. Interprets nothing but the greeting and the end.
"""

from __future__ import annotations

import logging
import queue
import random
import threading
import time
from collections import deque
from collections.abc import Iterator

import grpc

from tandem_runtime.drafting.access import DraftAccess, Options, open_channel
from tandem_runtime.drafting.protocol import DrafterFrame, VerifierFrame, mismatch_of, session_of

FIRST_PAUSE_SECONDS = 0.25
LONGEST_PAUSE_SECONDS = 10.0
FRAMES_KEPT = 1024
LARGEST_FRAME_BYTES = 256 * 1024
"""Twice what drafts for a thousand rows take. In memory a hostile one becomes thirty times as large."""
BYTES_KEPT = 2 * 1024 * 1024
"""Of frames that wait for the engine's next step."""
_OPTIONS: Options = [
    ("grpc.max_receive_message_length", LARGEST_FRAME_BYTES),
    # A peer that is a black hole never ends a stream: pings find out, within the sum of both times.
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.http2.max_pings_without_data", 0),
]

Arrived = tuple[float, DrafterFrame]

logger = logging.getLogger(__name__)


class DraftStream:
    """One stream at a time to `address`; `hello` opens each. `send` and `take` are for one thread."""

    def __init__(self, address: str, hello: VerifierFrame, *, access: DraftAccess | None = None) -> None:
        """Without `access` in plaintext, and without saying who asks."""
        self._address, self._hello, self._access = address, hello, access
        self._inbox: deque[Arrived] = deque(maxlen=FRAMES_KEPT)
        self._inbox_bytes = 0
        self._news = threading.Condition()
        self._outbox: queue.SimpleQueue[VerifierFrame | None] = queue.SimpleQueue()
        self._is_open = False
        self._is_closed = threading.Event()
        self._is_renewed = False
        self._refused = ""
        """Why this stream is not wanted any more."""
        self._call: grpc.Call | None = None
        self.failures = 0
        """Streams that ended, or never began."""
        threading.Thread(target=self._run, name="drafts", daemon=True).start()

    @property
    def is_open(self) -> bool:
        """Whether a draft server has said something on the stream that there is now."""
        return self._is_open

    def send(self, frame: VerifierFrame) -> None:
        """Send on the stream that there is; what is sent while there is none is lost."""
        if self._is_open:
            self._outbox.put(frame)

    def take(self, until: float) -> list[Arrived]:
        """What has come in, and when by the monotonic clock; where that is nothing, what comes first before `until`."""
        if not self._inbox:
            wait_seconds = until - time.monotonic()
            if wait_seconds <= 0:
                return []
            with self._news:
                self._news.wait_for(lambda: self._inbox or not self._is_open, wait_seconds)
        with self._news:
            found = list(self._inbox)
            self._empty()
        return found

    def renew(self) -> None:
        """End this stream, and look for a draft server anew: the one at its other end is about to go."""
        self._is_renewed = True
        self._outbox.put(None)

    def refuse(self, reason: str) -> None:
        """End this stream, since its draft server does harm; it is asked again ever more rarely."""
        self._refused = reason
        if self._call is not None:
            self._call.cancel()

    def close(self) -> None:
        """End the stream and its thread, whether or not the draft server agrees."""
        self._is_closed.set()
        self._outbox.put(None)
        if self._call is not None:
            self._call.cancel()

    def _empty(self) -> None:
        self._inbox.clear()
        self._inbox_bytes = 0

    def _run(self) -> None:
        pause_seconds = FIRST_PAUSE_SECONDS
        while not self._is_closed.is_set():
            try:
                was_open = self._read()
            except grpc.RpcError as error:
                was_open = self._is_open
                told = f"{error.code().name}: {error.details()}" if isinstance(error, grpc.Call) else repr(error)
            except (OSError, ValueError) as error:  # of what is mounted for TLS
                was_open, told = False, f"{type(error).__name__}: {error}"
            else:
                told = "the draft server ended the stream"
            refused, self._refused = self._refused, ""
            with self._news:
                self._is_open = False
                if refused:
                    self._empty()
                self._news.notify_all()
            if self._is_closed.is_set():
                return
            if not self._is_renewed:
                self.failures += 1
                if was_open or self.failures == 1:
                    logger.warning(
                        "no drafts from %s, decoding goes on without them: %s", self._address, refused or told
                    )
            self._is_renewed = False
            if was_open and not refused:
                pause_seconds = FIRST_PAUSE_SECONDS
            # Also before a stream that is only renewed: there are draft servers that drain as soon as they are asked.
            self._is_closed.wait(pause_seconds * random.uniform(0.75, 1.0))  # noqa: S311 -- spreads load
            pause_seconds = min(2 * pause_seconds, LONGEST_PAUSE_SECONDS)

    def _read(self) -> bool:
        """Read one stream to its end; whether anything came. Raises grpc.RpcError, OSError."""
        outbox = self._outbox = queue.SimpleQueue()
        outbox.put(self._hello)
        with open_channel(self._address, _OPTIONS, access=self._access) as channel:
            self._call = call = session_of(channel)(_until_none(outbox))
            for frame in call:
                size = frame.ByteSize()
                if len(self._inbox) == FRAMES_KEPT or self._inbox_bytes + size > BYTES_KEPT:
                    self._refused = "it sends more than is taken"
                    break
                is_greeting = frame.WhichOneof("frame") == "welcome"
                if is_greeting and (mismatch := mismatch_of(self._hello.hello, frame.welcome)):
                    self._refused = mismatch
                    break
                with self._news:
                    self._is_open = True
                    self._inbox.append((time.monotonic(), frame))
                    self._inbox_bytes += size
                    self._news.notify_all()
        return self._is_open


def _until_none(outbox: queue.SimpleQueue[VerifierFrame | None]) -> Iterator[VerifierFrame]:
    while (frame := outbox.get()) is not None:
        yield frame
