"""What a draft server counts of its work, as the metrics page of its pod shows it."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from tandem_contracts import metrics


class Figures:
    """The metrics of one draft server. May be used from several threads."""

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        """In a registry of its own unless one is given."""
        into, grid = registry or CollectorRegistry(), metrics.SECONDS_GRID
        self._streams = Gauge(metrics.DRAFT_SERVER_STREAMS, "Verifier engines that are connected.", registry=into)
        self._sessions = Gauge(metrics.DRAFT_SERVER_SESSIONS, "Contexts that are kept.", registry=into)
        self._queue = Histogram(
            metrics.DRAFT_SERVER_QUEUE_SECONDS, "From a step's arrival to its pass.", buckets=grid, registry=into
        )
        self._compute = Histogram(
            metrics.DRAFT_SERVER_COMPUTE_SECONDS, "From the pass to the answer.", buckets=grid, registry=into
        )
        self._tokens = Counter(metrics.DRAFT_SERVER_TOKENS, "Tokens that were drafted.", registry=into)
        self._asked = Counter(metrics.DRAFT_SERVER_ASKED_TOKENS, "Tokens that were asked for.", registry=into)
        self._busy = Counter(metrics.DRAFT_SERVER_BUSY_SECONDS, "Time of passes for what was asked.", registry=into)
        self._superseded = Counter(metrics.DRAFT_SERVER_SUPERSEDED, "Rows that a newer one took over.", registry=into)
        self._evicted = Counter(metrics.DRAFT_SERVER_EVICTED, "Contexts dropped for want of room.", registry=into)
        self._lost = Counter(metrics.DRAFT_SERVER_RESYNCS, "Rows that built on what was not here.", registry=into)
        self._failed = Counter(metrics.DRAFT_SERVER_FAILURES, "Passes in which the engine failed.", registry=into)

    def connected(self, change: int) -> None:
        """Streams came (1) or went (-1)."""
        self._streams.inc(change)

    def kept(self, change: int) -> None:
        """Contexts came or went."""
        self._sessions.inc(change)

    def drafted(self, tokens: int, *, queue_seconds: float, compute_seconds: float) -> None:
        """An answer with drafts went out."""
        self._tokens.inc(tokens)
        self._asked.inc(tokens)
        self._queue.observe(queue_seconds)
        self._compute.observe(compute_seconds)

    def drafted_ahead(self, tokens: int) -> None:
        """Further tokens after an answer. Nobody waited for them, so their times are no answer's."""
        self._tokens.inc(tokens)

    def worked(self, seconds: float) -> None:
        """A pass for what was asked has ended, for however many verifiers."""
        self._busy.inc(seconds)

    def superseded(self) -> None:
        """A row was not answered, since a newer one of its session had come."""
        self._superseded.inc()

    def evicted(self, count: int) -> None:
        """Contexts were dropped for want of room."""
        self._evicted.inc(count)

    def lost(self) -> None:
        """A row could not be taken in."""
        self._lost.inc()

    def failed(self) -> None:
        """The engine raised."""
        self._failed.inc()
