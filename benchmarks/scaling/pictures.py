"""One picture of a run: load, replicas and attainment over time. Needs matplotlib, which only this module imports."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

from benchmarks.scaling.simulation import Run

BIN_SECONDS = 30.0


def draw(run: Run, *, title: str, path: Path) -> None:
    """Write a PNG. Raises SystemExit where matplotlib is not installed."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise SystemExit(f"--pictures needs matplotlib, which is among the development packages: {error}") from error
    minutes, rates, shares = attained_by_time(run)
    figure = Figure(figsize=(10, 7.5), layout="constrained")
    FigureCanvasAgg(figure)
    load, replicas, attained = figure.subplots(3, 1, sharex=True)
    load.step(minutes, rates, where="mid", color="#2a6fbb")
    load.set_ylabel("requests/s")
    at = [point.at / 60 for point in run.points]
    replicas.step(at, [point.wanted for point in run.points], where="post", color="#c8702a", label="wanted")
    replicas.step(at, [point.ready for point in run.points], where="post", color="#2a8a5a", label="Ready")
    queue = replicas.twinx()
    queue.fill_between(at, [point.waiting for point in run.points], step="post", color="#999999", alpha=0.4, lw=0)
    queue.set_ylabel("waiting")
    replicas.set_ylabel("replicas")
    replicas.set_ylim(bottom=0)
    replicas.legend(loc="upper left", frameon=False, ncol=2)
    attained.step(minutes, shares, where="mid", color="#2a6fbb")
    attained.set_ylabel("attained, %")
    attained.set_ylim(-2, 102)
    attained.set_xlabel("minutes; a request counts when it arrives")
    figure.suptitle(title)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)


def attained_by_time(run: Run) -> tuple[list[float], list[float], list[float]]:
    """Minutes, requests a second and percent attained, by the time of arrival."""
    counts: defaultdict[int, list[bool]] = defaultdict(list)
    for request in run.requests:
        counts[int(request.arrival / BIN_SECONDS)].append(request.is_attained(run.objective))
    bins = range(max(counts, default=0) + 1)
    minutes = [(place + 0.5) * BIN_SECONDS / 60 for place in bins]
    rates = [len(counts[place]) / BIN_SECONDS for place in bins]
    shares = [100 * sum(counts[place]) / len(counts[place]) if counts[place] else float("nan") for place in bins]
    return minutes, rates, shares
