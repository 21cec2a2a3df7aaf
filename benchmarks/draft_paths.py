"""The parts of `benchmarks.drafting` about one path to the drafts: far, bare, and crowded."""

from __future__ import annotations

import json
import re
import time
from array import array
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import linear_regression, median

from benchmarks.pairs import Engines, Way, measured
from benchmarks.predictions import Parts
from benchmarks.switch import ADAPTIVE, Ahead, StepRecord, Switch
from tandem_contracts.launch import DraftEngine
from tandem_runtime.drafting.protocol import ANY_VOCABULARY, VERSION, DrafterFrame, VerifierFrame
from tandem_runtime.drafting.protocol.draft_pb2 import Hello, Result, Step
from tandem_runtime.drafting.sessions import Context, Sessions
from tandem_runtime.drafting.stream import DraftStream
from tests.runtime.engines import Engine
from tests.runtime.relay import Relay

DELAYS_MS = (5, 10, 20)
"""Added to the round trip, half of it each way."""
FAR_DEPTHS = range(9)
FAR_ROUNDS = 3
FAR_PROMPTS = 4
TRIPS = 1000
SESSIONS = 64
SESSION_TOKENS = 2047
LIMIT_SECONDS = 120.0


@dataclass(frozen=True)
class Far:
    """Speed-up by delay and depth, as a table and as figures."""

    table: str
    figures: dict[str, float]


def far_drafts(verifier: Engine, plain: Engine, switch: Switch, *, relay: Relay, prompts: Sequence[str]) -> Far:
    """Measured at each fixed depth with each delay, with and without drafting ahead, beside what was to be expected
    from the parts without any delay.
    """
    speedups: dict[tuple[int, Ahead, int], list[float]] = {}
    parts = _parts(verifier, plain, switch, prompts=prompts)
    ways = [(ahead, depth) for ahead in (Ahead.NEVER, Ahead.ALWAYS) for depth in FAR_DEPTHS]
    for _ in range(FAR_ROUNDS):
        for delay in DELAYS_MS:
            relay.delay_seconds = delay / 2000
            base = measured(Way(plain), prompts[:FAR_PROMPTS], 1).tokens_per_second
            for ahead, depth in (*ways, (Ahead.BY_RULE, ADAPTIVE)):
                way = Way(verifier, "far", depth, ahead)
                speed = measured(way, prompts[:FAR_PROMPTS], 1, switch).tokens_per_second
                speedups.setdefault((delay, ahead, depth), []).append(speed / base)
    relay.delay_seconds = 0.0
    lines = [
        "over plain                 waiting               drafting ahead",
        "added delay   depth   measured  predicted     measured  predicted",
    ]
    figures: dict[str, float] = {}
    for delay in DELAYS_MS:
        expected = replace(parts, round_trip=parts.round_trip + delay / 1000)
        found = {(ahead, depth): median(speedups[delay, ahead, depth]) for ahead, depth in ways}
        lines += [
            f"{delay:8} ms   {depth:5}   {found[Ahead.NEVER, depth]:8.2f}  {expected.waiting(depth):9.2f}     "
            f"{found[Ahead.ALWAYS, depth]:8.2f}  {expected.drafting_ahead(depth):9.2f}"
            for depth in FAR_DEPTHS
        ]
        chosen = median(speedups[delay, Ahead.BY_RULE, ADAPTIVE])
        lines.append(f"{delay:8} ms  chosen by the product: {chosen:.2f}")
        figures[f"far_{delay}ms_adaptive_over_plain"] = chosen
        for ahead, name, predicted in (
            (Ahead.NEVER, "", expected.waiting),
            (Ahead.ALWAYS, "_ahead", expected.drafting_ahead),
        ):
            best = max(FAR_DEPTHS, key=lambda depth, ahead=ahead: found[ahead, depth])  # type: ignore[misc]
            wanted = expected.best_depth(is_ahead=ahead is Ahead.ALWAYS)
            figures |= {
                f"far_{delay}ms{name}_best_depth": best,
                f"far_{delay}ms{name}_predicted_depth": wanted,
                f"far_{delay}ms{name}_depths_apart": abs(best - wanted),
                f"far_{delay}ms{name}_over_plain": found[ahead, best],
                f"far_{delay}ms{name}_predicted_over_plain": predicted(wanted),
            }
    return Far("\n".join(lines), {name: float(value) for name, value in figures.items()})


