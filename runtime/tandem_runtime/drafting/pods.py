"""The draft pods behind one address: a stream to each that its name resolves to, kept up to date beside the engine."""

from __future__ import annotations

import logging
import socket
import threading
from collections.abc import Callable, Mapping

from tandem_runtime.drafting.stream import DraftStream

RESOLVE_EVERY_SECONDS = 5.0
_UNKNOWN = {socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME)}
"""Of a headless Service without Ready pods, as of one that is not there."""

logger = logging.getLogger(__name__)


def resolved(address: str) -> set[str]:
    """The pods' own addresses; none for an unknown name. Raises OSError when the name service has no answer."""
    host, _, port = address.rpartition(":")
    try:
        found = socket.getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_STREAM)
    except socket.gaierror as error:
        if error.errno in _UNKNOWN:
            return set()
        raise
    hosts = {str(where[0]) for *_, where in found}
    return {f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host in hosts}


class DraftPods:
    """Streams by address. `streams` may be called from any thread."""

    def __init__(
        self,
        address: str,
        open_stream: Callable[[str], DraftStream],
        *,
        resolve: Callable[[str], set[str]] = resolved,
        every_seconds: float = RESOLVE_EVERY_SECONDS,
    ) -> None:
        """`address`: host:port; `open_stream` makes the stream to one pod."""
        self._address, self._open, self._resolve, self._every_seconds = address, open_stream, resolve, every_seconds
        self._streams: dict[str, DraftStream] = {}
        self._is_closed = threading.Event()
        threading.Thread(target=self._run, name="draft pods", daemon=True).start()

    def streams(self) -> Mapping[str, DraftStream]:
        """As of the last time that the name was resolved."""
        return self._streams

    def close(self) -> None:
        """End all streams."""
        self._is_closed.set()
        for stream in self._streams.values():
            stream.close()

    def _run(self) -> None:
        is_told = False  # that the name cannot be resolved
        while not self._is_closed.is_set():
            try:
                self._see(self._resolve(self._address))
                is_told = False
            except OSError as error:
                if not is_told:
                    known = f"{len(self._streams)} draft pods that are known stay" if self._streams else "no draft pods"
                    logger.warning("%s cannot be resolved, %s: %s", self._address, known, error)
                is_told = True
            self._is_closed.wait(self._every_seconds)

    def _see(self, addresses: set[str]) -> None:
        """A pod that is Ready no more keeps its stream while it lasts: it may be draining."""
        streams = {
            address: stream for address, stream in self._streams.items() if address in addresses or stream.is_open
        }
        for address in self._streams.keys() - streams.keys():
            self._streams[address].close()
            logger.info("draft pod %s is gone", address)
        for address in addresses - streams.keys():
            logger.info("draft pod %s", address)
            streams[address] = self._open(address)
        self._streams = streams  # replaced whole, for whoever reads it meanwhile
        if self._is_closed.is_set():
            self.close()
