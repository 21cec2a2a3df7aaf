"""A verifier's proposer against a real draft server: what is proposed is right, and no step waits for what is away."""

from __future__ import annotations

import time
from array import array
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tandem_runtime.draft_server.server import DraftServer
from tandem_runtime.drafting.counters import Counted, Counters
from tandem_runtime.drafting.depth import Depths
from tandem_runtime.drafting.proposing import RemoteDrafts
from tandem_runtime.drafting.protocol import VERSION
from tandem_runtime.drafting.protocol.draft_pb2 import Hello, VerifierFrame
from tandem_runtime.drafting.stream import DraftStream
from tests.unit.runtime.drafters import VOCABULARY, ArithmeticEngine, after

LIMIT_SECONDS = 20.0
DEADLINE_SECONDS = 5.0
"""Longer than any answer takes here: that it is not waited for is what the tests show."""
DEPTH = 4


class Always(Depths):
    """Learns, and asks for as much as there can be all the same."""

    def choose(self, rows: int) -> int:
        return DEPTH

    def step_seconds(self, rows: int) -> float:
        return LIMIT_SECONDS  # there is no engine here: a draft is worth any wait


class Pair:
    """A proposer and the draft server that it asks, which may be away."""

    def __init__(self, counters: Counters) -> None:
        self.engine, self.counters = ArithmeticEngine(), counters
        self.server: DraftServer | None = None
        self.port = self.start()
        hello = Hello(protocol=VERSION, verifier="v", vocabulary=VOCABULARY, max_depth=DEPTH)
        self.stream = DraftStream(f"127.0.0.1:{self.port}", VerifierFrame(hello=hello))
        self.drafts = RemoteDrafts(
            lambda: {"pod": self.stream},
            counters,
            depth=DEPTH,
            depths=Always(DEPTH),
            vocabulary=VOCABULARY,
            deadline_seconds=DEADLINE_SECONDS,
        )
        wait_for(lambda: self.stream.is_open)

    def start(self, port: int = 0) -> int:
        self.server = DraftServer(self.engine, name="drafter", max_depth=8, max_sessions=8)
        return self.server.start(f"127.0.0.1:{port}")

    def stop(self) -> None:
        if self.server is not None:
            self.server.stop(grace_seconds=0)
            self.server = None

    def propose(self, **contexts: array[int]) -> dict[str, list[int]]:
        return self.drafts.propose(contexts)

    def propose_until_drafted(self, **contexts: array[int]) -> dict[str, list[int]]:
        """Steps until every request has a draft; for how many it takes is not what the test is about."""
        found: dict[str, list[int]] = {}

        def is_drafted() -> bool:
            nonlocal found
            found = self.propose(**contexts)
            return all(found.values())

        wait_for(is_drafted)
        return found

    def counted(self, counted: Counted) -> float:
        return self.counters.value(counted)


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + LIMIT_SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    made = Pair(Counters(tmp_path / "counters"))
    yield made
    made.engine.may_go.set()
    made.stream.close()
    made.stop()


def test_a_request_has_its_draft_from_its_second_step_on_and_the_first_waits_for_nothing(pair: Pair) -> None:
    context = array("i", [1, 2, 3])
    pair.engine.may_go.clear()
    begun = time.monotonic()
    assert pair.propose(a=context) == {"a": []}
    assert time.monotonic() - begun < DEADLINE_SECONDS
    pair.engine.may_go.set()
    assert pair.propose_until_drafted(a=context) == {"a": after(context, DEPTH)}


def test_a_step_waits_for_a_server_that_has_proved_to_be_quick(pair: Pair) -> None:
    context = array("i", [1, 2, 3])
    pair.propose_until_drafted(a=context)
    for _ in range(10):
        draft = pair.propose(a=context)["a"]
        assert draft == after(context, DEPTH)
        context.extend([*draft[:2], (draft[2] + 1) % VOCABULARY])
    assert pair.counted(Counted.DEADLINES_MISSED) == 0


