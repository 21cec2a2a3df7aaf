"""Fixtures: engines' pages on loopback, and a real Prometheus that scrapes them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tandem_operator.config import PrometheusConfig
from tandem_operator.prometheus_readings import PrometheusReadings
from tandem_operator.scaling.reading import Reading
from tandem_operator.store import Key
from tests.prometheus.exporters import Exporters, serving_pages
from tests.prometheus.server import Prometheus, scraping, start_prometheus, targets_of

KEY = Key("chat", "pair")
PODS = ("x2x4q", "x2x4q-2", "dotted.name", "dotted-name", "restarted", "silent", "stays", "counting")
SPOILT = {"not-a-number": "NaN", "infinite": "+Inf", "negative": "-3", "huge": "1e308"}
"""What these pods say that they have running."""
MANY = tuple(f"many-{i}" for i in range(60))


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


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where Prometheus runs, and lists of targets are."""
    return tmp_path_factory.mktemp("prometheus")


@pytest.fixture(scope="session")
def exporters() -> Iterator[Exporters]:
    with serving_pages() as pages:
        yield pages


@pytest.fixture(scope="session")
def prometheus(folder: Path, exporters: Exporters) -> Iterator[Prometheus]:
    """Scraping all pods of these tests, which have no page before a test gives them one."""
    at = exporters.address
    (folder / "going.json").write_text(json.dumps(targets_of(at, "gone")))
    server = start_prometheus(
        folder,
        [
            scraping("engines", at, *PODS, *SPOILT, "twice"),
            {**scraping("many", at, *MANY), "scrape_interval": "2s", "scrape_timeout": "2s"},
            scraping("again", at, "twice"),
            scraping("elsewhere", at, "x2x4q", namespace="elsewhere"),
            {"job_name": "going", "file_sd_configs": [{"files": [str(folder / "going.json")]}]},
        ],
    )
    yield server
    server.end()
