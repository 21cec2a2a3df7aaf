"""What a draft server that floods or lies can make a verifier do: little work a step, and ever fewer streams."""

from __future__ import annotations

import itertools
import threading
import time
from array import array
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tandem_runtime.drafting import stream as stream_module
from tandem_runtime.drafting.counters import Counted, Counters
from tandem_runtime.drafting.proposing import RemoteDrafts
from tandem_runtime.drafting.protocol import VERSION, DrafterFrame, VerifierFrame
from tandem_runtime.drafting.protocol.draft_pb2 import Draft, Hello, Notice, Result, Welcome
from tandem_runtime.drafting.sessions import Sessions
from tandem_runtime.drafting.stream import BYTES_KEPT, FIRST_PAUSE_SECONDS, DraftStream
from tests.runtime.proof.hostile import Behaviour, HostileServer, draining, flood, greeting, never_a_word, silence
from tests.unit.runtime.drafters import VOCABULARY

LIMIT_SECONDS = 30.0
DEPTH = 4


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + LIMIT_SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


class Verifier:
    """A proposer and its stream to a hostile server."""

    def __init__(self, server: HostileServer, folder: Path) -> None:
        hello = Hello(protocol=VERSION, verifier="v", vocabulary=VOCABULARY, max_depth=DEPTH)
        self.stream = DraftStream(server.address, VerifierFrame(hello=hello))
        self.counters = Counters(folder / "counters")
        self.drafts = RemoteDrafts(
            lambda: {"pod": self.stream}, self.counters, depth=DEPTH, vocabulary=VOCABULARY, deadline_seconds=0.05
        )


@pytest.fixture
def meet(tmp_path: Path) -> Iterator[Callable[[Behaviour], tuple[Verifier, HostileServer]]]:
    ends: list[Callable[[], None]] = []

    def made(behaviour: Behaviour) -> tuple[Verifier, HostileServer]:
        server = HostileServer(behaviour)
        server.__enter__()
        verifier = Verifier(server, tmp_path)
        ends.extend([verifier.stream.close, server.__exit__])
        return verifier, server

    yield made
    for end in ends:
        end()


def test_of_a_frame_only_as_much_is_looked_at_as_was_asked_for() -> None:
    sessions, context = Sessions(depth=DEPTH, vocabulary=VOCABULARY, draw=lambda: 5), array("i", [1])
    (row,) = sessions.rows({"a": context}, depth=DEPTH)
    strangers = [Draft(session=number) for number in range(10, 1000)]
    late = Draft(session=5, generation=row.generation, base_length=1, tokens=array("i", [2]).tobytes())
    taken = sessions.take(Result(drafts=[*strangers, late]))
    assert (taken.stale, taken.used, taken.invalid) == (2, 0, 1)
    sessions.forgotten([*range(10, 1000), 5])
    assert sessions.rows({"a": array("i", [1, 2])}, depth=1)[0].base_length == 1


def test_a_server_that_floods_an_idle_verifier_is_left(meet: Callable[..., tuple[Verifier, HostileServer]]) -> None:
    verifier, _ = meet(flood)
    wait_for(lambda: verifier.stream.failures >= 2)


@pytest.mark.parametrize("drafts", [100, 60_000, 1_000_000])
def test_what_an_idle_verifier_keeps_of_a_flood_is_little(
    meet: Callable[..., tuple[Verifier, HostileServer]], drafts: int
) -> None:
    """Empty drafts are two bytes each on the wire, and many more in memory."""

    def bulky(_frames: Iterator[VerifierFrame], vocabulary: int) -> Iterator[bytes]:
        yield greeting(vocabulary)
        frame = DrafterFrame(result=Result(step=1, drafts=[Draft()] * drafts)).SerializeToString()
        yield from itertools.repeat(frame)

    verifier, _ = meet(bulky)
    most = 0

    def is_left() -> bool:
        nonlocal most
        most = max(most, sum(frame.ByteSize() for _, frame in list(verifier.stream._inbox)))
        return verifier.stream.failures >= 1

    wait_for(is_left)
    assert most <= BYTES_KEPT


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ({"vocabulary": VOCABULARY + 1}, "the verifier's vocabulary has"),
        ({"protocol": VERSION + 1}, "the draft server 2"),
        ({"vocabulary": 0}, "neither may be 0"),
    ],
)
def test_a_server_whose_ids_mean_something_else_is_not_asked(
    meet: Callable[..., tuple[Verifier, HostileServer]],
    caplog: pytest.LogCaptureFixture,
    said: dict[str, int],
    told: str,
) -> None:
    asked: list[VerifierFrame] = []

    def another(frames: Iterator[VerifierFrame], vocabulary: int) -> Iterator[bytes]:
        greeted = {"protocol": VERSION, "vocabulary": vocabulary, "max_depth": DEPTH, **said}
        yield DrafterFrame(welcome=Welcome(**greeted)).SerializeToString()
        asked.extend(frames)

    verifier, _ = meet(another)
    wait_for(lambda: verifier.stream.failures >= 1)
    assert not verifier.stream.is_open
    assert asked == []
    assert told in caplog.text


