"""A network that is slow, uneven, stalled or cut costs drafts and never text; drafts come back when it is sound."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tandem_contracts import metrics
from tandem_contracts.launch import DEFAULT_DRAFT_DEADLINE_SECONDS
from tests.runtime.engines import REQUESTS_AT_ONCE
from tests.runtime.proof.greedy import Tokens, continued, mixed_prompts, ties
from tests.runtime.proof.strained import LONGEST_WAIT_SECONDS, Strained, Work
from tests.runtime.relay import Relay

pytestmark = [pytest.mark.engine, pytest.mark.timeout(900)]

SEED = 7
PROMPTS = 16
CAMPAIGN_PROMPTS = 32
TOKENS = 32
LONGEST = 256
LIMIT_SECONDS = 120.0


def delayed(relay: Relay) -> None:
    relay.delay_seconds = 0.02


def beyond_the_deadline(relay: Relay) -> None:
    relay.delay_seconds = DEFAULT_DRAFT_DEADLINE_SECONDS


def jittered(relay: Relay) -> None:
    relay.jitter_seconds = 0.1


def stalled(relay: Relay) -> None:
    relay.stall()


def stalled_for_a_while(relay: Relay) -> None:
    relay.stall()
    threading.Timer(0.5, relay.go_on).start()


def cut(relay: Relay) -> None:
    relay.cut()


def cut_again_and_again(relay: Relay) -> None:
    for number in range(8):
        threading.Timer(0.3 * number, relay.cut).start()


FAULTS: dict[str, Callable[[Relay], None]] = {
    "20 ms each way": delayed,
    "a round trip of twice the deadline": beyond_the_deadline,
    "up to 100 ms each way": jittered,
    "a stall": stalled,
    "a stall of half a second": stalled_for_a_while,
    "a cut": cut,
    "cuts again and again": cut_again_and_again,
}


@pytest.fixture(scope="module")
def prompts(text: Tokens, *, is_campaign: bool) -> list[Tokens]:
    return mixed_prompts(text, CAMPAIGN_PROMPTS if is_campaign else PROMPTS, longest=LONGEST, seed=SEED)


@pytest.fixture(scope="module")
def expected(shared_strained: Strained, prompts: list[Tokens]) -> list[Tokens]:
    return continued(shared_strained.plain, prompts, TOKENS, at_once=REQUESTS_AT_ONCE)


@pytest.mark.parametrize("fault", FAULTS)
def test_text_is_plain_vllms_through_a_fault_and_drafts_come_back_after_it(
    strained: Strained, prompts: list[Tokens], expected: list[Tokens], fault: str, results: dict[str, Any]
) -> None:
    done = threading.Semaphore(0)

    def ask(prompt: Tokens) -> Tokens:
        answer = strained.verifier.completions(prompt, max_tokens=TOKENS, temperature=0)[0]
        done.release()
        return answer

    before, begun = Work.of(strained.verifier), len(strained.steps_since(0))
    failed = strained.verifier.own_metric(metrics.DRAFT_CALLS, 'outcome="failed"')
    with ThreadPoolExecutor(REQUESTS_AT_ONCE // 2) as pool:
        answers = [pool.submit(ask, prompt) for prompt in prompts]
        assert done.acquire(timeout=LIMIT_SECONDS), f"no answer within {LIMIT_SECONDS:.0f} s"
        FAULTS[fault](strained.relay)
        found = [answer.result(timeout=LIMIT_SECONDS) for answer in answers]
    work, steps = Work.of(strained.verifier).since(before), strained.steps_since(begun)
    tied = ties(strained.plain, prompts, expected, found)
    strained.restore()
    strained.wait_until_drafting(prompts[-1])
    again = Work.of(strained.verifier)
    strained.verifier.completions(prompts[-1], max_tokens=TOKENS, temperature=0)
    again = Work.of(strained.verifier).since(again)
    cuts = strained.verifier.own_metric(metrics.DRAFT_CALLS, 'outcome="failed"') - failed
    longest = strained.verifier.own_metric(metrics.DRAFT_LONGEST_WAIT_SECONDS)
    results.setdefault("network", {})[fault] = {
        "prompts": len(prompts), "equal": len(prompts) - len(tied), "ties": [vars(tie) for tie in tied],
        "tokens drafted": work.drafted, "tokens accepted": work.accepted, "streams lost": cuts,
        "wait ms a step": round(1000 * work.wait_seconds / len(steps), 3),
        "longest wait of any step so far, ms": round(1000 * longest, 1),
    }  # fmt: skip
    assert len(tied) <= 1
    assert again.accepted > 0
    assert work.errors == work.invalid == 0
    assert longest <= LONGEST_WAIT_SECONDS
    assert (cuts > 0) is ("cut" in fault)
