"""A draft server that breaks the protocol in any way costs no text, no engine, and no step more than its deadline."""

from __future__ import annotations

import statistics
from typing import Any

import pytest

from tandem_contracts import metrics
from tandem_contracts.launch import DEFAULT_DRAFT_DEADLINE_SECONDS
from tests.runtime.proof.greedy import Tokens, continued, mixed_prompts, ties
from tests.runtime.proof.hostile import BEHAVIOURS, HostileServer
from tests.runtime.proof.strained import LONGEST_WAIT_SECONDS, Strained, Work

pytestmark = [pytest.mark.engine, pytest.mark.timeout(900)]

SEED = 6
PROMPTS = 8
CAMPAIGN_PROMPTS = 16
TOKENS = 32
AT_ONCE = 4
LONGEST = 256
UNHEARD = {"silence", "draining at once", "a flood"}
"""Those that are not asked for anything, or are left before."""


@pytest.fixture(scope="module")
def prompts(text: Tokens, *, is_campaign: bool) -> list[Tokens]:
    return mixed_prompts(text, CAMPAIGN_PROMPTS if is_campaign else PROMPTS, longest=LONGEST, seed=SEED)


@pytest.fixture(scope="module")
def expected(shared_strained: Strained, prompts: list[Tokens]) -> list[Tokens]:
    return continued(shared_strained.plain, prompts, TOKENS, at_once=AT_ONCE)


@pytest.mark.parametrize("behaviour", BEHAVIOURS)
def test_text_is_plain_vllms_and_no_step_takes_longer_by_more_than_the_deadline(
    strained: Strained, prompts: list[Tokens], expected: list[Tokens], behaviour: str, results: dict[str, Any]
) -> None:
    with HostileServer(BEHAVIOURS[behaviour]) as server:
        strained.connect(server.address)
        server.wait_until_met()
        if behaviour not in UNHEARD:  # the change of servers was a lost stream, after which there is a pause
            strained.decode_until(lambda: server.asked > 0, "question", prompts[0])
        before, begun = Work.of(strained.verifier), len(strained.steps_since(0))
        found = continued(strained.verifier, prompts, TOKENS, at_once=AT_ONCE)
        work, steps = Work.of(strained.verifier).since(before), strained.steps_since(begun)
    tied = ties(strained.plain, prompts, expected, found)
    assert len(tied) <= 1
    assert work.errors == 0
    longest = strained.verifier.own_metric(metrics.DRAFT_LONGEST_WAIT_SECONDS)
    assert longest <= LONGEST_WAIT_SECONDS
    assert work.wait_seconds <= DEFAULT_DRAFT_DEADLINE_SECONDS * len(steps)
    results.setdefault("hostile", {})[behaviour] = {
        "prompts": len(prompts), "equal": len(prompts) - len(tied), "ties": [vars(tie) for tie in tied],
        "rows asked": server.asked, "tokens drafted": work.drafted, "tokens accepted": work.accepted,
        "answers refused": work.invalid, "wait ms a step": round(1000 * work.wait_seconds / len(steps), 3),
        "longest wait of any step so far, ms": round(1000 * longest, 1),
        "median ms of a step": statistics.median(step.milliseconds for step in steps),
    }  # fmt: skip
