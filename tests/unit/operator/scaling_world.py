"""Engines in steady state for the tests of scaling: what their pages would tell under a given load, by formula."""

from __future__ import annotations

import math
import random
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
FIRST = 0.3


def make_policy(**others: object) -> Policy:
    """Two seconds and 60 ms for 95 %, 1 to 20 replicas, or what `others` replace."""
    usual = Policy(Target(95, 2.0, 0.06), Bounds(1, 20), cold_start_seconds=60.0)
    return replace(usual, **others)  # type: ignore[arg-type]


def arrivals(mean: float, chance: random.Random) -> int:
    """Of a Poisson process, in a time in which so many come in the mean."""
    at, count = chance.expovariate(1.0), 0
    while at < mean:
        at, count = at + chance.expovariate(1.0), count + 1
    return count


Decide = Callable[[Policy, Observed, Memory], tuple[Decision, Memory]]


@dataclass
class Histogram:
    """Of durations."""

    counts: list[float] = field(default_factory=lambda: [0.0] * len(BOUNDS))
    seconds: float = 0.0

    def add(self, value: float, count: float) -> None:
        """So many observations of one value."""
        self.counts = [n + count if value <= bound else n for n, bound in zip(self.counts, BOUNDS, strict=True)]
        self.seconds += count * value

    @property
    def now(self) -> Distribution:
        return Distribution(BOUNDS, tuple(self.counts), self.seconds)


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
    first: float | None = None
    """Seconds to the first token, of every request; None: as the world's."""
    rejected: float = 0.0
    model: StepModel = MODEL
    cached_share: float = 0.0
    """Of the prompts, that are in the prefix cache."""
    tokens_per_step: float = 1.0
    slow: float = 1.0
    """Times the time per output token that a tenth of the requests takes."""
    running: float = 0.0
    step: float = MODEL.base
    first_token: Histogram = field(default_factory=Histogram)
    output_token: Histogram = field(default_factory=Histogram)

    @property
    def pod(self) -> Pod:
        return Pod(self.name, self.kind, self.created_at, self.ready_at)

    def serve(self, rate: float, seconds: float, *, first: float = FIRST) -> None:
        """So many requests came, and as many ended but for those that are in the batch now."""
        before, steps = self.running, OUTPUT / self.tokens_per_step
        computed = PROMPT * (1 - self.cached_share)
        slope = self.model.seconds(prompt_tokens=computed / steps, context_tokens=PROMPT + OUTPUT / 2, requests=1)
        slope -= self.model.base
        share = min(rate * steps * slope, 0.95)
        self.running = min(rate * steps * self.model.base / (1 - share), before + rate * seconds)
        self.step = self.model.base + slope * self.running
        ended = rate * seconds - (self.running - before)
        self.finished += ended
        self.tokens += ended * OUTPUT
        self.steps += self.running * seconds / self.step
        self.step_seconds += self.running * seconds
        self.first_token.add(first if self.first is None else self.first, ended)
        output_token = self.step / self.tokens_per_step
        for i in range(10):  # no two requests are alike
            slow = self.slow if i == 9 else 1.0
            self.output_token.add(output_token * slow * (0.865 + 0.03 * i), 0.1 * ended)

    def reading(self, at: float) -> Reading:
        """As its page would tell now."""
        return Reading(
            at=at,
            running=self.running,
            waiting=self.waiting,
            finished=self.finished,
            rejected=self.rejected,
            prompt_tokens=self.finished * PROMPT,
            cached_tokens=self.finished * PROMPT * self.cached_share,
            output_tokens=self.steps * self.tokens_per_step + self.finished,
            answered=self.finished,
            answered_tokens=self.tokens,
            kv_usage=min(1.0, self.running * (PROMPT + OUTPUT / 2) / KV_TOKENS),
            kv_tokens=KV_TOKENS,
            steps=Distribution((math.inf,), (self.steps,), self.step_seconds),
            first_token=self.first_token.now,
            output_token=self.output_token.now,
        )


@dataclass
class World:
    """Pods that become Ready after `cold_start` seconds, and share the load evenly."""

    policy: Policy = field(default_factory=make_policy)
    rate: float = 1.0
    first: float = FIRST
    """Seconds to the first token."""
    wanted: int = 3
    cold_start: float = 60.0
    now: float = BEGIN
    memory: Memory = field(default_factory=Memory)
    engines: list[Engine] = field(default_factory=list)
    decisions: list[Decision] = field(default_factory=list)
    silent: set[str] = field(default_factory=set)
    stuck: set[str] = field(default_factory=set)
    """Pods whose pages come, and stay as they were."""
    made: int = 0

    def __post_init__(self) -> None:
        self.engines = [Engine(f"pod-{i}") for i in range(self.wanted)]
        self.last: dict[str, Reading] = {}

    def seen(self) -> Observed:
        """What the engines say now; of silent ones what they said last."""
        for engine in self.engines:
            if engine.name in self.stuck and engine.name in self.last:
                self.last[engine.name] = replace(self.last[engine.name], at=self.now)
            elif engine.ready_at is not None and engine.name not in self.silent:
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
            engine.serve(self.rate / len(ready), TICK, first=self.first)
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
