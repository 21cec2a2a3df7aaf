"""The vLLM adapter by itself: what must hold on every rank and whatever fails."""

import pytest

from tests.runtime.probes import answers_of

pytestmark = [pytest.mark.engine, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def answers() -> dict[str, object]:
    return answers_of("adapter_probe.py")


def test_no_placeholder_reaches_vllms_worker(answers: dict[str, object]) -> None:
    assert answers["placeholders"] == {"padded": [0, 0], "mixed": [5, 0], "drafted": [7, 8], "empty": []}


def test_each_draft_position_is_sampled_as_its_request_asks(answers: dict[str, object]) -> None:
    assert answers["expanded"] == {"temperatures": [0.5, 0.5, 1.0, 1.0, 1.0], "top_k": [7, 7, 3, 3, 3]}


def test_a_request_with_top_k_may_be_in_a_step_without_drafts(answers: dict[str, object]) -> None:
    assert answers["without_drafts"] == [0, 8]


def test_a_rank_that_the_scheduler_does_not_listen_to_asks_for_nothing(answers: dict[str, object]) -> None:
    assert answers["another_rank"] == [[], []]


def test_the_pinned_vllm_is_as_the_adapter_takes_it_to_be(answers: dict[str, object]) -> None:
    relied_on = answers["relied_on"]
    assert isinstance(relied_on, dict)
    assert [what for what, holds in relied_on.items() if not holds] == []


def test_a_failure_inside_the_proposer_costs_the_drafts_and_is_counted(answers: dict[str, object]) -> None:
    assert answers["failing"] == [[], []]
    assert answers["errors_counted"] == 1
