"""The pods that the tests' Prometheus scrapes, and what an operator reads of them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from tandem_operator.config import PrometheusConfig
from tandem_operator.prometheus_readings import PrometheusReadings
from tandem_operator.scaling.reading import Reading
from tandem_operator.store import Key

KEY = Key("chat", "pair")
PODS = ("x2x4q", "x2x4q-2", "dotted.name", "dotted-name", "restarted", "silent", "stays", "counting")
SPOILT = {"not-a-number": "NaN", "infinite": "+Inf", "negative": "-3", "huge": "1e308"}
"""What these pods say that they have running."""
MANY = tuple(f"many-{i}" for i in range(80))


def read(config: PrometheusConfig, pods: Sequence[str]) -> tuple[dict[str, Reading], str]:
    """What an operator that has just started reads of these pods, and what it tells of trouble."""

    async def main() -> tuple[dict[str, Reading], str]:
        readings = PrometheusReadings(config)
        addresses = dict.fromkeys(pods, "10.0.0.7")
        readings.latest(KEY, addresses)
        await readings.settle(KEY)
        found = readings.latest(KEY, addresses), readings.trouble(KEY)
        await readings.close()
        return found

    return asyncio.run(main())
