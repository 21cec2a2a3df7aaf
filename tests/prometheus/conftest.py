"""Fixtures: engines' pages on loopback, and a real Prometheus that scrapes them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.prometheus.exporters import Exporters, serving_pages
from tests.prometheus.pods import MANY, PODS, SPOILT
from tests.prometheus.server import Prometheus, running_prometheus, scraping, targets_of


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
    jobs = [
        scraping("engines", at, *PODS, *SPOILT, "twice"),
        {**scraping("many", at, *MANY), "scrape_interval": "2s", "scrape_timeout": "2s"},
        scraping("again", at, "twice"),
        scraping("elsewhere", at, "x2x4q", namespace="elsewhere"),
        {"job_name": "going", "file_sd_configs": [{"files": [str(folder / "going.json")]}]},
    ]
    with running_prometheus(folder, jobs) as server:
        yield server
