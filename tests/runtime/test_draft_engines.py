"""Our draft engines on the trained draft model: greedy decoding, token by token what Transformers generates."""

import pytest

from deploy.fixtures.pair import ModelPair
from tests.runtime.probes import answers_of

pytestmark = [pytest.mark.engine, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def answers(models: ModelPair) -> dict[str, dict[str, int]]:
    return answers_of("draft_engine_probe.py", str(models.draft))


@pytest.mark.parametrize("engine", ["llama", "transformers", "transformers-graphs"])
def test_a_draft_is_what_the_model_generates(answers: dict[str, dict[str, int]], engine: str) -> None:
    assert answers[engine]["drafts"] == 25
    assert answers[engine]["same"] == answers[engine]["drafts"]
