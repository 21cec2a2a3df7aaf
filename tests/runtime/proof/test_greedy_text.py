"""Greedy text with drafts is plain vLLM's, token by token, through chunked prefill and preemption."""

from __future__ import annotations

from typing import Any

import pytest

from tests.runtime.proof.greedy import TIE_NATS, Tokens, continued, mixed_prompts, ties
from tests.runtime.proof.strained import BATCHED_TOKENS, Strained, Work

pytestmark = [pytest.mark.engine, pytest.mark.timeout(1800)]

SEED = 20261126
TOKENS = 128
LONGEST = 640
BATCHES = range(1, 9)
CAMPAIGN_ROUNDS = 6
"""Of one prompt for each row of each batch, so 216; a plain run has one round."""
TIED = 0.1
"""More texts than this part of them never differ by ties."""


def test_text_is_plain_vllms_in_batches_of_each_size_while_prompts_are_chunked_and_requests_preempted(
    strained: Strained, text: Tokens, results: dict[str, Any], *, is_campaign: bool
) -> None:
    rounds = CAMPAIGN_ROUNDS if is_campaign else 1
    prompts = mixed_prompts(text, rounds * sum(BATCHES), longest=LONGEST, seed=SEED)
    expected = continued(strained.plain, prompts, TOKENS, at_once=max(BATCHES))
    before, begun, found = Work.of(strained.verifier), len(strained.steps_since(0)), list[Tokens]()
    for batch in BATCHES:
        found += continued(strained.verifier, prompts[len(found) :][: rounds * batch], TOKENS, at_once=batch)
    work, steps = Work.of(strained.verifier).since(before), strained.steps_since(begun)
    tied = ties(strained.plain, prompts, expected, found)
    assert len(tied) <= TIED * len(prompts)
    assert max(map(len, prompts)) > 2 * BATCHED_TOKENS >= 2 * max(step.tokens for step in steps), "no prompt is chunked"
    assert any(step.context_tokens and step.generation_tokens for step in steps), "no chunk beside requests that decode"
    assert work.preemptions > 0
    assert work.accepted > 0.3 * work.drafted > 0
    assert work.errors == 0
    results["greedy"] = {
        "prompts": len(prompts), "tokens each": TOKENS, "batches": list(BATCHES), "seed": SEED,
        "prompt tokens": [min(map(len, prompts)), max(map(len, prompts))],
        "steps": len(steps), "tokens of a step at most": max(step.tokens for step in steps),
        "preemptions": work.preemptions,
        "tokens drafted": work.drafted, "tokens accepted": work.accepted,
        "equal": len(prompts) - len(tied), "tie below nats": TIE_NATS, "ties": [vars(tie) for tie in tied],
    }  # fmt: skip


def test_a_text_that_differs_by_more_than_a_tie_is_found(strained: Strained, text: Tokens) -> None:
    prompts = mixed_prompts(text, 2, longest=64, seed=SEED)
    expected = continued(strained.plain, prompts, 8, at_once=1)
    second = list(strained.plain.likeliest([*prompts[1], *expected[1][:3]], 2))[1]
    wrong = [expected[0], [*expected[1][:3], second, *expected[1][4:]]]
    with pytest.raises(AssertionError, match=r"prompt 1, token 3: .* nats away"):
        ties(strained.plain, prompts, expected, wrong)
