"""Who reads engines' metrics for scaling: the operator at their pods, or Prometheus where those would be too many."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from tandem_operator.config import OperatorConfig
from tandem_operator.engine_readings import EngineReadings
from tandem_operator.prometheus_readings import PrometheusReadings
from tandem_operator.scaling.reading import Reading
from tandem_operator.store import Key


class Readings(Protocol):
    """What both can do."""

    def interval_seconds(self, key: Key) -> float:
        """In which each engine of a deployment is read anew."""

    def latest(self, key: Key, addresses: Mapping[str, str]) -> dict[str, Reading]:
        """The newest of a deployment's pods, by their names."""

    def trouble(self, key: Key) -> str:
        """Why there is nothing new, where that is known."""

    def forget(self, key: Key) -> None:
        """Nobody asks for the deployment's any more."""

    async def close(self) -> None:
        """End all connections."""


def readings_by(config: OperatorConfig) -> Readings:
    """As the administrator says: without an address of Prometheus all are read at their pods."""
    if not config.prometheus.address:
        return EngineReadings()
    return SharedReadings(
        EngineReadings(), PrometheusReadings(config.prometheus), most_pods=config.prometheus.above_pods
    )


LAG_SECONDS = 300.0
"""Prometheus tells of no sample that is older: of a reading by so much older than another the clock was set back."""


@dataclass
class _Deployment:
    source: Readings
    pods: int = 0
    newest: dict[str, Reading] = field(default_factory=dict)


class SharedReadings:
    """Reads deployments at their pods while those are at most `most_pods` in all, and the others from Prometheus.

    One that changes sides keeps the newest reading of each pod: Prometheus tells of some seconds ago, and what was
    counted since then would be counted twice.
    """

    def __init__(self, at_pods: Readings, prometheus: Readings, *, most_pods: int) -> None:
        self._at_pods, self._prometheus, self._most_pods = at_pods, prometheus, most_pods
        self._deployments: dict[Key, _Deployment] = {}

    def interval_seconds(self, key: Key) -> float:
        """That of whoever reads it."""
        there = self._deployments.get(key)
        return (there.source if there else self._at_pods).interval_seconds(key)

    def latest(self, key: Key, addresses: Mapping[str, str]) -> dict[str, Reading]:
        """Of the pods at these addresses, by name; what is due is read meanwhile."""
        there = self._deployments.setdefault(key, _Deployment(self._at_pods))
        there.pods = len(addresses)
        source = self._source_of(there)
        if source is not there.source:
            there.source.forget(key)
            there.source = source
        found = source.latest(key, addresses)
        kept = {name: each for name, each in there.newest.items() if name in addresses}
        older = [name for name, each in found.items() if name in kept and 0 < kept[name].at - each.at < LAG_SECONDS]
        there.newest = {**kept, **found, **{name: kept[name] for name in older}}
        return dict(there.newest)

    def trouble(self, key: Key) -> str:
        """What whoever reads it says."""
        there = self._deployments.get(key)
        return there.source.trouble(key) if there else ""

    def forget(self, key: Key) -> None:
        """Nobody asks for the deployment's any more."""
        there = self._deployments.pop(key, None)
        if there:
            there.source.forget(key)

    async def close(self) -> None:
        """Of both."""
        await self._at_pods.close()
        await self._prometheus.close()

    def _source_of(self, deployment: _Deployment) -> Readings:
        others = [each for each in self._deployments.values() if each is not deployment]
        at_pods = deployment.pods + sum(each.pods for each in others if each.source is self._at_pods)
        return self._at_pods if at_pods <= self._most_pods else self._prometheus
