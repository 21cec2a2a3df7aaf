"""What a gate counts, as the metrics page of its pod shows it."""

from __future__ import annotations

from enum import StrEnum

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from tandem_contracts import metrics


class Outcome(StrEnum):
    """How a request ended: `metrics.GATE_REQUESTS`."""

    ANSWERED = "answered"
    EXPIRED = "expired"
    REFUSED = "refused"
    FAILED = "failed"
    CUT_OFF = "cut_off"
    GONE = "gone"


class Figures:
    """The metrics of one gate, in a registry of its own unless one is given."""

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        into = registry or CollectorRegistry()
        self._held = Gauge(metrics.GATE_HELD, "Requests that are held.", registry=into)
        self._held_bytes = Gauge(metrics.GATE_HELD_BYTES, "Bodies that are kept.", registry=into)
        self._answering = Gauge(metrics.GATE_ANSWERING, "Requests that were passed on and go on.", registry=into)
        self._pods = Gauge(metrics.GATE_PODS, "Pods that answered when the gate last looked.", registry=into)
        self._arrivals = Counter(metrics.GATE_ARRIVALS, "Requests for inference that came.", registry=into)
        self._over = Counter(metrics.GATE_REQUESTS, "Requests that are over.", ["outcome"], registry=into)
        self._held_seconds = Histogram(
            metrics.GATE_HELD_SECONDS, "From arrival to passing on.", buckets=metrics.LATENCY_GRID, registry=into
        )
        self._added_seconds = Histogram(
            metrics.GATE_ADDED_SECONDS, "What the gate added of it.", buckets=metrics.SECONDS_GRID, registry=into
        )
        for outcome in Outcome:
            self._over.labels(outcome)

    def arrived(self) -> None:
        """A request for inference came."""
        self._arrivals.inc()

    def over(self, outcome: Outcome) -> None:
        """It ended."""
        self._over.labels(outcome).inc()

    def keeps(self, *, held: int, answering: int, size: int) -> None:
        """So many requests are held, so many passed on and not over, and bodies of `size` bytes kept."""
        self._held.set(held)
        self._answering.set(answering)
        self._held_bytes.set(size)

    def sent(self, *, held_seconds: float, added_seconds: float) -> None:
        """A request was passed on."""
        self._held_seconds.observe(held_seconds)
        self._added_seconds.observe(added_seconds)

    def found(self, pods: int) -> None:
        """So many pods answer."""
        self._pods.set(pods)
