"""The draft server on gRPC: a thread for each verifier's answers, another that hears it."""

from __future__ import annotations

import itertools
import secrets
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import grpc

from tandem_runtime.draft_server.access import Access, RefusedError
from tandem_runtime.draft_server.engines import DraftEngine
from tandem_runtime.draft_server.figures import Figures
from tandem_runtime.draft_server.health import health_of
from tandem_runtime.draft_server.streams import MismatchError, Offer, Stream, welcome
from tandem_runtime.draft_server.turns import Turns
from tandem_runtime.drafting.protocol import METHOD, SERVICE, DrafterFrame, VerifierFrame

STREAMS = 64
"""Verifier engines that one draft pod answers. As many threads again are left for health checks."""
FASTEST_PINGS_MS = 5_000
"""Verifiers ask by pings whether the pod is still there."""


class DraftServer:
    """Serves one engine on one address."""

    def __init__(
        self,
        engine: DraftEngine,
        *,
        name: str,
        max_depth: int,
        max_sessions: int,
        figures: Figures | None = None,
        access: Access | None = None,
    ) -> None:
        """With `access` over TLS, for who has the right token; without in plaintext, for everybody."""
        self._engine, self._access = engine, access
        self._figures = figures or Figures()
        self._turns = Turns(engine, self._figures)
        self._offer = Offer(name, secrets.randbits(64), max_depth, max_sessions)
        self._numbers = itertools.count()
        self._is_draining = threading.Event()
        self._streams: set[Stream] = set()
        self._server = grpc.server(
            ThreadPoolExecutor(2 * STREAMS, "stream"),
            maximum_concurrent_rpcs=2 * STREAMS,
            options=[("grpc.http2.min_ping_interval_without_data_ms", FASTEST_PINGS_MS)],
        )
        handler = grpc.stream_stream_rpc_method_handler(
            self._session,
            request_deserializer=VerifierFrame.FromString,
            response_serializer=DrafterFrame.SerializeToString,
        )
        drafter = grpc.method_handlers_generic_handler(SERVICE, {METHOD: handler})
        self._health = health_of(lambda: not self._is_draining.is_set())
        self._server.add_generic_rpc_handlers((drafter, self._health))
        self._health_server: grpc.Server | None = None

    def start(self, address: str) -> int:
        """Listen; returns the port. Raises OSError where the certificates are not there."""
        port: int
        if self._access is None:
            port = self._server.add_insecure_port(address)
        else:
            port = self._server.add_secure_port(address, self._access.server_credentials())
        self._server.start()
        return port

    def start_health(self, address: str) -> int:
        """Listen in plaintext too, for nothing but the health service; returns the port."""
        self._health_server = grpc.server(ThreadPoolExecutor(1, "health"))
        self._health_server.add_generic_rpc_handlers((self._health,))
        port: int = self._health_server.add_insecure_port(address)
        self._health_server.start()
        return port

    def stop(self, *, grace_seconds: float) -> None:
        """Take no new stream, tell the verifiers to go, answer what they have asked for, end."""
        self._is_draining.set()
        for stream in tuple(self._streams):
            stream.drain()
        self._server.stop(grace_seconds).wait()
        if self._health_server is not None:
            self._health_server.stop(None).wait()

    def _session(self, frames: Iterator[VerifierFrame], context: grpc.ServicerContext) -> Iterator[DrafterFrame]:
        if self._access is not None:
            try:
                self._access.require(context.invocation_metadata())
            except RefusedError as error:
                context.abort(error.code, str(error))
                return
        if len(self._streams) >= STREAMS:
            context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, f"{STREAMS} verifiers are connected, as many as can be")
            return
        first = next(frames, None)
        if first is None or first.WhichOneof("frame") != "hello":
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "the first frame must be hello")
            return
        try:
            greeting = welcome(first.hello, self._engine, self._offer)
        except MismatchError as error:
            context.abort(grpc.StatusCode.FAILED_PRECONDITION, str(error))
            return
        yield DrafterFrame(welcome=greeting)
        stream = Stream(
            next(self._numbers),
            self._engine,
            self._turns,
            depth=greeting.max_depth,
            sessions=self._offer.max_sessions,
            figures=self._figures,
        )
        threading.Thread(target=_heard, args=(stream, frames), name="frames", daemon=True).start()
        self._streams.add(stream)
        self._figures.connected(1)
        if self._is_draining.is_set():  # since it came between the call and this
            stream.drain()
        try:
            yield from stream.answers()
        finally:
            self._streams.discard(stream)
            self._figures.connected(-1)


def _heard(stream: Stream, frames: Iterator[VerifierFrame]) -> None:
    try:
        stream.hear(frames)
    except grpc.RpcError:
        return  # the verifier is gone, and `answers` has been told
