"""A port of KEDA's Prometheus scaler on waiting requests. Its HPA has the defaults of Kubernetes.

Source: kedacore/keda, pkg/scalers/prometheus_scaler.go. `ignoreNullValues` is true by default: an empty result, NaN
and infinity are 0, so that no data looks like no load.
"""

from __future__ import annotations

from benchmarks.scaling.controllers import Sight
from benchmarks.scaling.hpa import SCRAPE_SECONDS, SYNC_SECONDS, Behavior, average_value
from tandem_operator.scaling.reading import Reading


def waiting_of(reading: Reading) -> float:
    """`vllm:num_requests_waiting`."""
    return reading.waiting


class Keda:
    """`sum(metric)` over a threshold a pod."""

    tick_seconds = SYNC_SECONDS
    scrape_seconds = SCRAPE_SECONDS

    def __init__(self, threshold: float, *, least: int, most: int) -> None:
        self.threshold = threshold
        self.behavior = Behavior(least, most)

    def replicas(self, sight: Sight) -> int:
        """As the last sync of its HPA says."""
        total = sight.scraped.total(waiting_of)
        desired = average_value(0.0 if total is None else total, self.threshold, replicas=sight.staying)
        return self.behavior.replicas(desired, current=sight.wanted, now=sight.now)