def _parts(verifier: Engine, plain: Engine, switch: Switch, *, prompts: Sequence[str]) -> Parts:
    """Without a delay. Verifying is taken to cost the same for each token more: it does, but for noise."""
    steps: dict[int, list[StepRecord]] = {depth: [] for depth in FAR_DEPTHS}
    speeds, shares = [], []
    drafted: list[bool] = []
    for _ in range(FAR_ROUNDS):
        speeds.append(measured(Way(plain), prompts[:FAR_PROMPTS], 1).tokens_per_second)
        for depth in FAR_DEPTHS:
            found = measured(Way(verifier, "far", depth), prompts[:FAR_PROMPTS], 1, switch)
            steps[depth] += found.records
        shares = found.acceptance.shares
        drafted += [step.step_depth > 0 for step in found.records]
    answered = [step for step in steps[max(FAR_DEPTHS)] if step.answer_seconds]
    seen = [(step.step_depth, step.step_seconds) for found in steps.values() for step in found if step.step_seconds]
    typical = {depth: median(seconds for at, seconds in seen if at == depth) for depth in FAR_DEPTHS}
    line = linear_regression(list(typical), list(typical.values()))
    return Parts(
        plain=1 / median(speeds),
        steps={depth: line.intercept + line.slope * depth for depth in FAR_DEPTHS},
        round_trip=median(step.answer_seconds - step.compute_seconds for step in answered),
        token=median(step.compute_seconds / step.depth for step in answered),
        shares=shares,
        coverage=sum(drafted) / len(drafted),
    )


def round_trip_of(address: str) -> float:
    """Milliseconds from a question for one token to its answer, without the drafting; median, nothing else running."""
    with _Client(address) as client:
        tokens = array("i", range(1, 33))
        trips = []
        for _ in range(TRIPS):
            tokens.append(1)
            begun = time.monotonic()
            at, result = client.ask({"0": tokens}, depth=1)[-1]
            trips.append(1000 * (at - begun) - result.compute_us / 1000)
    return median(trips)


def session_memory(engines: Engines) -> float:
    """Megabytes that `SESSIONS` full sessions add to a draft server, its KV cache left out.

    What of the cache is resident is looked up, not computed: pages come as they are touched, and by the huge page.
    """
    engine, address = engines.drafts(DraftEngine.TRANSFORMERS)
    engine.wait_until_ready()
    config = json.loads((engines.models.draft / "config.json").read_text(encoding="utf-8"))
    of_a_token = config["num_hidden_layers"] * config["num_key_value_heads"] * config["head_dim"] * 4
    keys = SESSIONS * (SESSION_TOKENS + 1) * of_a_token
    with _Client(address) as client:
        client.ask({"first": array("i", [1])}, depth=1)
        before = _resident_bytes_beside(engine.process.pid, keys)
        contexts = {
            str(number): array("i", [(number + at) % config["vocab_size"] for at in range(SESSION_TOKENS)])
            for number in range(SESSIONS)
        }
        for request, context in contexts.items():
            client.ask({request: context}, depth=1)
        added = _resident_bytes_beside(engine.process.pid, keys) - before
    return added / 1e6


class _Client:
    """A verifier's stream, without a verifier."""

    def __init__(self, address: str) -> None:
        hello = Hello(protocol=VERSION, verifier="benchmark", vocabulary=ANY_VOCABULARY, max_depth=1)
        self._stream = DraftStream(address, VerifierFrame(hello=hello))
        self._sessions = Sessions(depth=16, vocabulary=ANY_VOCABULARY)
        self._number = 0

    def __enter__(self) -> _Client:
        _, frame = self._take()
        if frame.WhichOneof("frame") != "welcome":
            raise RuntimeError(f"the draft server's first frame is {frame.WhichOneof('frame')}")
        return self

    def __exit__(self, *_: object) -> None:
        self._stream.close()

    def ask(self, contexts: dict[str, Context], *, depth: int) -> list[tuple[float, Result]]:
        """The answers to one step, and when they came, until every row has one."""
        rows = self._sessions.rows(contexts, depth=depth)
        self._number += 1
        self._stream.send(VerifierFrame(step=Step(number=self._number, rows=rows)))
        lacking = {row.session for row in rows}
        found = []
        while lacking:
            at, frame = self._take()
            if frame.WhichOneof("frame") == "result":
                found.append((at, frame.result))
                lacking -= {draft.session for draft in frame.result.drafts}
        return found

    def _take(self) -> tuple[float, DrafterFrame]:
        deadline = time.monotonic() + LIMIT_SECONDS
        while time.monotonic() < deadline:
            for arrived in self._stream.take(min(deadline, time.monotonic() + 1)):
                return arrived
        raise TimeoutError(f"waited {LIMIT_SECONDS:.0f} s: an answer of the draft server")


def _resident_bytes_beside(pid: int, least: int) -> int:
    """Of a process, without its mappings of about `least` bytes and more: those are its KV cache."""
    total = 0
    smaps = Path(f"/proc/{pid}/smaps").read_text(encoding="utf-8")
    for mapping in re.split(r"^(?=[0-9a-f]+-[0-9a-f]+ )", smaps, flags=re.MULTILINE):
        lines = re.findall(r"^(Size|Rss): +(\d+) kB", mapping, re.MULTILINE)
        told = {name: 1024 * int(kilobytes) for name, kilobytes in lines}
        if told and told["Size"] < 0.9 * least:
            total += told["Rss"]
    return total
