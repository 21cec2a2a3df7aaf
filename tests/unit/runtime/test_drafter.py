"""One draft pod as a verifier sees it, in virtual time: when it is asked, for how much, when it is waited for."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tandem_runtime.drafting.breaker import FIRST_PAUSE_SECONDS, WAITS
from tandem_runtime.drafting.counters import Counted, Counters
from tandem_runtime.drafting.depth import Depths
from tandem_runtime.drafting.drafter import MOST_UNANSWERED, PROBED_ROWS, SILENCE_SECONDS, Drafter
from tandem_runtime.drafting.protocol import length_of
from tandem_runtime.drafting.protocol.draft_pb2 import (
    Draft,
    DrafterFrame,
    Notice,
    Result,
    Row,
    Step,
    VerifierFrame,
    Welcome,
)

VOCABULARY = 100
DEPTH = 4
DEADLINE_SECONDS = 0.1
QUICK_SECONDS = 0.01
RIGHT, WRONG = 7, 8
"""The token of every draft, and one that is in none."""


@dataclass
class Line:
    """The other end of a stream. What comes, comes when the test says."""

    now: float = 100.0
    failures: int = 0
    is_open: bool = True
    sent: list[Step] = field(default_factory=list)
    coming: list[tuple[float, DrafterFrame]] = field(default_factory=list)
    renewed: int = 0

    def send(self, frame: VerifierFrame) -> None:
        self.sent.append(frame.step)

    def take(self, until: float) -> list[tuple[float, DrafterFrame]]:
        if not any(at <= self.now for at, _ in self.coming):
            self.now = min([max(until, self.now), *(at for at, _ in self.coming)])
        come = [(at, frame) for at, frame in self.coming if at <= self.now]
        self.coming = [(at, frame) for at, frame in self.coming if at > self.now]
        return come

    def renew(self) -> None:
        self.renewed += 1

    def refuse(self, reason: str) -> None:
        raise AssertionError(reason)

    def answer(self, *, seconds: float = QUICK_SECONDS, token: int = RIGHT) -> None:
        """The last step is answered, so long from now."""
        step = self.sent[-1]
        drafts = [
            Draft(
                session=row.session,
                generation=row.generation,
                base_length=length_of(row),
                tokens=array("i", [token] * row.depth).tobytes(),
            )
            for row in step.rows
        ]
        self.coming.append((self.now + seconds, DrafterFrame(result=Result(step=step.number, drafts=drafts))))

    def greet(self, **said: int) -> None:
        self.coming.append((self.now, DrafterFrame(welcome=Welcome(**said))))


class Verifier:
    """Its side of the line, with a few requests."""

    def __init__(self, folder: Path) -> None:
        self.line, self.counters = Line(), Counters(folder / "counters")
        self.pod = Drafter(
            self.line,
            self.counters,
            Depths(DEPTH),
            depth=DEPTH,
            vocabulary=VOCABULARY,
            deadline_seconds=DEADLINE_SECONDS,
            now=lambda: self.line.now,
        )
        self.contexts = {name: array("i", [1, 2]) for name in "abcde"}

    @property
    def until(self) -> float:
        return self.line.now + DEADLINE_SECONDS

    def ask(self) -> bool:
        """A step's asking, after a token that no draft had; whether it is to wait."""
        for context in self.contexts.values():
            context.append(WRONG)
        return self.pod.ask(self.contexts, rows=len(self.contexts), depth=DEPTH, ahead=0, until=self.until)

    def is_answered(self, *, seconds: float = QUICK_SECONDS) -> bool:
        """Ask, and take the answer in when it has come, while the engine goes on; whether the step was to wait."""
        waits = self.ask()
        self.line.answer(seconds=seconds)
        self.line.now += seconds
        self.pod.take(0.0)
        return waits

    def loses_its_stream(self) -> None:
        self.line.failures += 1
        self.pod.take(0.0)

    def pauses(self) -> None:
        """As long as the first pause lasts at most."""
        self.line.now += FIRST_PAUSE_SECONDS


@pytest.fixture
def verifier(tmp_path: Path) -> Verifier:
    made = Verifier(tmp_path)
    made.line.greet()
    made.pod.take(0.0)
    return made


def test_steps_wait_for_a_pod_that_has_been_in_time_and_after_a_late_answer_only_for_one_that_is_well_in_time(
    verifier: Verifier,
) -> None:
    shares = (0.9, 0.4, 0.9, 0.9, 1.1, 0.9, 0.4, 0.9)
    waited = [verifier.is_answered(seconds=share * DEADLINE_SECONDS) for share in shares]
    assert waited == [False, False, True, True, True, False, False, True]


def test_a_pod_is_told_how_much_time_is_left_where_a_step_waits_and_only_there(verifier: Verifier) -> None:
    verifier.is_answered()
    assert verifier.line.sent[-1].budget_us == 0
    left = 0.07
    asked = verifier.pod.ask(verifier.contexts, rows=5, depth=DEPTH, ahead=0, until=verifier.line.now + left)
    assert asked
    assert verifier.line.sent[-1].budget_us == pytest.approx(left * 1e6, abs=2)


