"""Verifiers and draft pods in steady state for the tests of scaling: what their pages would tell, by formula."""

from __future__ import annotations

from dataclasses import dataclass, field

from tandem_operator.scaling.draft_memory import DraftMemory
from tandem_operator.scaling.drafting import DraftsSeen, Proposer, Said, Server
from tandem_operator.scaling.drafts import DraftDecision, DraftPolicy, decide_drafts
from tandem_operator.scaling.observed import Observed, Pod
from tandem_operator.scaling.policy import Behavior, Bounds, Direction
from tandem_operator.scaling.reading import Reading

BEGIN = 1_900_000_000.0
TICK = 5.0
ROWS = 100.0
"""Of a verifier's decode steps, a second."""
AT_ONCE = Behavior(up=Direction(()), down=Direction(()))
"""No limits."""


def make_draft_policy(least: int = 0, most: int = 8, *, is_paused: bool = False) -> DraftPolicy:
    """Bounds, without limits on how fast."""
    return DraftPolicy(Bounds(least, most), AT_ONCE, is_paused=is_paused)


@dataclass
class DraftPod:
    """One that gives `capacity` tokens a second."""

    name: str
    created_at: float
    ready_at: float | None
    kind: str = "a"
    tokens: float = 0.0
    busy_seconds: float = 0.0


@dataclass
class VerifierPod:
    """One whose requests decode."""

    name: str
    created_at: float = BEGIN - 1000
    ready_at: float | None = BEGIN - 900
    drafted_rows: float = 0.0
    empty_rows: float = 0.0
    answered: float = 0.0
    missed: float = 0.0


@dataclass
class DraftsWorld:
    """Draft pods become Ready after `cold_start` seconds and share what is asked evenly; verifiers are told."""

    policy: DraftPolicy = field(default_factory=make_draft_policy)
    asked: float = 1000.0
    """Tokens a second, by all verifiers."""
    capacity: float = 2000.0
    load: float = 10.0
    """Requests in work of a verifier; none: nothing is decoded."""
    pays: bool = True
    is_left_alone: bool = False
    """Verifiers do not ask their draft pods, which were wrong or silent."""
    late: float = 0.0
    wanted: int = 1
    verifiers: list[VerifierPod] = field(default_factory=lambda: [VerifierPod(f"v{i}") for i in range(4)])
    verifiers_wanted: int = 4
    counts: bool = True
    """Whether draft servers count what they do."""
    cold_start: float = 30.0
    pair: str = "1/2"
    now: float = BEGIN
    memory: DraftMemory = field(default_factory=DraftMemory)
    silent: set[str] = field(default_factory=set)
    decisions: list[DraftDecision] = field(default_factory=list)
    made: int = 0

    def __post_init__(self) -> None:
        self.drafts = [DraftPod(f"d{i}", BEGIN - 1000, BEGIN - 900) for i in range(self.wanted)]
        self.last: dict[str, Said] = {}

    @property
    def ready(self) -> list[DraftPod]:
        return [pod for pod in self.drafts if pod.ready_at is not None]

    def work(self) -> None:
        """Five seconds pass."""
        self.now += TICK
        for pod in self.drafts:
            if pod.ready_at is None and self.now - pod.created_at >= self.cold_start:
                pod.ready_at = self.now
        asks = self.pays and self.ready and self.load and not self.is_left_alone
        for pod in self.ready:
            share = min(self.asked / len(self.ready) / self.capacity, 1.0) if asks else 0.0
            pod.tokens += share * self.capacity * TICK
            pod.busy_seconds += share * TICK
        for verifier in self.verifiers:
            rows = ROWS * TICK if self.load and verifier.ready_at is not None else 0.0
            drafted = 0.9 * rows if asks else 0.02 * rows if self.ready and not self.is_left_alone else 0.0
            verifier.drafted_rows += drafted
            verifier.empty_rows += rows - drafted
            verifier.answered += drafted / 10
            verifier.missed += self.late * drafted / 10

    def seen(self, verifiers_before: int | None = None) -> DraftsSeen:
        """What the pods say now; of silent ones what they said last."""
        depth = 4.0 if self.pays and self.ready and not self.is_left_alone else 0.0
        pods = float(len(self.ready))
        for each in self.verifiers:
            if each.ready_at is not None and each.name not in self.silent:
                alone = pods if self.is_left_alone else 0.0
                counters = (each.drafted_rows, each.empty_rows, each.answered, each.missed)
                self.last[each.name] = Proposer(self.now, *counters, depth, pods, alone)
        for pod in self.ready:
            if self.counts and pod.name not in self.silent:
                self.last[pod.name] = Server(self.now, pod.tokens, pod.busy_seconds)
        before = self.verifiers_wanted if verifiers_before is None else verifiers_before
        readings = {each.name: Reading(at=self.now, running=self.load, waiting=0.0) for each in self.verifiers}
        pods_of_verifiers = tuple(Pod(each.name, "v", each.created_at, each.ready_at) for each in self.verifiers)
        return DraftsSeen(
            self.now,
            self.wanted,
            Observed(self.now, before, pods_of_verifiers, readings, TICK),
            self.verifiers_wanted,
            pods=tuple(Pod(pod.name, pod.kind, pod.created_at, pod.ready_at) for pod in self.drafts),
            said=dict(self.last),
            interval_seconds=TICK,
            cold_start_seconds=100.0,
            pair=self.pair,
        )

    def tick(self, verifiers_before: int | None = None) -> DraftDecision:
        """Time passes, and a decision is made and acted on. `verifiers_before`: there were others a moment ago."""
        self.work()
        decision, self.memory = decide_drafts(self.policy, self.seen(verifiers_before), self.memory)
        self.decisions.append(decision)
        while len(self.drafts) < decision.replicas:
            self.drafts.append(DraftPod(f"new{self.made}", self.now, None))
            self.made += 1
        del self.drafts[decision.replicas :]
        self.wanted = decision.replicas
        return decision

    def run(self, seconds: float) -> DraftDecision:
        """The last decision after so long."""
        for _ in range(round(seconds / TICK)):
            self.tick()
        return self.decisions[-1]
