"""A proposer in an engine's loop, in virtual time: with drafts as quick and as good as the test says."""

from __future__ import annotations

import random
from array import array
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tandem_runtime.drafting.counters import Counted, Counters
from tandem_runtime.drafting.proposing import RemoteDrafts
from tandem_runtime.drafting.protocol import length_of
from tandem_runtime.drafting.protocol.draft_pb2 import Draft, DrafterFrame, Result, Row, Step, VerifierFrame, Welcome

VOCABULARY = 1000
MOST = 8
STEP_SECONDS = 0.025
VERIFY_SECONDS = 0.0002
DEADLINE_SECONDS = 0.1


@dataclass
class Drafter:
    """The other end of a stream: its answers come after a round trip and a time for each token."""

    acceptance: float
    round_trip: float = 0.001
    token: float = 0.0025
    is_away: bool = False
    now: float = 100.0
    failures: int = 0
    is_open: bool = True
    chance: random.Random = field(default_factory=lambda: random.Random(3))
    pending: list[tuple[float, DrafterFrame]] = field(default_factory=lambda: [(0.0, DrafterFrame(welcome=Welcome()))])
    asked: int = 0
    """Steps that were answered."""
    sent: int = 0

    def renew(self) -> None:
        self.is_open = False

    def refuse(self, reason: str) -> None:
        raise AssertionError(reason)

    def send(self, frame: VerifierFrame) -> None:
        rows = [row for row in frame.step.rows if row.depth]
        self.sent += bool(rows)
        if not rows or self.is_away:
            return
        self.asked += 1
        depth = max(row.depth for row in rows)
        drafts = [
            Draft(
                session=row.session,
                generation=row.generation,
                base_length=length_of(row),
                tokens=array("i", self.continued(row)).tobytes(),
            )
            for row in rows
        ]
        compute = depth * self.token
        result = Result(step=frame.step.number, drafts=drafts, compute_us=int(compute * 1e6))
        self.pending.append((self.now + self.round_trip + compute, DrafterFrame(result=result)))

    def continued(self, row: Row) -> list[int]:
        return self.drafted(length_of(row), row.depth)

    def drafted(self, length: int, depth: int) -> list[int]:
        """The text is its own numbering; a token is right with the given probability."""
        right = (self.chance.random() < self.acceptance for _ in range(depth))
        return [(length + at) % VOCABULARY if is_right else VOCABULARY - 1 for at, is_right in enumerate(right)]

    def take(self, until: float) -> list[tuple[float, DrafterFrame]]:
        if self.pending and self.pending[0][0] > self.now:
            self.now = min(max(until, self.now), self.pending[0][0])
        elif not self.pending:
            self.now = max(until, self.now)
        come = [(at, frame) for at, frame in self.pending if at <= self.now]
        self.pending = [(at, frame) for at, frame in self.pending if at > self.now]
        return come


@dataclass
class GoingOn(Drafter):
    """Goes on after a draft until the next step arrives, and knows then what it has drafted."""

    may_go_on: bool = True
    known: dict[int, tuple[int, list[int]]] = field(default_factory=dict)
    """Context length and what comes after it, by session."""
    going: tuple[Step, float, int] | None = None
    """The step after whose draft it goes on, since when, and for how many tokens."""

    def send(self, frame: VerifierFrame) -> None:
        step = frame.step
        if not any(row.depth for row in step.rows):
            return
        arrives = self.now + self.round_trip / 2
        self._stop(arrives)
        found = {row.session: self._continued(length_of(row), row.session)[: row.depth] for row in step.rows}
        compute = self.token * max(row.depth - len(found[row.session]) for row in step.rows)
        self._answer(step, found, more=0, at=arrives + compute, compute=compute)
        self.going = (step, arrives + compute, step.ahead if self.may_go_on else 0)

    def take(self, until: float) -> list[tuple[float, DrafterFrame]]:
        if self.going and self.now >= self.going[1] + self.going[2] * self.token:
            self._stop(self.now)
        return super().take(until)

    def _stop(self, at: float) -> None:
        """Send what has been drafted ahead until then."""
        if self.going is None:
            return
        (step, since, most), self.going = self.going, None
        count = min(most, int((at - since) / self.token))
        if count > 0:
            found = {row.session: list(self.known[row.session][1]) for row in step.rows}
            self._answer(step, found, more=count, at=since + count * self.token, compute=count * self.token)

    def _answer(self, step: Step, found: dict[int, list[int]], *, more: int, at: float, compute: float) -> None:
        drafts = []
        for row in step.rows:
            tokens, length = found[row.session], length_of(row)
            tokens += self.drafted(length + len(tokens), row.depth + more - len(tokens))
            self.known[row.session] = (length, tokens)
            packed = array("i", tokens).tobytes()
            drafts.append(Draft(session=row.session, generation=row.generation, base_length=length, tokens=packed))
        result = Result(step=step.number, drafts=drafts, compute_us=int(compute * 1e6))
        self.pending.append((at + self.round_trip / 2, DrafterFrame(result=result)))

    def _continued(self, length: int, session: int) -> list[int]:
        """What it knows to come after a context of this length, if the tokens before are those that it has drafted."""
        base, tokens = self.known.get(session, (length, []))
        is_right = tokens[: length - base] == [(base + at) % VOCABULARY for at in range(length - base)]
        return tokens[length - base :] if is_right else []


