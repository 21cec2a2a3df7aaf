"""Serves the launcher's metrics: the phases of the start, and what the proposer or the draft server counts."""

import threading
import time
from collections.abc import Callable, Iterator
from wsgiref.simple_server import WSGIServer

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from tandem_contracts import metrics
from tandem_runtime.drafting.counters import Counted, Counters
from tandem_runtime.launch.phases import StartPhases

ALL_INTERFACES = "0.0.0.0"  # noqa: S104 - pods are reached at their own address


class PhasesCollector(Collector):
    """The start of an engine, read whenever it is scraped."""

    def __init__(self, phases: StartPhases) -> None:
        self._phases = phases
        self._started = time.time()

    def collect(self) -> Iterator[Metric]:
        """The metrics of every role."""
        yield GaugeMetricFamily(metrics.START_TIME_SECONDS, "When the launcher was started.", value=self._started)
        phase_seconds = GaugeMetricFamily(
            metrics.START_PHASE_SECONDS, "Duration of each phase of the engine's start.", labels=["phase"]
        )
        for phase, seconds in self._phases.durations_seconds().items():
            phase_seconds.add_metric([phase], seconds)
        yield phase_seconds
        ready = float(self._phases.is_ready)
        yield GaugeMetricFamily(metrics.ENGINE_READY, "Whether the engine has answered.", value=ready)


class ProposerCollector(Collector):
    """The counters of a verifier's proposer, read whenever it is scraped."""

    def __init__(self, counters: Counters) -> None:
        self._counters = counters

    def collect(self) -> Iterator[Metric]:
        """What `Counters` counts."""
        yield self._by_outcome(
            metrics.DRAFT_CALLS,
            "Calls for remote drafts.",
            {"answered": Counted.CALLS_ANSWERED, "failed": Counted.CALLS_FAILED},
        )
        yield self._by_outcome(
            metrics.DRAFT_ROWS,
            "Rows of decode steps.",
            {"drafted": Counted.ROWS_DRAFTED, "empty": Counted.ROWS_EMPTY},
        )
        yield self._by_outcome(
            metrics.DRAFT_TOKENS,
            "Tokens of remote drafts.",
            {"drafted": Counted.TOKENS_DRAFTED, "accepted": Counted.TOKENS_ACCEPTED},
        )
        depth, speedup = (self._counters.value(counted) for counted in (Counted.DEPTH, Counted.SPEEDUP))
        yield GaugeMetricFamily(metrics.DRAFT_DEPTH, "Tokens that the last step asked for.", value=depth)
        for name, what, counted in (
            (metrics.DRAFT_PODS, "Draft pods that the verifier knows of.", Counted.PODS),
            (metrics.DRAFT_BREAKERS_OPEN, "Draft pods that are left alone for now.", Counted.BREAKERS_OPEN),
            (metrics.DRAFT_LONGEST_WAIT_SECONDS, "Longest time that a step spent on it.", Counted.LONGEST_WAIT_SECONDS),
        ):
            yield GaugeMetricFamily(name, what, value=self._counters.value(counted))
        if speedup:
            yield GaugeMetricFamily(metrics.DRAFT_SPEEDUP, "Best depth over depth 0, as measured.", value=speedup)
        for name, what, counted in (
            (metrics.DRAFT_DEADLINES_MISSED, "Steps that waited in vain.", Counted.DEADLINES_MISSED),
            (metrics.DRAFT_ROWS_INVALID, "Answers that were no valid drafts.", Counted.ROWS_INVALID),
            (metrics.DRAFT_WAIT_SECONDS, "Time spent on getting remote drafts.", Counted.WAIT_SECONDS),
            (metrics.DRAFT_ROUND_TRIP_SECONDS, "Time from asking to answers.", Counted.ROUND_TRIP_SECONDS),
            (metrics.DRAFT_RESYNCS, "Contexts that were sent again.", Counted.RESYNCS),
            (metrics.DRAFT_ERRORS, "Steps in which the proposer failed.", Counted.ERRORS),
        ):
            yield CounterMetricFamily(name, what, value=self._counters.value(counted))

    def _by_outcome(self, name: str, what: str, outcomes: dict[str, Counted]) -> Metric:
        family = CounterMetricFamily(name, what, labels=["outcome"])
        for outcome, counted in outcomes.items():
            family.add_metric([outcome], self._counters.value(counted))
        return family


def serve_metrics(registry: CollectorRegistry, host: str, *, port: int) -> Callable[[], None]:
    """Serves in a thread of its own; returns what stops it. Raises OSError when the port is taken."""
    server: WSGIServer
    thread: threading.Thread
    server, thread = start_http_server(port, addr=host or ALL_INTERFACES, registry=registry)

    def stop() -> None:
        server.shutdown()
        server.server_close()
        thread.join(timeout=5)

    return stop
