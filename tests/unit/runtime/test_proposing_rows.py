"""What each row of a step gets, and which draft pod is asked for it: in virtual time, at depths that the test says."""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field
from pathlib import Path

from tandem_runtime.drafting.breaker import DRAFTS, PAUSE_TOKENS, PROBE_DRAFTS
from tandem_runtime.drafting.counters import Counted, Counters
from tandem_runtime.drafting.depth import Depths
from tandem_runtime.drafting.proposing import RemoteDrafts
from tandem_runtime.drafting.protocol.draft_pb2 import Row, VerifierFrame
from tests.unit.runtime.test_proposing_pace import DEADLINE_SECONDS, MOST, STEP_SECONDS, VOCABULARY, Beside, Drafter

WRONG = VOCABULARY - 1
ROUND_TRIP_SECONDS = 0.02


class Told(Depths):
    """Learns, and takes the depth that the test says."""

    def __init__(self) -> None:
        super().__init__(MOST)
        self.depth = MOST

    def choose(self, rows: int) -> int:
        return self.depth


@dataclass
class Pod(Beside):
    """Notes what it is asked for. Of what is right it makes something else where the test says so."""

    asked_for: list[int] = field(default_factory=list)
    """Sessions, one for each draft."""
    sessions: set[int] = field(default_factory=set)
    is_wrong_about: set[int] = field(default_factory=set)
    says_what_it_must_not: bool = False

    def send(self, frame: VerifierFrame) -> None:
        self.sessions |= {row.session for row in frame.step.rows if row.depth}
        self.sessions -= {row.session for row in frame.step.rows if row.closes}
        super().send(frame)

    def continued(self, row: Row) -> list[int]:
        self.asked_for.append(row.session)
        if self.says_what_it_must_not:
            return [VOCABULARY] * row.depth
        return [WRONG] * row.depth if row.session in self.is_wrong_about else super().continued(row)


class Site:
    """An engine's rows, whose text is its own numbering, and draft pods at a distance that are always right."""

    def __init__(self, folder: Path, *, rows: int, pods: int = 1) -> None:
        self.clock, self.depths = Drafter(acceptance=1.0), Told()
        self.pods = {
            f"pod{number}": Pod(clock=self.clock, acceptance=1.0, token=0.0, round_trip=ROUND_TRIP_SECONDS)
            for number in range(pods)
        }
        self.counters = Counters(folder / "counters")
        self.drafts = RemoteDrafts(
            lambda: self.pods,
            self.counters,
            depth=MOST,
            depths=self.depths,
            vocabulary=VOCABULARY,
            deadline_seconds=DEADLINE_SECONDS,
            now=lambda: self.clock.now,
        )
        self.contexts = {f"r{number}": array("i", range(4)) for number in range(rows)}

    def step(self) -> dict[str, int]:
        """What each row gets, in tokens."""
        return {request: len(draft) for request, draft in self.drafts.propose(self.contexts).items()}

    def goes_on(self, request: str, count: int) -> None:
        """With so many tokens of its numbering."""
        context = self.contexts[request]
        start = len(context)
        context.extend(at % VOCABULARY for at in range(start, start + count))

    def run(self, steps: int = 1) -> None:
        """Steps in which all that is right is accepted."""
        for _ in range(steps):
            given = self.drafts.propose(self.contexts)
            self.clock.now += STEP_SECONDS
            for request, draft in given.items():
                self.goes_on(request, 1 + (0 if WRONG in draft else len(draft)))

    def waited(self) -> float:
        return self.counters.value(Counted.WAIT_SECONDS)


def test_a_batch_does_not_wait_for_the_one_draft_that_is_missing_but_for_those_of_all(tmp_path: Path) -> None:
    site = Site(tmp_path, rows=8)
    site.run(20)
    site.step()
    for request in site.contexts:  # each has all but the first token of its draft left, and one has none
        site.goes_on(request, MOST + 1 if request == "r0" else 1)
    waited = site.waited()
    assert site.step() == {request: 0 if request == "r0" else MOST - 1 for request in site.contexts}
    assert site.waited() == waited
    for request in site.contexts:
        site.goes_on(request, MOST + 1)
    assert site.step() == dict.fromkeys(site.contexts, MOST)
    assert site.waited() > waited


def test_a_row_gets_no_more_of_its_draft_than_the_step_is_to_verify(tmp_path: Path) -> None:
    site = Site(tmp_path, rows=2)
    site.run(5)
    assert site.step() == {"r0": MOST, "r1": MOST}
    site.depths.depth = 2
    site.goes_on("r0", 1)
    site.goes_on("r1", 1)
    assert site.step() == {"r0": 2, "r1": 2}


def test_a_request_whose_drafts_are_never_right_is_asked_about_ever_less_and_the_other_one_always(
    tmp_path: Path,
) -> None:
    site = Site(tmp_path, rows=2)
    (pod,) = site.pods.values()
    site.run(3)
    bad, good = sorted(pod.sessions)
    pod.is_wrong_about, pod.asked_for = {bad}, []
    steps = 5 * PAUSE_TOKENS
    site.run(steps)
    assert pod.asked_for.count(good) > 0.9 * steps
    assert pod.asked_for.count(bad) < DRAFTS + PROBE_DRAFTS * 6


def test_a_request_that_is_left_alone_does_not_keep_another_one_from_its_drafts(tmp_path: Path) -> None:
    site = Site(tmp_path, rows=3)
    (pod,) = site.pods.values()
    site.run(3)
    first, second, good = sorted(pod.sessions)
    pod.is_wrong_about = {first, second}
    site.run(DRAFTS)
    pod.asked_for = []
    steps = PAUSE_TOKENS // 2
    given = []
    for _ in range(steps):
        site.run()
        given.append(site.counters.value(Counted.ROWS_DRAFTED))
    assert set(pod.asked_for) == {good}
    assert given == [given[0] + step for step in range(steps)]


def test_a_request_that_leaves_a_pod_is_closed_there(tmp_path: Path) -> None:
    site = Site(tmp_path, rows=6, pods=2)
    site.run(10)
    left, other = site.pods.values()
    assert left.sessions
    assert other.sessions
    left.says_what_it_must_not = True
    site.run(10)
    assert left.is_open
    assert not left.sessions
    assert len(other.sessions) == len(site.contexts)