@dataclass
class Engine:
    """Verifies what it is given; the text of each request is its own numbering."""

    drafts: RemoteDrafts
    drafter: Drafter
    contexts: dict[str, array[int]]
    verify_seconds: float = VERIFY_SECONDS
    """For each token of a draft."""
    tokens: int = 0
    depths: list[int] = field(default_factory=list)

    def run(self, steps: int) -> float:
        """Tokens a second."""
        begun, before = self.drafter.now, self.tokens
        for _ in range(steps):
            given = self.drafts.propose(self.contexts)
            depth = max(map(len, given.values()))
            self.depths.append(depth)
            self.drafter.now += STEP_SECONDS + self.verify_seconds * sum(map(len, given.values()))
            for request, context in self.contexts.items():
                start = len(context)
                for at, token in enumerate([*given[request], None]):
                    context.append((start + at) % VOCABULARY)
                    self.tokens += 1
                    if token != (start + at) % VOCABULARY:
                        break
        return (self.tokens - before) / (self.drafter.now - begun)


def make_engine(folder: Path, drafter: Drafter, *, rows: int = 1, longest: int = 2**31) -> Engine:
    counters = Counters(folder / "counters")
    drafts = RemoteDrafts(
        lambda: {"pod": drafter},
        counters,
        depth=MOST,
        vocabulary=VOCABULARY,
        deadline_seconds=DEADLINE_SECONDS,
        longest=longest,
        now=lambda: drafter.now,
    )
    return Engine(drafts, drafter, {f"r{number}": array("i", range(1, 5 + number)) for number in range(rows)})


@pytest.mark.parametrize("rows", [1, 4, 8])
def test_good_drafts_make_an_engine_more_than_twice_as_fast(tmp_path: Path, rows: int) -> None:
    engine = make_engine(tmp_path, Drafter(acceptance=0.85), rows=rows)
    engine.run(300)
    assert engine.run(700) > 2 * rows / STEP_SECONDS


@pytest.mark.parametrize(
    ("drafter", "verify_seconds"),
    [
        (Drafter(acceptance=0.05), VERIFY_SECONDS),
        (Drafter(acceptance=0.5, round_trip=0.08), VERIFY_SECONDS),
        (Drafter(acceptance=0.6, token=0.05), VERIFY_SECONDS),
        (Drafter(acceptance=0.6, token=0.001), STEP_SECONDS),
    ],
    ids=["useless", "distant", "slow", "dear to verify"],
)
def test_where_drafts_lose_they_cost_next_to_nothing(tmp_path: Path, drafter: Drafter, verify_seconds: float) -> None:
    engine = make_engine(tmp_path, drafter)
    engine.verify_seconds = verify_seconds
    engine.run(200)
    assert engine.run(2000) > 0.95 / STEP_SECONDS
    assert engine.depths[-1000:].count(0) > 980
    asked = drafter.asked
    engine.run(1000)
    assert drafter.asked - asked < 20


@dataclass
class Empty(Drafter):
    """Answers promptly, and with nothing, from when on it is told to."""

    status: Draft.Status = Draft.OK
    is_empty: bool = True

    def send(self, frame: VerifierFrame) -> None:
        if not self.is_empty:
            super().send(frame)
            return
        rows = [row for row in frame.step.rows if row.depth]
        self.asked += bool(rows)
        drafts = [
            Draft(
                session=row.session,
                generation=row.generation,
                base_length=length_of(row),
                tokens=b"",
                status=self.status,
            )
            for row in rows
        ]
        if drafts:
            answer = DrafterFrame(result=Result(step=frame.step.number, drafts=drafts))
            self.pending.append((self.now + self.round_trip, answer))


