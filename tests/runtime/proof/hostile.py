"""Draft servers that break the protocol on purpose, each in one way. They speak gRPC in raw bytes."""

from __future__ import annotations

import itertools
import random
import threading
from array import array
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Self

import grpc

from tandem_runtime.drafting.protocol import METHOD, SERVICE, VERSION, DrafterFrame, VerifierFrame, length_of
from tandem_runtime.drafting.protocol.draft_pb2 import Draft, Notice, Result, Row, Step, Welcome
from tests.runtime.engines import LOOPBACK

SEED = 11
STREAMS = 16
CONNECT_LIMIT_SECONDS = 60.0
FLOOD_SESSIONS = 10_000
_FRAMES = [("grpc.max_send_message_length", -1)]

Behaviour = Callable[[Iterator[VerifierFrame], int], Iterator[bytes]]
"""What a stream gets, from what it sends and the verifier's vocabulary."""
Tokens = Callable[[Row, random.Random], Iterable[int]]


class HostileServer:
    """Serves one behaviour on a port of its own."""

    def __init__(self, behaviour: Behaviour) -> None:
        self._behaviour = behaviour
        self.asked = 0
        """Rows that drafts were asked for."""
        self._met = threading.Event()
        self._server = grpc.server(ThreadPoolExecutor(STREAMS, "hostile"), options=_FRAMES)
        handler: grpc.RpcMethodHandler[VerifierFrame, bytes] = grpc.stream_stream_rpc_method_handler(
            self._session, request_deserializer=VerifierFrame.FromString, response_serializer=None
        )
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, {METHOD: handler}),))
        self.address = f"{LOOPBACK}:{self._server.add_insecure_port(f'{LOOPBACK}:0')}"

    def __enter__(self) -> Self:
        self._server.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.stop(0).wait(CONNECT_LIMIT_SECONDS)

    def wait_until_met(self) -> None:
        """Until a verifier has opened a stream."""
        assert self._met.wait(CONNECT_LIMIT_SECONDS), f"no stream within {CONNECT_LIMIT_SECONDS:.0f} s"

    def _session(self, frames: Iterator[VerifierFrame], _context: grpc.ServicerContext) -> Iterator[bytes]:
        hello = next(frames).hello
        self._met.set()
        yield from self._behaviour(self._counted(frames), hello.vocabulary)

    def _counted(self, frames: Iterator[VerifierFrame]) -> Iterator[VerifierFrame]:
        for frame in frames:
            self.asked += sum(row.depth > 0 for row in frame.step.rows)
            yield frame


def greeting(vocabulary: int, incarnation: int = 1) -> bytes:
    """Of a server that promises everything."""
    said = Welcome(protocol=VERSION, drafter="hostile", incarnation=incarnation, vocabulary=vocabulary, max_depth=2**31)
    return DrafterFrame(welcome=said).SerializeToString()


def answer(step: Step, drafts: Iterable[Draft]) -> bytes:
    return DrafterFrame(result=Result(step=step.number, drafts=drafts)).SerializeToString()


def steps(frames: Iterator[VerifierFrame]) -> Iterator[tuple[Step, list[Row]]]:
    """Each step with the rows that want a draft."""
    for frame in frames:
        yield frame.step, [row for row in frame.step.rows if row.depth]


def draft_of(row: Row, tokens: bytes, *, generation: int = 0, back: int = 0, status: Draft.Status = Draft.OK) -> Draft:
    """An answer to a row, of a generation that is so much off and a context that is so much shorter."""
    return Draft(
        session=row.session,
        generation=max(row.generation + generation, 0),
        base_length=(length_of(row) - back) % 2**32,
        tokens=tokens,
        status=status,
    )


def drafting(
    tokens: Callable[[random.Random, int, int], Iterable[int]], *, generation: int = 0, back: int = 0
) -> Behaviour:
    """Answers every row at once with the tokens that `tokens` draws, of a vocabulary and a depth."""

    def behave(frames: Iterator[VerifierFrame], vocabulary: int) -> Iterator[bytes]:
        chance = random.Random(SEED)
        yield greeting(vocabulary)
        for step, rows in steps(frames):
            drawn = (array("i", tokens(chance, vocabulary, row.depth)).tobytes() for row in rows)
            drafts = (
                draft_of(row, each, generation=generation, back=back) for row, each in zip(rows, drawn, strict=True)
            )
            yield answer(step, drafts)

    return behave


def refusing(status: Draft.Status) -> Behaviour:
    """Has a status for every row, and never a token."""

    def behave(frames: Iterator[VerifierFrame], vocabulary: int) -> Iterator[bytes]:
        yield greeting(vocabulary)
        for step, rows in steps(frames):
            yield answer(step, (draft_of(row, b"", status=status) for row in rows))

    return behave


