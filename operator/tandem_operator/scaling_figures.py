"""Prometheus metrics of scaling: what was decided for each autoscaled deployment last, and by what. Decides nothing."""

from __future__ import annotations

from prometheus_client import Counter, Gauge

from tandem_operator.scaling.decision import Decision, Health

_LABELS = ["deployment"]
DESIRED = Gauge("tandem_scaling_desired_replicas", "Verifiers that are wanted.", _LABELS)
DEMAND = Gauge("tandem_scaling_requests_per_second", "Requests that arrive.", _LABELS)
SURGE = Gauge("tandem_scaling_surge_per_second", "More of them that one cold start may bring.", _LABELS)
CAPACITY = Gauge("tandem_scaling_replica_requests_per_second", "That a replica does within the target.", _LABELS)
COLD_START = Gauge("tandem_scaling_cold_start_seconds", "Of most replicas, from being made to Ready.", _LABELS)
ATTAINMENT = Gauge(
    "tandem_scaling_attainment_ratio", "Share of the last minutes' requests within a target.", [*_LABELS, "target"]
)
BLIND = Gauge("tandem_scaling_blind", "1 while too few engines say anything for replicas to change.", _LABELS)
CHANGES = Counter("tandem_scaling_changes_total", "Times that replicas were changed.", [*_LABELS, "direction"])
_PLAIN = (DESIRED, DEMAND, SURGE, CAPACITY, COLD_START, BLIND)
_TARGETS = ("timeToFirstToken", "timePerOutputToken")


def show(name: str, decision: Decision) -> None:
    """Export a decision."""
    figures = decision.figures
    DESIRED.labels(name).set(decision.replicas)
    DEMAND.labels(name).set(figures.requests_rate)
    SURGE.labels(name).set(figures.surge_rate)
    CAPACITY.labels(name).set(figures.capacity_rate)
    COLD_START.labels(name).set(figures.cold_start_seconds)
    BLIND.labels(name).set(decision.health is Health.BLIND)
    shares = (figures.first_token_attainment, figures.output_token_attainment)
    for target, share in zip(_TARGETS, shares, strict=True):
        if share is not None:
            ATTAINMENT.labels(name, target).set(share)
        else:
            _drop(ATTAINMENT, name, target)


def count_change(name: str, *, before: int, after: int) -> None:
    """Count that replicas have changed."""
    CHANGES.labels(name, "up" if after > before else "down").inc()


def forget(name: str) -> None:
    """Export nothing of a deployment that is scaled no more."""
    for gauge in _PLAIN:
        _drop(gauge, name)
    for target in _TARGETS:
        _drop(ATTAINMENT, name, target)


def _drop(gauge: Gauge, *labels: str) -> None:
    try:
        gauge.remove(*labels)
    except KeyError:
        return