@pytest.mark.parametrize("status", [Draft.OK, Draft.PARTIAL, Draft.OVERLOADED, Draft.RESYNC, Draft.UNFIT])
@pytest.mark.parametrize("was_good", [False, True])
@pytest.mark.parametrize("round_trip", [0.005, 0.04, 0.09])
def test_a_server_that_answers_with_nothing_is_not_waited_for(
    tmp_path: Path, status: Draft.Status, was_good: bool, round_trip: float
) -> None:
    drafter = Empty(acceptance=0.85, status=status, is_empty=not was_good, round_trip=round_trip)
    engine = make_engine(tmp_path, drafter)
    engine.run(200)
    drafter.is_empty = True
    engine.run(200)
    asked = drafter.asked
    assert engine.run(2000) > 0.95 / STEP_SECONDS
    assert drafter.asked - asked < 100


def test_a_server_that_has_drafts_again_is_used_again(tmp_path: Path) -> None:
    drafter = Empty(acceptance=0.85)
    engine = make_engine(tmp_path, drafter)
    engine.run(1000)
    drafter.is_empty = False
    engine.run(5000)
    assert engine.run(1000) > 2 / STEP_SECONDS


@dataclass
class Prefilling(Drafter):
    """Takes its time for each token of a context that it does not have yet."""

    prefill: float = 0.001

    def send(self, frame: VerifierFrame) -> None:
        usual, new = self.round_trip, max((len(row.delta) // 4 for row in frame.step.rows), default=0)
        self.round_trip = usual + self.prefill * new
        super().send(frame)
        self.round_trip = usual


@pytest.mark.parametrize(
    ("acceptance", "token", "prefill", "steps"),
    [(0.5, 0.03, 0.0002, 500), (0.6, 0.06, 0.001, 1000), (0.85, 0.2, 0.001, 2000)],
    ids=["at a loss", "late", "given up"],
)
def test_drafts_are_used_again_after_a_pod_was_slow_for_a_while(
    tmp_path: Path, acceptance: float, token: float, prefill: float, steps: int
) -> None:
    """At depth 0 a pod falls behind, so that the first answer to a check takes long: it must not decide."""
    drafter = Prefilling(acceptance=acceptance, prefill=prefill)
    engine = make_engine(tmp_path, drafter)
    engine.run(1000)
    assert engine.run(500) > 1.2 / STEP_SECONDS
    usual, drafter.token = drafter.token, token
    engine.run(300)
    assert engine.depths[-100:].count(0) > 80
    drafter.token = usual
    engine.run(steps)
    assert engine.run(200) > 1.2 / STEP_SECONDS


def test_another_pod_is_judged_by_its_own_drafts(tmp_path: Path) -> None:
    slow, quick = Drafter(acceptance=0.6, token=0.03), Drafter(acceptance=0.85)
    engine = make_engine(tmp_path, slow)
    engine.run(2200)  # the next check is far away
    assert engine.depths[-100:].count(0) > 80
    quick.now = slow.now
    engine.drafts._streams = lambda: {"another": quick}
    engine.drafts._now = lambda: engine.drafter.now
    engine.drafter = quick
    engine.run(200)
    assert engine.run(500) > 2 / STEP_SECONDS


@dataclass
class Beside(Drafter):
    """One of several pods: whoever is waited for moves the one clock."""

    clock: Drafter = field(kw_only=True)

    def take(self, until: float) -> list[tuple[float, DrafterFrame]]:
        self.now = self.clock.now
        come = super().take(until)
        self.clock.now = max(self.clock.now, self.now)
        return come

    def send(self, frame: VerifierFrame) -> None:
        self.now = self.clock.now
        super().send(frame)


def test_a_pod_that_has_answered_is_not_blamed_for_another_one_that_stalls(tmp_path: Path) -> None:
    clock = Drafter(acceptance=1.0)
    counters = Counters(tmp_path / "counters")
    pods = {name: Beside(clock=clock, acceptance=1.0, token=0.0, round_trip=0.001) for name in ("a", "b")}
    drafts = RemoteDrafts(
        lambda: pods,
        counters,
        depth=MOST,
        vocabulary=VOCABULARY,
        deadline_seconds=DEADLINE_SECONDS,
        now=lambda: clock.now,
    )
    contexts = {f"r{number}": array("i", range(1, 5)) for number in range(6)}

    def step() -> dict[str, list[int]]:
        given = drafts.propose(contexts)
        clock.now += STEP_SECONDS
        for request, context in contexts.items():
            start = len(context)
            context.extend((start + at) % VOCABULARY for at in range(len(given[request]) + 1))
        return given

    for _ in range(60):
        step()
    homes = {request: known.address for request, known in drafts._requests.items()}
    stalled = next(iter(homes.values()))  # the one that is waited for first
    served = {request for request, home in homes.items() if home != stalled}
    assert served
    assert stalled in homes.values()
    while not all(step().values()):  # not in one of the steps without drafts
        pass
    pods[stalled].round_trip = 0.5
    given = step()
    assert all(given[request] for request in served)
    assert counters.value(Counted.DEADLINES_MISSED) == 1


@pytest.mark.parametrize("left", [0, 1, 2, 5, MOST + 1])
def test_no_draft_goes_beyond_the_longest_context(tmp_path: Path, left: int) -> None:
    drafter = Drafter(acceptance=1.0)
    engine = make_engine(tmp_path, drafter, longest=10_000)
    engine.run(60)
    engine.drafts._longest = len(engine.contexts["r0"]) + left
    given = [engine.drafts.propose(engine.contexts)["r0"] for _ in range(3)]
    assert max(map(len, given)) == min(max(left - 1, 0), MOST)


def test_a_server_that_never_answers_costs_at_most_its_deadline_once_and_is_not_flooded(tmp_path: Path) -> None:
    drafter = Drafter(acceptance=0.85)
    engine = make_engine(tmp_path, drafter)
    engine.run(200)
    drafter.is_away, drafter.pending = True, []
    begun = drafter.now
    sent = drafter.sent
    engine.run(2000)
    assert drafter.now - begun < 2000 * (STEP_SECONDS + MOST * VERIFY_SECONDS) + 2 * DEADLINE_SECONDS
    # As many as may be unanswered in a second, then a probe at a time, ever more rarely.
    assert drafter.sent - sent < 60
    drafter.is_away = False
    engine.run(2000)
    assert max(engine.depths[-100:]) > 0


def test_a_server_that_has_nothing_left_to_answer_is_not_silent(tmp_path: Path) -> None:
    drafter = Drafter(acceptance=0.85)
    engine = make_engine(tmp_path, drafter)
    engine.run(200)
    # The request ends while its last step is on its way, and is closed before it is answered.
    drafter.is_away, drafter.pending, sent = True, [], drafter.sent
    while drafter.sent == sent:
        engine.run(1)
    engine.drafts.propose({})
    drafter.is_away = False
    drafter.now += 60
    engine.contexts = {"another": array("i", range(1, 5))}
    engine.run(10)
    assert Counters(tmp_path / "counters").value(Counted.BREAKERS_OPEN) == 0
    assert max(engine.depths[-8:]) > 0


def test_what_was_drafted_and_accepted_is_counted(tmp_path: Path) -> None:
    drafter = Drafter(acceptance=1.0)
    engine = make_engine(tmp_path, drafter)
    engine.run(200)
    counters = Counters(tmp_path / "counters")
    assert counters.value(Counted.TOKENS_DRAFTED) > 0
    without = engine.depths.count(0)
    assert 0 < without < 100
    assert (counters.value(Counted.ROWS_DRAFTED), counters.value(Counted.ROWS_EMPTY)) == (200 - without, without)
    assert counters.value(Counted.TOKENS_ACCEPTED) == counters.value(Counted.TOKENS_DRAFTED)
    assert counters.value(Counted.SPEEDUP) == pytest.approx(
        (MOST + 1) * 25 / (25 + MOST * 0.2 + 1 + MOST * 2.5), rel=0.1
    )


def test_going_on_meanwhile_makes_up_for_a_draft_that_takes_long(tmp_path: Path) -> None:
    speeds = {}
    for may_go_on in (False, True):
        (folder := tmp_path / str(may_go_on)).mkdir()
        drafter = GoingOn(acceptance=0.9, round_trip=0.012, token=0.001, may_go_on=may_go_on)
        engine = make_engine(folder, drafter)
        engine.run(500)
        speeds[may_go_on] = engine.run(1500)
    assert speeds[True] > 1.1 * speeds[False] > 1.1 / STEP_SECONDS


def test_a_row_that_has_its_draft_does_not_wait_for_the_one_that_is_far_from_worth_it(tmp_path: Path) -> None:
    drafter = Drafter(acceptance=0.9, round_trip=0.02)
    engine = make_engine(tmp_path, drafter, rows=8)
    assert engine.run(1000) > 8 / STEP_SECONDS
