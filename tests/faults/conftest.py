"""Fixtures of the fault tests, and the results of their campaign."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from deploy.local.cluster import Cluster
from deploy.place import Place
from tests.cluster.world import make_place
from tests.faults.case import Case, open_case
from tests.results import commit, write

NODES = {"nvidia-h100-80gb": 4, "nvidia-l40s-48gb": 2}
SEED = 20261125
MARKER = "covers(id, ...): the faults that a test injects, by their numbers in the table of results"
_RESULTS = pytest.StashKey[dict[str, Any]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the seed."""
    parser.addoption("--fault-seed", type=int, default=SEED, help="draws the crash plans of a run without --campaign")


def pytest_configure(config: pytest.Config) -> None:
    """Make the marker known, and a place for the results."""
    config.addinivalue_line("markers", MARKER)
    begun = datetime.now(UTC).isoformat(timespec="seconds")
    config.stash[_RESULTS] = {"begun": begun, "commit": commit(), "plans": {}, "cases": []}


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Note how each case ended."""
    report = yield
    marker = item.get_closest_marker("covers")
    if marker is not None and (report.when == "call" or report.failed):
        outcome = {"covers": marker.args, "case": item.name, "outcome": report.outcome, "seconds": report.duration}
        item.config.stash[_RESULTS]["cases"].append({**outcome, "seconds": round(report.duration, 1)})
    return report


def pytest_sessionfinish(session: pytest.Session) -> None:
    """The results of a campaign, as JSON."""
    if session.config.getoption("--campaign", default=False) and not session.config.option.collectonly:
        found: dict[str, Any] = session.config.stash[_RESULTS]
        results = {"seed": session.config.getoption("--fault-seed"), **found}
        write("faults.json", results)


@pytest.fixture(scope="session")
def plan_results(pytestconfig: pytest.Config) -> dict[str, Any]:
    """Where crash plans leave their verdicts, by workload."""
    found: dict[str, Any] = pytestconfig.stash[_RESULTS]["plans"]
    return found


@pytest.fixture(scope="session")
def place(cluster: Cluster) -> Place:
    """The local cluster with our CRDs and room for several cases at once."""
    return make_place(cluster, nodes=NODES)


@pytest.fixture
def case(cluster: Cluster, place: Place, tmp_path: Path) -> Iterator[Case]:
    """A namespace with the chart, behind a proxy, no operator started yet."""
    with open_case(cluster, place, folder=tmp_path) as made:
        yield made


@pytest.fixture
def served(case: Case) -> Case:
    """The same with an operator, and a deployment that is Ready and whose models are known."""
    case.start()
    case.apply()
    case.settle(lambda: case.says("Ready") and case.has_inspected())
    return case
