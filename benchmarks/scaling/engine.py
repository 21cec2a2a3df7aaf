"""One simulated engine: continuous batching with chunked prefill, over many decode steps at once.

A step takes `base + prompt·p + context·KV + request·n` seconds: prompt tokens computed, tokens in the KV cache,
requests in the batch. Between two events (a prompt to compute, an answer that ends, a full cache) steps differ only
by the growing cache, so that their number and duration have closed forms. Scheduling follows vLLM V1: decodes first,
then prompts in order of arrival within the token budget; a prompt enters only if all of it fits; when the cache is
full, the newest request is preempted and computed anew.
"""

from __future__ import annotations

import heapq
import math
from collections import deque
from dataclasses import dataclass

from benchmarks.scaling.page import Counters
from benchmarks.scaling.requests import Request


@dataclass(frozen=True)
class Profile:
    """What an engine is like. The default is Qwen3-32B in bfloat16 on two H100, calibrated by the gates C1 and C2."""

    base_seconds: float = 0.0125
    """32.8 GB of weights a GPU at 3.35 TB/s and 80 %, and the collectives."""
    prompt_seconds: float = 64e-6
    """2 · 32.8e9 operations a token, 989 TFLOPS a GPU, at 52 %."""
    context_seconds: float = 42e-9
    """64 layers · 8 heads · 128 · 2 (K, V) · 2 bytes, half of it a GPU: 131 kB a token at 93 %."""
    request_seconds: float = 10e-6
    kv_tokens: int = 350_000
    """What 95 % of 85.5 GB keep beside weights and activations."""
    block_tokens: int = 16
    most_requests: int = 256
    most_step_tokens: int = 8192
    front_seconds: float = 0.08
    """From the client to the batch and back: router, HTTP, tokens of 20 kB of text, queues between processes."""
    tokens_per_step: float = 1.0
    """Above 1 with speculation."""

    def step_seconds(self, *, prompt_tokens: float, kv_tokens: float, requests: int) -> float:
        """Of one step."""
        return (
            self.base_seconds
            + self.prompt_seconds * prompt_tokens
            + self.context_seconds * kv_tokens
            + self.request_seconds * requests
        )


QWEN3_32B_TP2_H100 = Profile()


class Work:
    """A request inside an engine."""

    __slots__ = ("finish_step", "generated", "growth", "prompt_left", "request", "serial", "start_step")

    def __init__(self, request: Request) -> None:
        self.request = request
        self.prompt_left = request.prompt_tokens
        self.generated = 0.0
        self.growth = 0.0
        self.serial = self.start_step = self.finish_step = 0


