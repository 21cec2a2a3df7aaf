"""What remote drafts are worth: one machine, one pair of models, the same prompts, every way to decode them.

Each round has every way once, in another order; ratios are of the same round. Needs a quiet machine, and
`NEEDED_BYTES` of memory for all engines at once: idle ones take no time. About an hour on two cores.
"""

from __future__ import annotations

import random
import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median, quantiles

from benchmarks.draft_paths import DELAYS_MS, far_drafts, round_trip_of, session_memory
from benchmarks.pairs import Engines, Measured, Way, engines_of, measured
from benchmarks.report import options_of, report
from benchmarks.switch import ADAPTIVE, NOTHING, StepRecord, Switch
from deploy.fixtures.pair import model_pair
from tandem_contracts.launch import DraftEngine
from tests.runtime.engines import Engine
from tests.runtime.relay import Relay

NEEDED_BYTES = 20 << 30
ROUNDS = 3
MOST = 8
DEPTHS = (2, 4, 6, 8)
IN_ENGINE_DEPTHS = (2, 4, 6, 8)
"""Each is an engine of its own."""
PROMPTS = {1: 6, 4: 12, 8: 16}
"""How many are decoded at once, and how many in all."""
OUR_OWN = "remote_transformers"


@dataclass
class Bench:
    """Everything that is running."""

    engines: Engines
    plain: Engine
    verifier: Engine
    switch: Switch
    relay: Relay
    draft_addresses: Mapping[str, str]
    ways: dict[str, list[Way]]
    """By name; several where there are several depths."""
    prompts: list[str]


@dataclass
class Results:
    """What every way measured, round by round."""

    passes: dict[tuple[str, int, int], list[Measured]] = field(default_factory=dict)
    """By name, depth and batch."""

    def speed(self, name: str, depth: int, batch: int) -> float:
        """Tokens a second, median of the rounds."""
        return median(each.tokens_per_second for each in self.passes[name, depth, batch])

    def best(self, name: str, batch: int) -> int:
        """The fastest of the fixed depths of this way."""
        depths = [depth for way, depth, rows in self.passes if (way, rows) == (name, batch) and depth != ADAPTIVE]
        return max(depths, key=lambda depth: self.speed(name, depth, batch))

    def ratios(self, some: tuple[str, int], others: tuple[str, int], batch: int) -> list[float]:
        """Of each round, speed over speed."""
        pairs = zip(self.passes[*some, batch], self.passes[*others, batch], strict=True)
        return [one.tokens_per_second / other.tokens_per_second for one, other in pairs]

    def different(self, name: str, depth: int, batch: int) -> int:
        """Texts that are not plain's of the same round and batch."""
        pairs = zip(self.passes[name, depth, batch], self.passes["plain", 0, batch], strict=True)
        return sum(text != plain for one, other in pairs for text, plain in zip(one.texts, other.texts, strict=True))

    def acceptance(self, name: str, depth: int, batch: int) -> float:
        """Of the drafted tokens, those that were accepted."""
        return median(each.acceptance.share for each in self.passes[name, depth, batch])

    def records(self, name: str, depth: int, batch: int) -> list[StepRecord]:
        """Of the steps for which drafts were asked."""
        return [step for each in self.passes[name, depth, batch] for step in each.records if step.depth]


def main() -> int:
    """Measure everything and report."""
    options = options_of("drafting", __doc__)
    if (there := _available_bytes()) < NEEDED_BYTES:
        sys.stderr.write(f"drafting: {NEEDED_BYTES >> 30} GiB of memory are needed, {there >> 30} GiB are available\n")
        return 1
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("drafting: ended, and its engines with it"))
    with engines_of(model_pair()) as engines:
        bench = _started(engines)
        with bench.relay:
            results = _rounds(bench)
            far = far_drafts(bench.verifier, bench.plain, bench.switch, relay=bench.relay, prompts=bench.prompts)
        own = {
            "idle_round_trip_ms_p50": round_trip_of(bench.draft_addresses["transformers"]),
            "session_memory_mb": session_memory(engines),
        }
    figures = {**_figures(results), **far.figures, **own}
    tables = [_table(results, batch) for batch in PROMPTS]
    report("drafting", figures, table="\n\n".join([*tables, far.table, _bars(figures)]), path=options.json)
    return 0


def _started(engines: Engines) -> Bench:
    """All engines, a few at a time: starting is what takes both cores."""
    drafts = {}
    for kind in DraftEngine:
        engine, drafts[kind.lower()] = engines.drafts(kind)
        engine.wait_until_ready()
    plain = engines.plain()
    plain.wait_until_ready()
    relay = Relay(drafts["transformers"])
    away = "127.0.0.1:9"  # the discard port: nobody listens
    verifier, switch = engines.switched({**drafts, "away": away, "far": relay.address}, MOST)
    verifier.wait_until_ready()
    ways = {
        "plain": [Way(plain)],
        "mode_only": [Way(verifier, NOTHING)],
        "away": [Way(verifier, "away", ADAPTIVE)],
        "depth_0": [Way(verifier, "transformers", 0)],
        "in_engine": [],
        **{f"remote_{kind}": [Way(verifier, kind, depth) for depth in (*DEPTHS, ADAPTIVE)] for kind in drafts},
    }
    for depth in IN_ENGINE_DEPTHS:
        engine = engines.in_engine(depth)
        engine.wait_until_ready()
        ways["in_engine"].append(Way(engine, depth=depth))
    return Bench(engines, plain, verifier, switch, relay, drafts, ways, engines.models.prompts())