def test_one_missed_deadline_is_counted_and_the_next_step_does_not_wait(verifier: Verifier) -> None:
    verifier.is_answered()
    assert verifier.ask()
    begun = verifier.line.now
    assert verifier.pod.wait(verifier.until, verifier.contexts) == {}
    assert verifier.line.now == pytest.approx(begun + DEADLINE_SECONDS)
    assert verifier.counters.value(Counted.DEADLINES_MISSED) == 1
    assert not verifier.ask()


def test_a_pod_that_lets_every_second_wait_down_is_left_alone(verifier: Verifier) -> None:
    for number in range(WAITS):
        assert verifier.pod.is_usable
        verifier.is_answered()
        assert verifier.ask()
        if number % 2:
            verifier.line.answer()
        found = verifier.pod.wait(verifier.until, verifier.contexts)
        assert len(found) == (len(verifier.contexts) if number % 2 else 0)
    assert verifier.pod.is_tripped
    assert not verifier.pod.is_usable


def test_a_pod_that_says_what_it_must_not_is_left_alone(verifier: Verifier) -> None:
    verifier.ask()
    verifier.line.answer(token=VOCABULARY)
    verifier.pod.take(verifier.until)
    assert verifier.counters.value(Counted.ROWS_INVALID) == len(verifier.contexts)
    assert not verifier.pod.is_usable
    sent = len(verifier.line.sent)
    assert not verifier.ask()
    assert len(verifier.line.sent) == sent


def test_a_pod_whose_stream_is_lost_is_left_alone_and_then_tried_with_little_until_it_is_in_time(
    verifier: Verifier,
) -> None:
    verifier.is_answered()
    verifier.ask()  # which nobody will answer: it was asked on the stream that is lost
    verifier.loses_its_stream()
    assert not verifier.pod.is_usable
    verifier.pauses()
    assert verifier.pod.is_usable
    for _ in range(2):
        assert not verifier.ask(), "nobody waits for a probe"
        probe, sent = verifier.line.sent[-1], len(verifier.line.sent)
        assert (len(probe.rows), probe.budget_us) == (PROBED_ROWS, 0)
        verifier.ask()
        assert len(verifier.line.sent) == sent, "one probe at a time"
        assert verifier.pod.is_tripped
        verifier.line.answer()
        verifier.pod.take(verifier.until)
    assert not verifier.pod.is_tripped
    assert verifier.ask()
    assert len(verifier.line.sent[-1].rows) == len(verifier.contexts)


def test_a_probe_that_is_answered_late_begins_another_pause(verifier: Verifier) -> None:
    verifier.loses_its_stream()
    verifier.pauses()
    for _ in range(2):
        verifier.is_answered(seconds=2 * DEADLINE_SECONDS)
        assert not verifier.pod.is_usable
        verifier.pauses()
        verifier.pauses()


def test_no_more_steps_are_sent_than_may_be_unanswered_and_one_answer_is_that_of_all_before_it(
    verifier: Verifier,
) -> None:
    for _ in range(MOST_UNANSWERED + 3):
        verifier.ask()
        verifier.line.now += 0.001
    assert len(verifier.line.sent) == MOST_UNANSWERED
    verifier.line.answer()
    verifier.pod.take(verifier.until)
    verifier.line.now += 2 * SILENCE_SECONDS
    verifier.ask()
    assert len(verifier.line.sent) == MOST_UNANSWERED + 1
    assert verifier.pod.is_usable, "the steps before the answered one are no silence"


def test_a_pod_that_drains_is_left_and_a_new_stream_in_its_place_is_used(verifier: Verifier) -> None:
    verifier.line.coming.append((verifier.line.now, DrafterFrame(notice=Notice(draining=True))))
    verifier.pod.take(0.0)
    assert verifier.line.is_open
    assert not verifier.pod.is_usable
    assert verifier.line.renewed == 1
    verifier.line.greet()
    verifier.pod.take(0.0)
    assert verifier.pod.is_usable


def test_a_pod_that_greets_anew_is_sent_everything_again_and_owes_no_answer(verifier: Verifier) -> None:
    verifier.ask()
    before = {row.session: row.generation for row in verifier.line.sent[-1].rows}
    verifier.line.greet(max_sessions=len(before))
    verifier.pod.take(0.0)
    verifier.line.now += 2 * SILENCE_SECONDS
    verifier.contexts["one more"] = array("i", [1, 2])
    verifier.ask()
    assert verifier.pod.is_usable
    rows = verifier.line.sent[-1].rows
    assert lengths(rows) == [(0, 4)] * len(before), "as many sessions as the new one keeps"
    assert all(row.generation > before[row.session] for row in rows)


def lengths(rows: Sequence[Row]) -> list[tuple[int, int]]:
    """Of what each row builds on, and of the whole context."""
    return [(row.base_length, length_of(row)) for row in rows]
