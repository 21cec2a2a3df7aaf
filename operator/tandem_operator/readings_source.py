"""Who reads engines' metrics for scaling: their pods' own pages, or Prometheus."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from tandem_operator.config import OperatorConfig
from tandem_operator.engine_readings import EngineReadings
from tandem_operator.prometheus_readings import PrometheusReadings
from tandem_operator.scaling.reading import Reading
from tandem_operator.store import Key


class Readings(Protocol):
    """What both can do."""

    @property
    def interval_seconds(self) -> float:
        """In which each engine is read anew."""

    def latest(self, key: Key, addresses: Mapping[str, str]) -> dict[str, Reading]:
        """The newest of a deployment's pods, by their names."""

    def trouble(self, key: Key) -> str:
        """Why there is nothing new, where that is known."""

    def forget(self, key: Key) -> None:
        """Nobody asks for the deployment's any more."""

    async def close(self) -> None:
        """End all connections."""


def readings_by(config: OperatorConfig) -> Readings:
    """As the administrator says: from Prometheus where there is an address, else from the pods."""
    return PrometheusReadings(config.prometheus) if config.prometheus.address else EngineReadings()