def broken_tokens(frames: Iterator[VerifierFrame], vocabulary: int) -> Iterator[bytes]:
    """Tokens that are cut off inside an id."""
    yield greeting(vocabulary)
    for step, rows in steps(frames):
        yield answer(step, (draft_of(row, b"\1\2\3\4\5") for row in rows))


def repeating(frames: Iterator[VerifierFrame], vocabulary: int) -> Iterator[bytes]:
    """Every answer that it ever gave, again with each one."""
    chance, said = random.Random(SEED), list[Draft]()
    yield greeting(vocabulary)
    for step, rows in steps(frames):
        said += [
            draft_of(row, array("i", (chance.randrange(vocabulary) for _ in range(row.depth))).tobytes())
            for row in rows
        ]
        said = said[-1000:]
        yield answer(step, said)


def evicting(frames: Iterator[VerifierFrame], vocabulary: int) -> Iterator[bytes]:
    """Forgets every session as soon as it hears of it."""
    yield greeting(vocabulary)
    for _, rows in steps(frames):
        yield DrafterFrame(notice=Notice(evicted=[row.session for row in rows])).SerializeToString()


def greeting_again(frames: Iterator[VerifierFrame], vocabulary: int) -> Iterator[bytes]:
    """Says that it has started anew at each step."""
    yield greeting(vocabulary)
    for number, _ in enumerate(steps(frames)):
        yield greeting(vocabulary, number)


def garbage(frames: Iterator[VerifierFrame], vocabulary: int) -> Iterator[bytes]:
    """Bytes that are no message."""
    chance = random.Random(SEED)
    yield greeting(vocabulary)
    for _ in steps(frames):
        yield b"\xff" + chance.randbytes(100)


def silence(frames: Iterator[VerifierFrame], vocabulary: int) -> Iterator[bytes]:
    """Nothing after the greeting."""
    yield greeting(vocabulary)
    for _ in frames:
        pass


def never_a_word(frames: Iterator[VerifierFrame], _vocabulary: int) -> Iterator[bytes]:
    """Not even a greeting."""
    for _ in frames:
        pass
    yield b""


def leaving(frames: Iterator[VerifierFrame], vocabulary: int) -> Iterator[bytes]:
    """Ends each stream at its first step."""
    yield greeting(vocabulary)
    next(frames, None)


def draining(frames: Iterator[VerifierFrame], vocabulary: int) -> Iterator[bytes]:
    """Says goodbye in each stream as soon as it is there."""
    yield greeting(vocabulary)
    yield DrafterFrame(notice=Notice(draining=True)).SerializeToString()
    for _ in frames:
        pass


def flood(_frames: Iterator[VerifierFrame], vocabulary: int) -> Iterator[bytes]:
    """Frames that nobody asked for, as fast as they are taken, some of them large."""
    sessions = range(FLOOD_SESSIONS)
    large = Result(step=1, drafts=[Draft(session=session, tokens=b"\1\0\0\0") for session in sessions])
    frames = (
        DrafterFrame(result=Result(step=2**40)),
        DrafterFrame(result=large),
        DrafterFrame(notice=Notice(evicted=sessions)),
    )
    yield greeting(vocabulary)
    yield from itertools.cycle(frame.SerializeToString() for frame in frames)


def drawn(chance: random.Random, vocabulary: int, depth: int) -> list[int]:
    """Tokens of the vocabulary, at random."""
    return [chance.randrange(vocabulary) for _ in range(depth)]


BEHAVIOURS: dict[str, Behaviour] = {
    "random tokens": drafting(drawn),
    "ids beyond the vocabulary": drafting(lambda chance, size, depth: [chance.randrange(size, 2**31)] * depth),
    "a wrong id in the middle": drafting(lambda chance, size, depth: [*drawn(chance, size, depth - 1), size]),
    "negative ids": drafting(lambda chance, _, depth: [chance.randrange(-(2**31), 0) for _ in range(depth)]),
    "minus one": drafting(lambda _chance, _size, depth: [-1] * depth),
    "far too many tokens": drafting(lambda chance, size, _: drawn(chance, size, 10_000)),
    "an earlier generation": drafting(drawn, generation=-1),
    "a later generation": drafting(drawn, generation=1),
    "an earlier context": drafting(drawn, back=1),
    "a context that is not there yet": drafting(drawn, back=-(2**20)),
    "a context of negative length": drafting(drawn, back=2**31),
    "tokens that are cut off": broken_tokens,
    "every answer again and again": repeating,
    "no context is ever there": refusing(Draft.RESYNC),
    "every context is unfit": refusing(Draft.UNFIT),
    "overloaded": refusing(Draft.OVERLOADED),
    "every session is evicted": evicting,
    "a greeting at each step": greeting_again,
    "garbage": garbage,
    "silence after the greeting": silence,
    "silence": never_a_word,
    "streams that end": leaving,
    "draining at once": draining,
    "a flood": flood,
}
