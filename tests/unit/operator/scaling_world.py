"""Engines in steady state for the tests of scaling: what their pages would tell under a given load, by formula."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from tandem_contracts.metrics import LATENCY_GRID
from tandem_operator.scaling.decide import decide
from tandem_operator.scaling.decision import Decision
from tandem_operator.scaling.memory import Memory
from tandem_operator.scaling.observed import Observed, Pod
from tandem_operator.scaling.policy import Bounds, Policy, StepModel, Target
from tandem_operator.scaling.reading import Distribution, Reading

BEGIN = 1_900_000_000.0
MODEL = StepModel(base=0.015, prompt=7e-5, context=2e-8, request=2e-4)
PROMPT, OUTPUT = 1000.0, 200.0
KV_TOKENS = 500_000.0
BOUNDS = (*LATENCY_GRID, math.inf)
TICK = 5.0


def make_policy(**others: object) -> Policy:
    """Two seconds and 60 ms for 95 %, 1 to 20 replicas, or what `others` replace."""
    usual = Policy(Target(95, 2.0, 0.06), Bounds(1, 20), cold_start_seconds=60.0)
    return replace(usual, **others)  # type: ignore[arg-type]


Decide = Callable[[Policy, Observed, Memory], tuple[Decision, Memory]]


@dataclass
class Engine:
    """One pod that keeps up with `rate` requests a second."""

    name: str
    kind: str = "a"
    created_at: float = BEGIN - 1000
    ready_at: float | None = BEGIN - 900
    finished: float = 0.0
    waiting: float = 0.0
    tokens: float = 0.0
    steps: float = 0.0
    step_seconds: float = 0.0
    first: float = 0.3
    """Seconds to the first token, of every request."""
    rejected: float = 0.0

    @property
    def pod(self) -> Pod:
        return Pod(self.name, self.kind, self.created_at, self.ready_at)

    def serve(self, rate: float, seconds: float) -> None:
        """So many requests came, and as many ended but for those that are in the batch now."""
        before = self.running
        slope = MODEL.prompt * PROMPT / OUTPUT + MODEL.context * (PROMPT + OUTPUT / 2) + MODEL.request
        share = min(rate * OUTPUT * slope, 0.95)
        self.running = rate * OUTPUT * MODEL.base / (1 - share)
        self.step = MODEL.base + slope * self.running
        ended = max(0.0, rate * seconds - (self.running - before))
        self.finished += ended
        self.tokens += ended * OUTPUT
        self.steps += ended * (OUTPUT - 1)
        self.step_seconds += ended * (OUTPUT - 1) * self.step

    running: float = 0.0
    step: float = MODEL.base

    def reading(self, at: float) -> Reading:
        """As its page would tell now."""
        return Reading(
            at=at,
            running=self.running,
            waiting=self.waiting,
            finished=self.finished,
            rejected=self.rejected,
            prompt_tokens=self.finished * PROMPT,
            output_tokens=self.tokens,
            answered=self.finished,
            answered_tokens=self.tokens,
            kv_usage=min(1.0, self.running * (PROMPT + OUTPUT / 2) / KV_TOKENS),
            kv_tokens=KV_TOKENS,
            steps=_all_at(self.step, self.steps, self.step_seconds),
            first_token=_all_at(self.first, self.finished, self.finished * self.first),
            output_token=_all_at(self.step, self.finished, self.finished * self.step),
        )


def _all_at(value: float, count: float, seconds: float) -> Distribution:
    return Distribution(BOUNDS, tuple(count if value <= bound else 0.0 for bound in BOUNDS), seconds)


@dataclass
class World:
    """Pods that become Ready after `cold_start` seconds, and share the load evenly."""

    policy: Policy = field(default_factory=make_policy)
    rate: float = 1.0
    wanted: int = 3
    cold_start: float = 60.0
    now: float = BEGIN
    memory: Memory = field(default_factory=Memory)
    engines: list[Engine] = field(default_factory=list)
    decisions: list[Decision] = field(default_factory=list)
    silent: set[str] = field(default_factory=set)
    made: int = 0

    def __post_init__(self) -> None:
        self.engines = [Engine(f"pod-{i}") for i in range(self.wanted)]
        self.last: dict[str, Reading] = {}

    def seen(self) -> Observed:
        """What the engines say now; of silent ones what they said last."""
        for engine in self.engines:
            if engine.ready_at is not None and engine.name not in self.silent:
                self.last[engine.name] = engine.reading(self.now)
        names = {engine.name for engine in self.engines}
        self.last = {name: reading for name, reading in self.last.items() if name in names}
        return Observed(self.now, self.wanted, tuple(e.pod for e in self.engines), dict(self.last), TICK)

    def tick(self, decide: Decide = decide) -> Decision:
        """Five seconds pass, and a decision is made and acted on."""
        self.now += TICK
        for engine in self.engines:
            if engine.ready_at is None and self.now - engine.created_at >= self.cold_start:
                engine.ready_at = self.now
        ready = [engine for engine in self.engines if engine.ready_at is not None]
        for engine in ready:
            engine.serve(self.rate / len(ready), TICK)
        decision, self.memory = decide(self.policy, self.seen(), self.memory)
        self.decisions.append(decision)
        while len(self.engines) < decision.replicas:
            self.engines.append(Engine(f"new-{self.made}", created_at=self.now, ready_at=None))
            self.made += 1
        del self.engines[decision.replicas :]
        self.wanted = decision.replicas
        return decision

    def run(self, seconds: float) -> Decision:
        """The last decision after so long."""
        for _ in range(round(seconds / TICK)):
            self.tick()
        return self.decisions[-1]

    def vary(self, seconds: float, *, low: float, high: float) -> None:
        """Load up and down, so that step times can be learned."""
        for i in range(round(seconds / 30)):
            self.rate = low + (high - low) * (i % 4) / 3
            self.run(30)
