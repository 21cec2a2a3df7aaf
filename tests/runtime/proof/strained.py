"""A verifier under strain: chunked prefill, preemption, drafts as deep as can be, and whatever the relay leads to."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tandem_contracts import metrics
from tandem_contracts.launch import DEFAULT_DRAFT_DEADLINE_SECONDS
from tests.runtime.engines import Engine
from tests.runtime.relay import Relay

DEPTH = 5
CONTEXT_TOKENS = 1024
BLOCK_TOKENS = 32
BLOCKS = 36
"""Room for one context of full length, and for little beside it."""
BATCHED_TOKENS = 128
"""Of a step; a longer prompt is computed in chunks."""
DRAFTING_LIMIT_SECONDS = 60.0


_STEP = re.compile(
    r"Iteration\(\d+\): \d+ context requests, (\d+) context tokens, "
    r"\d+ generation requests, (\d+) generation tokens, iteration elapsed time: (\S+) ms"
)


@dataclass(frozen=True)
class Step:
    """One step of an engine, as its log tells it. Context tokens are of prompts, and of what was preempted."""

    context_tokens: int
    generation_tokens: int
    milliseconds: float

    @property
    def tokens(self) -> int:
        return self.context_tokens + self.generation_tokens


LONGEST_WAIT_SECONDS = DEFAULT_DRAFT_DEADLINE_SECONDS + 0.5
"""Of any step of a whole run, since the longest is kept: the deadline, and what a thread may have to wait for its turn
on two busy cores. The mean is held to the deadline itself.
"""


@dataclass(frozen=True)
class Work:
    """What a verifier has done so far."""

    preemptions: float
    drafted: float
    accepted: float
    wait_seconds: float
    invalid: float
    errors: float

    @classmethod
    def of(cls, engine: Engine) -> Work:
        return cls(
            preemptions=engine.metric("vllm:num_preemptions_total"),
            drafted=engine.metric("vllm:spec_decode_num_draft_tokens_total"),
            accepted=engine.metric("vllm:spec_decode_num_accepted_tokens_total"),
            wait_seconds=engine.own_metric(metrics.DRAFT_WAIT_SECONDS),
            invalid=engine.own_metric(metrics.DRAFT_ROWS_INVALID),
            errors=engine.own_metric(metrics.DRAFT_ERRORS),
        )

    def since(self, earlier: Work) -> Work:
        return Work(*(now - then for now, then in zip(vars(self).values(), vars(earlier).values(), strict=True)))


@dataclass
class Strained:
    """The verifier, plain vLLM beside it, and the relay between verifier and draft server."""

    plain: Engine
    verifier: Engine
    relay: Relay
    honest: str
    """The address of a draft server that drafts with the draft model."""

    def connect(self, address: str) -> None:
        """Have the verifier ask another draft server from now on."""
        self.relay.target = address
        self.relay.cut()

    def steps_since(self, earlier: int) -> list[Step]:
        """The verifier's steps after so many."""
        found = _STEP.findall(self.verifier.log.read_text())[earlier:]
        return [Step(int(context), int(generation), float(milliseconds)) for context, generation, milliseconds in found]

    def restore(self) -> None:
        """An honest draft server on a sound network."""
        self.relay.delay_seconds = self.relay.jitter_seconds = 0.0
        self.relay.go_on()
        if self.relay.target != self.honest:
            self.connect(self.honest)

    def wait_until_drafting(self, prompt: Sequence[int]) -> None:
        """Has the verifier decode until it gets drafts and no pause is left that an earlier fault has led to."""
        before = Work.of(self.verifier).drafted

        def is_drafting() -> bool:
            is_paused = self.verifier.own_metric(metrics.DRAFT_BREAKERS_OPEN) > 0
            return not is_paused and Work.of(self.verifier).drafted > before

        self.decode_until(is_drafting, "drafts", prompt)

    def decode_until(self, condition: Callable[[], bool], what: str, prompt: Sequence[int]) -> None:
        """Has the verifier decode until `condition` holds."""
        deadline = time.monotonic() + DRAFTING_LIMIT_SECONDS
        while not condition():
            if time.monotonic() > deadline:
                raise AssertionError(f"no {what} within {DRAFTING_LIMIT_SECONDS:.0f} s; log: {self.verifier.log}")
            self.verifier.completions(prompt, max_tokens=32, temperature=0)
