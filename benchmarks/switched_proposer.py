"""Runs in the engine's worker: the product's proposer for each source of drafts, with a depth that can be fixed.

So that plain comparisons between sources and depths need one engine, not one each. What proposes is the product's own
code; only its choice of the depth is overruled, and its waits are timed.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.switch import ADAPTIVE, NOTHING, VARIABLE, Ahead, StepRecord, Switch
from tandem_runtime.drafting.depth import Depths
from tandem_runtime.drafting.drafter import Stream
from tandem_runtime.drafting.proposing import RemoteDrafts
from tandem_runtime.drafting.protocol import DrafterFrame, VerifierFrame
from tandem_runtime.drafting.settings import DraftSettings
from tandem_runtime.drafting.vllm_adapter import RemoteProposer


class SwitchedDepths(Depths):
    """Chooses as ever, and is overruled; keeps what it was told last."""

    def __init__(self, most: int, switch: Switch) -> None:
        super().__init__(most)
        self._switch, self._start = switch, switch.start
        self.depth, self.draft, self.step = 0, (0.0, 0.0), (0, 0.0)

    def begin(self) -> None:
        """A call of the proposer begins."""
        if self._start != self._switch.start:
            Depths.__init__(self, self._most)
            self._start = self._switch.start
        self.depth, self.draft, self.step = 0, (0.0, 0.0), (0, 0.0)

    def saw_step(self, rows: int, depth: int, seconds: float) -> None:
        super().saw_step(rows, depth, seconds)
        self.step = depth, seconds

    def saw_draft(self, rows: int, depth: int, *, seconds: float, compute_seconds: float) -> None:
        super().saw_draft(rows, depth, seconds=seconds, compute_seconds=compute_seconds)
        self.draft = seconds, compute_seconds

    def goes_ahead(self, rows: int, depth: int) -> bool:
        wanted = self._switch.ahead
        return super().goes_ahead(rows, depth) if wanted is Ahead.BY_RULE else wanted is Ahead.ALWAYS

    def choose(self, rows: int) -> int:
        chosen, wanted = super().choose(rows), self._switch.depth
        self.depth = chosen if wanted == ADAPTIVE else wanted
        return self.depth


class TimedStream:
    """A stream that adds up how long it was waited for."""

    def __init__(self, stream: Stream) -> None:
        self._stream, self.wait_seconds = stream, 0.0

    @property
    def failures(self) -> int:
        return self._stream.failures

    @property
    def is_open(self) -> bool:
        return self._stream.is_open

    def send(self, frame: VerifierFrame) -> None:
        self._stream.send(frame)

    def take(self, until: float) -> list[tuple[float, DrafterFrame]]:
        begun = time.monotonic()
        try:
            return self._stream.take(until)
        finally:
            if begun < until:
                self.wait_seconds += time.monotonic() - begun

    def renew(self) -> None:
        self._stream.renew()

    def refuse(self, reason: str) -> None:
        self._stream.refuse(reason)


class TimedStreams:
    """The streams to all draft pods, and how long they were waited for together."""

    def __init__(self, streams: Callable[[], Mapping[str, Stream]]) -> None:
        self._streams = streams
        self._timed: dict[str, TimedStream] = {}

    def __call__(self) -> Mapping[str, Stream]:
        streams = self._streams()
        if streams.keys() != self._timed.keys():
            self._timed = {address: TimedStream(stream) for address, stream in streams.items()}
        return self._timed

    def begin(self) -> None:
        """A call of the proposer begins."""
        for stream in self._timed.values():
            stream.wait_seconds = 0.0

    @property
    def wait_seconds(self) -> float:
        return sum(stream.wait_seconds for stream in self._timed.values())


class SwitchedProposer(RemoteProposer):
    """The proposer of an engine that `benchmarks.switched_launch` starts."""

    def __init__(self, vllm_config: Any) -> None:
        self._switch = Switch(Path(os.environ[VARIABLE]))
        settings = DraftSettings.from_environment(os.environ)
        self._sources: list[tuple[RemoteDrafts, SwitchedDepths, TimedStreams] | None] = []
        for name, address in self._switch.sources().items():
            if name == NOTHING:
                self._sources.append(None)
                continue
            os.environ.update(replace(settings, address=address).to_environment())
            super().__init__(vllm_config)
            drafts = self._drafts
            assert drafts is not None  # noqa: S101 -- narrows the type: there is one rank
            depths = SwitchedDepths(vllm_config.speculative_config.num_speculative_tokens, self._switch)
            streams = TimedStreams(drafts._streams)  # noqa: SLF001 -- two parts of the product's are replaced, no more
            drafts._depths, drafts._streams = depths, streams  # noqa: SLF001
            self._sources.append((drafts, depths, streams))

    def propose(
        self,
        sampled_token_ids: list[list[int]],
        num_tokens_no_spec: Any,
        token_ids_cpu: Any,
        slot_mappings: object = None,
    ) -> list[list[int]]:
        source = self._sources[self._switch.source]
        if source is None:
            return [[] for _ in sampled_token_ids]
        self._drafts, depths, streams = source
        depths.begin()
        streams.begin()
        begun = time.monotonic()
        found = super().propose(sampled_token_ids, num_tokens_no_spec, token_ids_cpu, slot_mappings)
        seconds, (answer, compute), (step_depth, step) = time.monotonic() - begun, depths.draft, depths.step
        rows = len(sampled_token_ids)
        self._switch.record(
            StepRecord(rows, depths.depth, seconds, streams.wait_seconds, answer, compute, step_depth, step)
        )
        return found
