"""The draft server on gRPC: a thread for each verifier's answers, another that hears it."""

from __future__ import annotations

import itertools
import secrets
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import grpc

from tandem_runtime.draft_server.engines import DraftEngine
from tandem_runtime.draft_server.streams import MismatchError, Offer, Stream, welcome
from tandem_runtime.draft_server.turns import Turns
from tandem_runtime.drafting.protocol import METHOD, SERVICE, DrafterFrame, VerifierFrame
from tandem_runtime.drafting.protocol.draft_pb2 import Notice

STREAMS = 64
"""Verifier engines that one draft pod answers."""


class DraftServer:
    """Serves one engine on one address."""

    def __init__(self, engine: DraftEngine, *, name: str, max_depth: int, max_sessions: int) -> None:
        self._engine, self._turns = engine, Turns(engine)
        self._offer = Offer(name, secrets.randbits(64), max_depth, max_sessions)
        self._numbers = itertools.count()
        self._is_draining = threading.Event()
        self._server = grpc.server(ThreadPoolExecutor(STREAMS, "stream"), maximum_concurrent_rpcs=STREAMS)
        handler = grpc.stream_stream_rpc_method_handler(
            self._session,
            request_deserializer=VerifierFrame.FromString,
            response_serializer=DrafterFrame.SerializeToString,
        )
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, {METHOD: handler}),))

    def start(self, address: str) -> int:
        """Listen; returns the port."""
        port: int = self._server.add_insecure_port(address)
        self._server.start()
        return port

    def stop(self, *, grace_seconds: float) -> None:
        """Take no new session, answer what was asked for, end."""
        self._is_draining.set()
        self._server.stop(grace_seconds).wait()

    def _session(self, frames: Iterator[VerifierFrame], context: grpc.ServicerContext) -> Iterator[DrafterFrame]:
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
        )
        threading.Thread(target=_heard, args=(stream, frames), name="frames", daemon=True).start()
        is_told = False
        for frame in stream.answers():
            if self._is_draining.is_set() and not is_told:
                is_told = True
                yield DrafterFrame(notice=Notice(draining=True))
            yield frame


def _heard(stream: Stream, frames: Iterator[VerifierFrame]) -> None:
    try:
        stream.hear(frames)
    except grpc.RpcError:
        return  # the verifier is gone, and `answers` has been told