class Engine:
    """Advanced by whoever wants to know how it is at a time; it never runs ahead of that time."""

    def __init__(self, profile: Profile, *, at: float) -> None:
        self.profile = profile
        self.counters = Counters(profile.kv_tokens, profile.block_tokens)
        self.begun: list[Request] = []
        """Got their first token since somebody emptied this list."""
        self.ended: list[Request] = []
        """Finished since somebody emptied this list."""
        self._clock = at
        self._waiting: deque[Work] = deque()
        self._prefilling: list[Work] = []
        self._decoding: dict[int, Work] = {}
        self._finishes: list[tuple[int, int]] = []
        self._serial = self._step = 0
        self._kv = self._growth = 0.0
        self._step_end: float | None = None
        self._chunks: list[tuple[Work, int]] = []

    @property
    def running(self) -> int:
        """Requests in the batch."""
        return len(self._decoding) + len(self._prefilling)

    @property
    def waiting(self) -> int:
        """Requests in the queue."""
        return len(self._waiting)

    @property
    def load(self) -> int:
        """Both."""
        return len(self._decoding) + len(self._prefilling) + len(self._waiting)

    @property
    def kv_usage(self) -> float:
        """From 0 to 1."""
        return min(1.0, self._kv / self.profile.kv_tokens)

    @property
    def queued_prompt_tokens(self) -> int:
        """Prompt tokens that have to be computed before a new request's."""
        return sum(work.prompt_left for work in (*self._waiting, *self._prefilling))

    @property
    def step_seconds(self) -> float:
        """Of the next step without prompts."""
        return self.profile.step_seconds(prompt_tokens=0, kv_tokens=self._kv, requests=max(1, self.running))

    def page(self) -> str:
        """What its /metrics says now."""
        return self.counters.page(running=self.running, waiting=self.waiting, kv_usage=self.kv_usage)

    def add(self, request: Request) -> bool:
        """Take a request at the time that the engine was advanced to; False when it can never fit."""
        if request.prompt_tokens + request.output_tokens > self.profile.kv_tokens:
            self.counters.rejected += 1
            return False
        self._waiting.append(Work(request))
        return True

    def advance(self, until: float) -> None:
        """Do every step that ends by then."""
        while True:
            if self._step_end is not None:
                if self._step_end > until:
                    return
                self._end_step(self._step_end)
            elif self._waiting or self._prefilling:
                self._begin_step()
                if self._step_end is None and not self._leap(until):
                    return
            elif not self._leap(until):
                return

    def _begin_step(self) -> None:
        """A step with prompts in it, if any can be computed."""
        if self._preempted():
            return
        budget = self.profile.most_step_tokens - len(self._decoding)
        chunks = []
        for work in self._prefilling:
            if budget <= 0:
                break
            chunk = min(work.prompt_left, budget)
            chunks.append((work, chunk))
            budget -= chunk
        while self._waiting and budget > 0 and self.running < self.profile.most_requests:
            work = self._waiting[0]
            if self._kv + self._growth + work.prompt_left > self.profile.kv_tokens:
                break
            self._waiting.popleft()
            self._prefilling.append(work)
            self._kv += work.prompt_left
            chunk = min(work.prompt_left, budget)
            chunks.append((work, chunk))
            budget -= chunk
        if chunks:
            computed = sum(chunk for _, chunk in chunks)
            self._chunks = chunks
            self._step_end = self._clock + self.profile.step_seconds(
                prompt_tokens=computed, kv_tokens=self._kv, requests=self.running
            )

    def _end_step(self, end: float) -> None:
        seconds, decoding = end - self._clock, len(self._decoding)
        self._clock, self._step_end = end, None
        self._step += 1
        if decoding:
            self._kv += self._growth
            self.counters.steps.observe(seconds, decoding)
            self.counters.output_tokens += self._growth
        self._finish_due()
        chunks, self._chunks = self._chunks, []
        for work, chunk in chunks:
            work.prompt_left -= chunk
            if work.prompt_left == 0:
                self._prefilling.remove(work)
                self._prompt_done(work)

    def _prompt_done(self, work: Work) -> None:
        request = work.request
        if request.first_token_at is None:
            request.first_token_at = self._clock + self.profile.front_seconds
            self.begun.append(request)
            self.counters.first_token.observe(request.first_token_at - request.arrival)
            self.counters.prompt_tokens += request.prompt_tokens
            self.counters.output_tokens += 1
            work.generated = 1.0
        left = request.output_tokens - work.generated
        if left <= 1e-6:
            self._kv -= request.prompt_tokens
            self._finish(request)
            return
        steps = math.ceil(left / self.profile.tokens_per_step - 1e-9)
        self._serial += 1
        work.serial, work.growth = self._serial, left / steps
        work.start_step, work.finish_step = self._step, self._step + steps
        self._growth += work.growth
        self._decoding[work.serial] = work
        heapq.heappush(self._finishes, (work.finish_step, work.serial))

    def _finish_due(self) -> None:
        finishes = self._finishes
        while finishes and finishes[0][0] <= self._step:
            _, serial = heapq.heappop(finishes)
            work = self._decoding.pop(serial, None)
            if work is not None:
                self._release(work)
                self._finish(work.request)

    def _finish(self, request: Request) -> None:
        request.finished_at = self._clock + self.profile.front_seconds
        self.ended.append(request)
        seconds = request.output_token_seconds or 0.0
        self.counters.finished(request.output_tokens, seconds, is_single=request.output_tokens <= 1)

    def _release(self, work: Work) -> None:
        """Its part of the KV cache."""
        work.generated += (self._step - work.start_step) * work.growth
        self._growth -= work.growth
        # The first token lies in the cache only once the second is computed; the prompt is all that came in before.
        self._kv -= work.request.prompt_tokens + work.generated - 1
        if not self._decoding and not self._prefilling:
            self._kv = self._growth = 0.0

    def _preempted(self) -> bool:
        """Whether requests had to leave for others to grow."""
        found = False
        while self._decoding and self._kv + self._growth > self.profile.kv_tokens:
            serial = next(reversed(self._decoding))
            work = self._decoding.pop(serial)
            self._release(work)
            # What was generated is a part of the prompt now, but for the last token, which is the next input.
            work.prompt_left = work.request.prompt_tokens + round(work.generated) - 1
            work.generated = float(round(work.generated))
            self._waiting.appendleft(work)
            self.counters.preemptions += 1
            found = True
        return found

    def _leap(self, until: float) -> bool:
        """As many decode steps as end by then without an event; False when there was nothing more to do by then."""
        decoding = len(self._decoding)
        if not decoding:
            self._clock = max(self._clock, until)
            return False
        if self._growth > 0 and self._kv + self._growth > self.profile.kv_tokens and self._preempted():
            return True
        while self._finishes[0][1] not in self._decoding:
            heapq.heappop(self._finishes)
        first = self.profile.step_seconds(prompt_tokens=0, kv_tokens=self._kv, requests=decoding)
        longer = self.profile.context_seconds * self._growth
        fitting = int((self.profile.kv_tokens - self._kv) / self._growth)
        most = max(1, min(self._finishes[0][0] - self._step, fitting))
        steps = min(most, _steps_within(until - self._clock, first=first, longer=longer))
        if steps == 0:
            self._step_end = self._clock + first
            return True
        self._clock += steps * first + longer * steps * (steps - 1) / 2
        self._step += steps
        self._kv += steps * self._growth
        self.counters.output_tokens += steps * self._growth
        self.counters.steps.observe_rising(first, longer, steps=steps, times=decoding)
        self._finish_due()
        return True


def _steps_within(seconds: float, *, first: float, longer: float) -> int:
    """How many steps end within `seconds`, the first taking `first` and each next one `longer` more."""
    if seconds < first:
        return 0
    if longer < 1e-12:
        return int(seconds / first)
    half = first - longer / 2
    return max(1, int((math.sqrt(half * half + 2 * longer * seconds) - half) / longer))
