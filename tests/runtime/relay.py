"""A TCP relay on loopback that makes a network worse: delay, jitter, stalls and cuts. Not every kernel has netem.

Bytes keep their order and none is lost, unless a connection is cut. Threads, since their clock is finer than asyncio's.
"""

from __future__ import annotations

import contextlib
import queue
import random
import socket
import struct
import threading
import time
from dataclasses import dataclass
from typing import Self

LOOPBACK = "127.0.0.1"
CONNECT_LIMIT_SECONDS = 10.0
CHUNK_BYTES = 64 * 1024
_RESET = struct.pack("ii", 1, 0)
"""SO_LINGER of no time: closing a connection resets it."""

Chunk = tuple[float, bytes]


@dataclass
class Relay:
    """Passes connections on to `target`, `host:port`. What is done to them may be changed while they are there; another
    target is that of new ones.

    `delay_seconds`: each chunk arrives so much later, in each direction; `jitter_seconds`: and up to so much more.
    """

    target: str
    delay_seconds: float = 0.0
    jitter_seconds: float = 0.0

    def __post_init__(self) -> None:
        self._flows = threading.Event()
        self._flows.set()
        self._guard = threading.Lock()
        self._connections: set[socket.socket] = set()
        self._is_closed = False
        self._listener = socket.create_server((LOOPBACK, 0))
        threading.Thread(target=self._accept, name="relay", daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def address(self) -> str:
        """`host:port` to connect to."""
        return f"{LOOPBACK}:{self._listener.getsockname()[1]}"

    def stall(self) -> None:
        """Nothing arrives any more, and nobody is told."""
        self._flows.clear()

    def go_on(self) -> None:
        """What was held up arrives, and what comes after it."""
        self._flows.set()

    def cut(self) -> None:
        """Reset every connection that there is; new ones are taken."""
        with self._guard:
            for connection in self._connections:
                _reset(connection)
            self._connections.clear()

    def close(self) -> None:
        """Take no more connections, and reset those that there are."""
        with self._guard:
            self._is_closed = True
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # wakes the thread that accepts
        self._listener.close()
        self.cut()
        self._flows.set()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return  # closed
            host, _, port = self.target.rpartition(":")
            try:
                far = socket.create_connection((host, int(port)), timeout=CONNECT_LIMIT_SECONDS)
            except OSError:
                _reset(near)
                continue
            far.settimeout(None)
            for end in (near, far):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self._guard:
                if self._is_closed:
                    _reset(near)
                    _reset(far)
                    return
                self._connections |= {near, far}
            threading.Thread(target=self._pass_on, args=(near, far), name="relay", daemon=True).start()

    def _pass_on(self, near: socket.socket, far: socket.socket) -> None:
        """Both directions, to the end of both."""
        writers = []
        for one, other in ((near, far), (far, near)):
            under_way: queue.SimpleQueue[Chunk] = queue.SimpleQueue()
            threading.Thread(target=self._read, args=(one, under_way), name="relay", daemon=True).start()
            writers.append(threading.Thread(target=self._write, args=(other, under_way), name="relay", daemon=True))
            writers[-1].start()
        for writer in writers:
            writer.join()
        with self._guard:
            self._connections -= {near, far}
        near.close()
        far.close()

    def _read(self, one: socket.socket, under_way: queue.SimpleQueue[Chunk]) -> None:
        """Until the end, which is passed on as an empty chunk."""
        while True:
            try:
                data = one.recv(CHUNK_BYTES)
            except OSError:
                data = b""
            late = self.delay_seconds + self.jitter_seconds * random.random()
            under_way.put((time.monotonic() + late, data))
            if not data:
                return

    def _write(self, other: socket.socket, under_way: queue.SimpleQueue[Chunk]) -> None:
        with contextlib.suppress(OSError):
            while True:
                due, data = under_way.get()
                time.sleep(max(due - time.monotonic(), 0.0))
                self._flows.wait()
                if not data:
                    other.shutdown(socket.SHUT_WR)
                    return
                other.sendall(data)


def _reset(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        connection.shutdown(socket.SHUT_RDWR)  # wakes the thread that reads
    connection.close()
