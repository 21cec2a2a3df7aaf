"""The vLLM adapter by itself: what must hold on every rank and whatever fails."""

import json
import os
import subprocess
from pathlib import Path

import pytest

from deploy.fixtures.environment import engine_environment
from deploy.local.layout import REPOSITORY

pytestmark = [pytest.mark.engine, pytest.mark.timeout(900)]

PROBE = Path(__file__).with_name("adapter_probe.py")
PROBE_LIMIT_SECONDS = 180


@pytest.fixture(scope="module")
def answers() -> dict[str, object]:
    finished = subprocess.run(
        [str(engine_environment()), str(PROBE)],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY / "runtime")},
        capture_output=True,
        text=True,
        timeout=PROBE_LIMIT_SECONDS,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
    return dict(json.loads(finished.stdout.splitlines()[-1]))


def test_no_placeholder_reaches_vllms_worker(answers: dict[str, object]) -> None:
    assert answers["placeholders"] == {"padded": [0, 0], "mixed": [5, 0], "drafted": [7, 8], "empty": []}


def test_a_rank_that_the_scheduler_does_not_listen_to_asks_for_nothing(answers: dict[str, object]) -> None:
    assert answers["another_rank"] == [[], []]


def test_a_failure_inside_the_proposer_costs_the_drafts_and_is_counted(answers: dict[str, object]) -> None:
    assert answers["failing"] == [[], []]
    assert answers["errors_counted"] == 1
