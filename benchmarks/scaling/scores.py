"""What a run is worth: attainment, cost and calm. Rows are what is printed and written as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import fmean

from benchmarks.scaling.simulation import Run


@dataclass(frozen=True)
class Score:
    """Of one run, or the mean of several."""

    attainment: float
    """Percent of all requests that kept both objectives; rejected, lost and unanswered ones did not."""
    worst_seed_attainment: float
    avg_replicas: float
    """Starting and draining pods included, from the begin until the fleet is at its floor: llm-d's way to count."""
    avg_replicas_of_load: float
    """The same until the last answer."""
    replica_hours: float
    reversals: float
    """Changes in the other direction than the one before."""
    changes: float
    first_token_misses: float
    """Percent; the rest of the misses kept it and missed the time per output token, or was never answered."""
    first_token_seconds_p50: float
    first_token_seconds_p90: float
    first_token_seconds_p99: float
    output_token_seconds_p90: float
    output_token_seconds_p99: float
    unanswered: float
    preemptions: float
    shrunk_in_fault: float
    requests: float
    settled_changes: float | None = None
    """An hour, from the end of the warm-up until the last request, of the seed with the most; None where a load never
    settles.
    """

    @property
    def row(self) -> dict[str, float]:
        """Rounded, for JSON."""
        return {name: round(number, 4) for name, number in asdict(self).items() if number is not None}


def score_of(run: Run, *, settled_at: float | None = None) -> Score:
    """One run's; `settled_at`: the second from which on the load has long been what it is."""
    requests, objective = run.requests, run.objective
    count = len(requests)
    attained = sum(request.is_attained(objective) for request in requests)
    firsts = sorted(each.first_token_seconds or float("inf") for each in requests)
    outputs = sorted(x for x in (each.output_token_seconds for each in requests) if x is not None)
    share = 100 * attained / count
    return Score(
        attainment=share,
        worst_seed_attainment=share,
        avg_replicas=run.replica_seconds / run.end,
        avg_replicas_of_load=run.replica_seconds_of_load / run.load_end,
        replica_hours=run.replica_seconds / 3600,
        reversals=sum(a[1] * b[1] < 0 for a, b in zip(run.changes, run.changes[1:], strict=False)),
        changes=len(run.changes),
        first_token_misses=100 * sum(each > objective.first_token_seconds for each in firsts) / count,
        first_token_seconds_p50=_at(firsts, 0.5),
        first_token_seconds_p90=_at(firsts, 0.9),
        first_token_seconds_p99=_at(firsts, 0.99),
        output_token_seconds_p90=_at(outputs, 0.9),
        output_token_seconds_p99=_at(outputs, 0.99),
        unanswered=sum(request.finished_at is None for request in requests),
        preemptions=run.preemptions,
        shrunk_in_fault=run.shrunk_in_fault,
        requests=count,
        settled_changes=None if settled_at is None else _settled_changes(run, settled_at),
    )


def mean_of(scores: Sequence[Score]) -> Score:
    """Of runs that differ by their seed."""
    rows = [asdict(score) for score in scores]
    means: dict[str, float] = {name: fmean(row[name] for row in rows) for name in rows[0] if name != "settled_changes"}
    means["worst_seed_attainment"] = min(score.worst_seed_attainment for score in scores)
    settled = max((each.settled_changes for each in scores if each.settled_changes is not None), default=None)
    return Score(**means, settled_changes=settled)


def _settled_changes(run: Run, settled_at: float) -> float:
    last = max(request.arrival for request in run.requests)
    return sum(settled_at <= at <= last for at, _ in run.changes) * 3600 / (last - settled_at)


def _at(values: Sequence[float], share: float) -> float:
    return values[min(len(values) - 1, int(share * len(values)))] if values else 0.0
