"""Whether the simulated engine and fleet behave like the published ones; no comparison with published figures else.

Published: llm-d/llm-d, guides/workload-autoscaling, README.slo-aware.md and BENCHMARK.md: about 1.4 to 1.5 requests/s a
pod of Qwen3-32B on two H100; 8 pods all the time keep both objectives for every request, with a 90th percentile of
0.59 s to the first token at 10 requests/s; its law keeps them for 95.8 % at 5.93 replicas.

The constants of the engine were set with all three in view, so C3 says that law and engine fit together, no more. The
published figure is with predicted latencies, and so is that which is judged; beside it is told what measured ones give.
The law has the bounds of the router's own histograms; no bias of its predictor is assumed.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean, median

from benchmarks.scaling.contestants import CONTESTANTS, setting_for
from benchmarks.scaling.controllers import Static
from benchmarks.scaling.requests import random_of
from benchmarks.scaling.router_signals import FIRST_TOKEN_BOUNDS, Window
from benchmarks.scaling.scores import Score, mean_of, score_of
from benchmarks.scaling.simulation import Run, Setting, Simulation
from benchmarks.scaling.workloads import ALL, steady

KNEE = (1.4, 1.5)
KNEE_RATES = tuple(round(1.2 + 0.05 * i, 2) for i in range(9))
STAGE_SECONDS = 360.0
PEAK_RATE, PEAK_PODS, PEAK_SECONDS = 10.0, 8, 0.59
PEAK_ERROR = 0.1
"""Of the published 90th percentile, in seconds. It is read from a histogram with bounds 0.2 s apart, and so is ours."""
LAW_ATTAINMENT, LAW_REPLICAS = 95.8, 5.93
LAW_ERROR_POINTS, LAW_ERROR_REPLICAS = 3.0, 0.4
PUBLISHED, MEASURED = "llm-d-predicted", "llm-d"


@dataclass(frozen=True)
class Gate:
    """One of them."""

    name: str
    holds: bool
    found: str
    """With what was asked for."""
    figures: dict[str, float]


def gates_beside(rows: Path) -> Path:
    """The file of gates beside one of rows."""
    return rows.with_name(f"{rows.stem}_gates{rows.suffix}")


def written_gates(found: Sequence[Gate]) -> str:
    """As JSON."""
    return json.dumps([asdict(gate) for gate in found], indent=2) + "\n"


def gates_in(file: Path) -> list[Gate]:
    """The reverse of `written_gates`."""
    return [Gate(**data) for data in json.loads(file.read_text(encoding="utf-8"))]


def gates(seeds: Sequence[int]) -> list[Gate]:
    """All."""
    return [knee(seeds), peak(seeds), law(seeds)]


def knee(seeds: Sequence[int]) -> Gate:
    """C1: the highest rate of one pod at which 90th percentiles keep both objectives, median of six-minute stages."""
    highest = 0.0
    for rate in KNEE_RATES:
        scores = [score_of(_fixed(1, rate, seed)) for seed in seeds]
        first = median(score.first_token_seconds_p90 for score in scores)
        output = median(score.output_token_seconds_p90 for score in scores)
        if first > 3.0 or output > 0.1:
            break
        highest = rate
    holds = KNEE[0] <= highest <= KNEE[1]
    return Gate("C1", holds, f"knee of one pod {highest:.2f} requests/s ({KNEE[0]} to {KNEE[1]})", {"knee": highest})


def peak(seeds: Sequence[int]) -> Gate:
    """C2: all pods all the time."""
    runs = [_fixed(PEAK_PODS, PEAK_RATE, seed) for seed in seeds]
    attainment = fmean(score_of(run).attainment for run in runs)
    exact = fmean(score_of(run).first_token_seconds_p90 for run in runs)
    window = Window(FIRST_TOKEN_BOUNDS)
    for request in (request for run in runs for request in run.requests):
        window.observe(0.0, request.first_token_seconds or 0.0)
    seconds = window.quantile(0.9, now=0.0) or 0.0
    holds = attainment >= 99.95 and abs(seconds - PEAK_SECONDS) <= PEAK_ERROR
    found = f"{PEAK_PODS} pods at {PEAK_RATE:g} requests/s: {attainment:.2f} % (100), p90 {seconds:.2f} s"
    figures = {"attainment": attainment, "first_token_seconds_p90": seconds, "exact_first_token_seconds_p90": exact}
    return Gate("C2", holds, f"{found} ({PEAK_SECONDS} ± {PEAK_ERROR})", figures)


def law(seeds: Sequence[int]) -> Gate:
    """C3: the port of llm-d's law on its own episode, by the latencies that the published one has."""
    workload = ALL["S1-staged"]
    found: dict[str, Score] = {}
    for name in (PUBLISHED, MEASURED):
        setting = setting_for(CONTESTANTS[name], workload.setting)
        runs = []
        for seed in seeds:
            controller = CONTESTANTS[name].make(setting, CONTESTANTS[name].default)
            runs.append(score_of(Simulation(setting, controller, workload.stages(seed), seed=seed).run()))
        found[name] = mean_of(runs)
    score = found[PUBLISHED]
    points, replicas = score.attainment - LAW_ATTAINMENT, score.avg_replicas - LAW_REPLICAS
    holds = abs(points) <= LAW_ERROR_POINTS and abs(replicas) <= LAW_ERROR_REPLICAS
    by_source = {name: f"{each.attainment:.1f} % at {each.avg_replicas:.2f} replicas" for name, each in found.items()}
    told = f"llm-d's law {by_source[PUBLISHED]} with predicted latencies, {by_source[MEASURED]} with measured ones"
    figures = {
        f"{each}_{what}": getattr(found[each], what) for each in found for what in ("attainment", "avg_replicas")
    }
    asked = f"{LAW_ATTAINMENT} ± {LAW_ERROR_POINTS:g} at {LAW_REPLICAS} ± {LAW_ERROR_REPLICAS}"
    return Gate("C3", holds, f"{told} ({asked})", figures)


def _fixed(pods: int, rate: float, seed: int) -> Run:
    setting = Setting(least=pods, most=pods, start=pods)
    stages = [steady(rate, STAGE_SECONDS, random_of("gate", pods, seed))]
    return Simulation(setting, Static(pods), stages, seed=seed).run()
