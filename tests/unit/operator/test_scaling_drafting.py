"""What verifiers and draft servers tell of drafts: by pages that they have written themselves, and spoilt ones."""

from __future__ import annotations

from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from tandem_contracts import metrics
from tandem_operator.scaling.drafting import Proposer, Server, said_in, work_between
from tandem_runtime.draft_server.figures import Figures
from tandem_runtime.drafting.counters import Counted, Counters
from tandem_runtime.launch.exporter import ProposerCollector


def server(at: float, tokens: float, busy_seconds: float) -> Server:
    return Server(at, tokens, busy_seconds)


@pytest.mark.parametrize(
    ("before", "after", "work"),
    [
        (server(10, 100, 1), server(15, 1100, 2), (200.0, 0.2)),
        (server(10, 100, 1), server(15, 100, 1), (0.0, 0.0)),
        (server(10, 100, 1), server(10, 100, 1), None),
        (server(10, 100, 1), server(15, 3, 0.1), None),
        (None, server(15, 100, 1), None),
        (Proposer(10, *[0.0] * 7), server(15, 100, 1), None),
    ],
    ids=["busy", "idle", "nothing new", "it started anew", "seen first", "no draft pod"],
)
def test_what_a_draft_pod_does_is_what_it_has_given_between_two_readings(
    before: Proposer | Server | None, after: Server, work: tuple[float, float] | None
) -> None:
    assert work_between(before, after) == work


@pytest.fixture
def of_verifier(tmp_path: Path) -> str:
    counters, registry = Counters(tmp_path / "counters"), CollectorRegistry()
    counters.add(Counted.ROWS_DRAFTED, 90)
    counters.add(Counted.ROWS_EMPTY, 10)
    counters.add(Counted.CALLS_ANSWERED, 30)
    counters.add(Counted.CALLS_FAILED, 7)
    counters.add(Counted.DEADLINES_MISSED, 3)
    counters.set(Counted.DEPTH, 4)
    counters.set(Counted.PODS, 2)
    counters.set(Counted.BREAKERS_OPEN, 1)
    registry.register(ProposerCollector(counters))
    return generate_latest(registry).decode()


@pytest.fixture
def of_server() -> str:
    registry = CollectorRegistry()
    figures = Figures(registry)
    figures.drafted(12, queue_seconds=0.1, compute_seconds=0.2)
    figures.drafted_ahead(5)
    figures.worked(0.25)
    return generate_latest(registry).decode()


def test_a_verifier_tells_of_its_rows_its_depth_and_the_pods_that_it_may_ask(of_verifier: str) -> None:
    said = said_in(of_verifier, at=5.0)
    assert said == Proposer(5.0, 90, 10, answered=30, missed=3, depth=4, pods=2, left_alone=1)
    assert isinstance(said, Proposer)
    assert (said.rows, said.may_draft) == (100, True)


def test_a_draft_server_tells_of_what_was_asked_and_how_long_that_took(of_server: str) -> None:
    assert said_in(of_server, at=5.0) == Server(5.0, tokens=12, busy_seconds=0.25)


@pytest.mark.parametrize("value", ["NaN", "+Inf", "-1", "1e300", "many"])
@pytest.mark.parametrize("series", [metrics.DRAFT_DEPTH, metrics.DRAFT_SERVER_BUSY_SECONDS])
def test_what_is_no_number_is_nothing(of_verifier: str, of_server: str, series: str, value: str) -> None:
    page = of_verifier if series in of_verifier else of_server
    lines = [f"{series} {value}" if line.startswith(f"{series} ") else line for line in page.splitlines()]
    assert f"{series} {value}" in lines
    assert said_in("\n".join(lines), at=5.0) is None


@pytest.mark.parametrize("page", ["", "hello", "tandem_draft_rows_total{", "tandem_engine_ready 1\n"])
def test_a_page_of_something_else_is_nothing(page: str) -> None:
    assert said_in(page, at=5.0) is None


def test_a_server_of_a_version_that_does_not_count_it_says_nothing(of_server: str) -> None:
    lines = [line for line in of_server.splitlines() if metrics.DRAFT_SERVER_BUSY_SECONDS not in line]
    assert said_in("\n".join(lines), at=5.0) is None