def test_a_draft_that_was_accepted_in_part_is_used_to_its_end_before_the_server_is_asked_again(pair: Pair) -> None:
    context = array("i", [1, 2, 3])
    draft = pair.propose_until_drafted(a=context)["a"]
    passes = len(pair.engine.passes)
    context.extend(draft[:1])
    assert pair.propose(a=context) == {"a": draft[1:]}
    assert len(pair.engine.passes) == passes


def test_a_new_request_in_the_batch_makes_no_other_one_wait(pair: Pair) -> None:
    old, new = array("i", [1]), array("i", [2])
    pair.propose_until_drafted(a=old)
    old.append((after(old, 1)[0] + 1) % VOCABULARY)
    pair.engine.may_go.clear()
    begun = time.monotonic()
    assert pair.propose(a=old, b=new) == {"a": [], "b": []}
    assert time.monotonic() - begun < DEADLINE_SECONDS
    pair.engine.may_go.set()
    assert pair.propose_until_drafted(a=old, b=new) == {"a": after(old, DEPTH), "b": after(new, DEPTH)}


def test_one_missed_deadline_is_the_last_until_the_server_is_quick_again(pair: Pair) -> None:
    slow = RemoteDrafts(
        lambda: {"pod": pair.stream},
        pair.counters,
        depth=DEPTH,
        depths=Always(DEPTH),
        vocabulary=VOCABULARY,
        deadline_seconds=2.0,
    )
    context = array("i", [1])
    wait_for(lambda: bool(slow.propose({"a": context})["a"]))
    missed = pair.counted(Counted.DEADLINES_MISSED)
    pair.engine.may_go.clear()
    for _ in range(3):
        context.append((after(context, 1)[0] + 1) % VOCABULARY)
        slow.propose({"a": context})
    assert pair.counted(Counted.DEADLINES_MISSED) - missed == 1
    pair.engine.may_go.set()
    wait_for(lambda: bool(slow.propose({"a": context})["a"]))


def test_a_step_goes_on_when_its_deadline_has_passed(pair: Pair) -> None:
    deadline_seconds, slack_seconds, waits = 0.05, 0.2, list[float]()
    quick = RemoteDrafts(
        lambda: {"pod": pair.stream},
        pair.counters,
        depth=DEPTH,
        depths=Always(DEPTH),
        vocabulary=VOCABULARY,
        deadline_seconds=deadline_seconds,
    )
    context = array("i", [1])

    def is_late_once_more() -> bool:
        """Drafts until one is in time, and a step then while the engine is held back; whether that has waited."""
        pair.engine.may_go.set()
        wait_for(lambda: bool(quick.propose({"a": context})["a"]))
        context.append((after(context, 1)[0] + 1) % VOCABULARY)
        missed, begun = pair.counted(Counted.DEADLINES_MISSED), time.monotonic()
        pair.engine.may_go.clear()
        quick.propose({"a": context})
        if pair.counted(Counted.DEADLINES_MISSED) > missed:
            waits.append(time.monotonic() - begun)
        return len(waits) == 3

    wait_for(is_late_once_more)
    # The shortest: this machine may do something else meanwhile, but hardly three times.
    assert deadline_seconds <= min(waits) < deadline_seconds + slack_seconds


def test_a_server_that_goes_and_comes_back_is_used_again(pair: Pair) -> None:
    context = array("i", [1, 2])
    pair.propose_until_drafted(a=context)
    pair.stop()
    context.append((after(context, 1)[0] + 1) % VOCABULARY)
    wait_for(lambda: not pair.stream.is_open)
    begun = time.monotonic()
    assert pair.propose(a=context) == {"a": []}
    assert time.monotonic() - begun < DEADLINE_SECONDS
    pair.start(pair.port)
    assert pair.propose_until_drafted(a=context) == {"a": after(context, DEPTH)}
    assert pair.counted(Counted.CALLS_FAILED) >= 1


def test_a_request_that_is_over_is_forgotten_there(pair: Pair) -> None:
    pair.propose_until_drafted(a=array("i", [1]), b=array("i", [2]))
    pair.propose_until_drafted(b=array("i", [2, 5]))
    wait_for(lambda: len(pair.engine.forgotten) == 1)