def test_what_a_server_has_sent_that_is_left_for_it_is_not_read(
    meet: Callable[..., tuple[Verifier, HostileServer]],
) -> None:
    has_flooded = threading.Event()

    def floods_once(frames: Iterator[VerifierFrame], vocabulary: int) -> Iterator[bytes]:
        if not has_flooded.is_set():
            has_flooded.set()
            yield from flood(frames, vocabulary)
        yield from never_a_word(frames, vocabulary)

    verifier, _ = meet(floods_once)
    wait_for(lambda: verifier.stream.failures >= 1)
    assert verifier.stream.take(0.0) == []


def stranger(frames: Iterator[VerifierFrame], vocabulary: int) -> Iterator[bytes]:
    """Whose ids mean something else."""
    yield from silence(frames, vocabulary + 1)


@pytest.mark.parametrize("behaviour", [stranger, flood])
def test_a_server_is_asked_again_ever_more_rarely(
    meet: Callable[..., tuple[Verifier, HostileServer]], monkeypatch: pytest.MonkeyPatch, behaviour: Behaviour
) -> None:
    first_seconds, streams, begun = 0.1, 5, list[float]()
    monkeypatch.setattr(stream_module, "FIRST_PAUSE_SECONDS", first_seconds)

    def noted(frames: Iterator[VerifierFrame], vocabulary: int) -> Iterator[bytes]:
        begun.append(time.monotonic())
        yield from behaviour(frames, vocabulary)

    meet(noted)
    wait_for(lambda: len(begun) >= streams)
    least = sum(0.75 * first_seconds * 2**number for number in range(streams - 1))
    assert begun[streams - 1] - begun[0] >= least


def test_a_server_that_floods_one_at_work_is_left(meet: Callable[..., tuple[Verifier, HostileServer]]) -> None:
    verifier, _ = meet(flood)
    context = array("i", [1])

    def is_left() -> bool:
        assert verifier.drafts.propose({"a": context}) == {"a": []}
        context.append(1)
        return verifier.counters.value(Counted.CALLS_FAILED) >= 2

    wait_for(is_left)


def test_frames_that_nobody_asked_for_end_the_stream_however_slowly_they_come(
    meet: Callable[..., tuple[Verifier, HostileServer]],
) -> None:
    go_on = threading.Semaphore(0)

    def drips(_frames: Iterator[VerifierFrame], vocabulary: int) -> Iterator[bytes]:
        yield greeting(vocabulary)
        for number in itertools.count():
            assert go_on.acquire(timeout=LIMIT_SECONDS)
            yield DrafterFrame(notice=Notice(evicted=[number])).SerializeToString()

    verifier, _ = meet(drips)

    def is_left() -> bool:
        go_on.release()
        verifier.drafts.propose({})
        return verifier.stream.failures >= 1

    wait_for(is_left)


def test_a_server_that_drains_again_and_again_is_not_asked_without_a_pause(
    meet: Callable[..., tuple[Verifier, HostileServer]],
) -> None:
    begun: list[float] = []

    def noted(frames: Iterator[VerifierFrame], vocabulary: int) -> Iterator[bytes]:
        begun.append(time.monotonic())
        yield from draining(frames, vocabulary)

    verifier, _ = meet(noted)

    def has_met_three() -> bool:
        verifier.drafts.propose({"a": array("i", [1])})
        return len(begun) >= 3

    wait_for(has_met_three)
    assert begun[2] - begun[0] >= FIRST_PAUSE_SECONDS