def _rounds(bench: Bench) -> Results:
    """The first round, in which everything is met for the first time, does not count."""
    results, chance = Results(), random.Random(0)  # noqa: S311 -- an order
    todo = [(name, way, batch) for name, ways in bench.ways.items() for way in ways for batch in PROMPTS]
    for number in range(ROUNDS + 1):
        chance.shuffle(todo)
        for name, way, batch in todo:
            found = measured(way, bench.prompts[: PROMPTS[batch]], batch, bench.switch)
            if number:
                results.passes.setdefault((name, way.depth, batch), []).append(found)
        sys.stderr.write(f"drafting: round {number} of {ROUNDS}\n")
    return results


def _figures(results: Results) -> dict[str, float]:
    """The keys of one batch without a suffix, of others with one."""
    figures: dict[str, float] = {}
    names = {name for name, _, _ in results.passes}
    for batch in PROMPTS:
        suffix = "" if batch == 1 else f"_b{batch}"
        best = {name: results.best(name, batch) for name in names if name != "away"}
        best["away"] = ADAPTIVE
        for name in sorted(names):
            figures[f"{name}_tok_s{suffix}"] = results.speed(name, best[name], batch)
            if name != "plain":
                ratios = results.ratios((name, best[name]), ("plain", 0), batch)
                figures |= _spread(f"{name}_over_plain{suffix}", ratios)
            if name == "in_engine" or name.startswith("remote_"):
                figures[f"{name}_best_depth{suffix}"] = best[name]
        for name in sorted(names):
            if name.startswith("remote_"):
                figures[f"{name}_adaptive_tok_s{suffix}"] = results.speed(name, ADAPTIVE, batch)
                ratios = results.ratios((name, ADAPTIVE), ("plain", 0), batch)
                figures |= _spread(f"{name}_adaptive_over_plain{suffix}", ratios)
        equal = best["in_engine"]
        figures[f"equal_depth{suffix}"] = equal
        figures |= _spread(f"equal_depth_ratio{suffix}", results.ratios((OUR_OWN, equal), ("in_engine", equal), batch))
        own, other = (OUR_OWN, best[OUR_OWN]), ("in_engine", best["in_engine"])
        figures |= _spread(f"best_depth_ratio{suffix}", results.ratios(own, other, batch))
        figures[f"acceptance{suffix}"] = results.acceptance(*own, batch)
        figures |= _of_steps(results.records(*own, batch), suffix)
        counted = [key for key in results.passes if key[2] == batch]
        figures[f"texts_different{suffix}"] = sum(results.different(*key) for key in counted)
    return figures


def _of_steps(steps: Sequence[StepRecord], suffix: str) -> dict[str, float]:
    waits = quantiles((1000 * step.wait_seconds for step in steps), n=20)
    trips = [1000 * (step.answer_seconds - step.compute_seconds) for step in steps if step.answer_seconds]
    own = [1000 * (step.propose_seconds - step.wait_seconds) for step in steps]
    return {
        f"wait_ms_p50{suffix}": waits[9],
        f"wait_ms_p95{suffix}": waits[18],
        f"round_trip_ms_p50{suffix}": median(trips),
        f"proposer_ms_p50{suffix}": median(own),
    }


def _spread(name: str, ratios: Sequence[float]) -> dict[str, float]:
    return {name: median(ratios), f"{name}_lowest": min(ratios), f"{name}_highest": max(ratios)}


def _table(results: Results, batch: int) -> str:
    lines = [f"batch {batch:<22}  tok/s   over plain           accepted  other texts"]
    for name, depth, rows in sorted(results.passes):
        if rows == batch:
            ratios = results.ratios((name, depth), ("plain", 0), batch)
            told = {0: name, ADAPTIVE: f"{name}, chosen"}.get(depth, f"{name}, {depth}")
            lines.append(
                f"{told:28}{results.speed(name, depth, batch):7.0f}   {median(ratios):.2f} ({min(ratios):.2f} to"
                f" {max(ratios):.2f})  {results.acceptance(name, depth, batch):8.2f}"
                f"  {results.different(name, depth, batch):6}"
            )
    return "\n".join(lines)


def _bars(figures: Mapping[str, float]) -> str:
    """What must hold, and what is aimed at, beside what was measured."""
    at_least = [
        ("remote_transformers_over_plain", 2.0),
        ("equal_depth_ratio", 0.75),
        ("remote_vllm_over_plain", 1.2),
        *((f"{path}_over_plain{suffix}", 0.7) for path in ("away", "depth_0") for suffix in ("", "_b4", "_b8")),
        *((f"remote_transformers_over_plain{suffix}", bar) for suffix, bar in (("", 3.0), ("_b4", 2.2), ("_b8", 2.0))),
        *((f"best_depth_ratio{suffix}", bar) for suffix, bar in (("", 0.9), ("_b4", 0.85), ("_b8", 0.85))),
    ]
    at_most = [
        *((f"far_{delay}ms{ahead}_depths_apart", 1.0) for delay in DELAYS_MS for ahead in ("", "_ahead")),
        ("proposer_ms_p50_b8", 0.3),
        ("idle_round_trip_ms_p50", 1.0),
        ("session_memory_mb", 64.0),
    ]
    rows = [(name, ">=", bar, figures[name] >= bar) for name, bar in at_least]
    rows += [(name, "<=", bar, figures[name] <= bar) for name, bar in at_most]
    return "\n".join(
        f"{'met    ' if is_met else 'NOT MET'} {name:42}{figures[name]:8.2f} {sign} {bar}"
        for name, sign, bar, is_met in rows
    )


def _available_bytes() -> int:
    lines = Path("/proc/meminfo").read_text(encoding="utf-8").splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable:"))


if __name__ == "__main__":
    raise SystemExit(main())
