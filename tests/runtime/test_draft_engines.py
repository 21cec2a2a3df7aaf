"""Our draft engines on the trained draft model: greedy decoding, token by token what Transformers generates."""

import json
import os
import subprocess
from pathlib import Path

import pytest

from deploy.fixtures.environment import engine_environment
from deploy.fixtures.pair import ModelPair
from deploy.local.layout import REPOSITORY

pytestmark = [pytest.mark.engine, pytest.mark.timeout(900)]

PROBE = Path(__file__).with_name("draft_engine_probe.py")
PROBE_LIMIT_SECONDS = 300


@pytest.fixture(scope="module")
def answers(models: ModelPair) -> dict[str, dict[str, int]]:
    finished = subprocess.run(
        [str(engine_environment()), str(PROBE), str(models.draft)],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY / "runtime")},
        capture_output=True,
        text=True,
        timeout=PROBE_LIMIT_SECONDS,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
    return dict(json.loads(finished.stdout.splitlines()[-1]))


@pytest.mark.parametrize("engine", ["llama", "transformers"])
def test_a_draft_is_what_the_model_generates(answers: dict[str, dict[str, int]], engine: str) -> None:
    assert answers[engine]["drafts"] == 25
    assert answers[engine]["same"] == answers[engine]["drafts"]
