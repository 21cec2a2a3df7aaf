"""A verifier with remote drafts says exactly what plain vLLM says, whatever happens to the draft pod."""

import signal
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from tandem_contracts import metrics
from tests.runtime.engines import REQUESTS_AT_ONCE, Accepted
from tests.runtime.serving_pair import CONTINUATION_TOKENS, ServingPair

pytestmark = [pytest.mark.engine, pytest.mark.timeout(900)]

BEFORE_THE_FAULT = 10
CONTEXT_TOKENS = 2048
"""The fixture models' longest context."""


def texts_with_fault(pair: ServingPair, prompts: list[str], fault: signal.Signals) -> list[str]:
    """The verifier's texts for all prompts, the draft's processes getting `fault` once some are done."""
    done = threading.Semaphore(0)

    def ask(prompt: str) -> str:
        text = pair.verifier.greedy(prompt, CONTINUATION_TOKENS)
        done.release()
        return text

    with ThreadPoolExecutor(REQUESTS_AT_ONCE) as pool:
        answers = [pool.submit(ask, prompt) for prompt in prompts]
        for _ in range(BEFORE_THE_FAULT):
            assert done.acquire(timeout=120), f"no answer within 120 s; log: {pair.verifier.log}"
        assert not all(answer.done() for answer in answers), "all answers came before the fault"
        pair.draft.signal_all(fault)
        return [answer.result(timeout=300) for answer in answers]


def test_text_equals_plain_vllms_and_drafts_are_accepted(
    pair: ServingPair, prompts: list[str], plain_texts: list[str]
) -> None:
    before = Accepted.of(pair.verifier)
    texts = pair.verifier.greedy_all(prompts, CONTINUATION_TOKENS)
    after = Accepted.of(pair.verifier)
    assert texts == plain_texts
    assert after.accepted > before.accepted
    assert pair.verifier.own_metric(metrics.DRAFT_ROWS, 'outcome="drafted"') > 0
    assert pair.verifier.own_metric(metrics.DRAFT_ROWS_INVALID) == 0


def test_text_stays_equal_while_the_draft_pod_is_killed_and_drafts_return_with_another(
    pair: ServingPair, prompts: list[str], plain_texts: list[str]
) -> None:
    failed_before = pair.verifier.own_metric(metrics.DRAFT_CALLS, 'outcome="failed"')
    assert texts_with_fault(pair, prompts, signal.SIGKILL) == plain_texts
    assert pair.draft.process.wait(timeout=60) == -signal.SIGKILL
    pair.decode_until(
        lambda: pair.verifier.own_metric(metrics.DRAFT_CALLS, 'outcome="failed"') > failed_before,
        prompts[0],
        "the lost stream to be counted",
    )
    pair.restart_draft()
    pair.wait_until_drafting(prompts[0])


def test_text_stays_equal_while_the_draft_pod_is_a_black_hole_and_drafts_return_after_it(
    pair: ServingPair, prompts: list[str], plain_texts: list[str]
) -> None:
    missed_before = pair.verifier.own_metric(metrics.DRAFT_DEADLINES_MISSED)
    try:
        assert texts_with_fault(pair, prompts, signal.SIGSTOP) == plain_texts
        missed = pair.verifier.own_metric(metrics.DRAFT_DEADLINES_MISSED)
        assert missed > missed_before
        assert pair.verifier.greedy_all(prompts, CONTINUATION_TOKENS) == plain_texts
        # Once it is known to be silent, no step waits for it.
        assert pair.verifier.own_metric(metrics.DRAFT_DEADLINES_MISSED) == missed
    finally:
        pair.draft.signal_all(signal.SIGCONT)
    pair.wait_until_drafting(prompts[0])


def test_a_request_may_run_into_the_models_length_limit(pair: ServingPair, prompts: list[str]) -> None:
    context = pair.plain.post("/tokenize", {"prompt": "".join(prompts)})["tokens"]
    assert isinstance(context, list)
    prompt = context[: CONTEXT_TOKENS - CONTINUATION_TOKENS]
    question = {"prompt": prompt, "max_tokens": CONTINUATION_TOKENS, "temperature": 0, "ignore_eos": True}
    texts = [
        engine.post("/v1/completions", question)["choices"][0]["text"]  # type: ignore[index]
        for engine in (pair.plain, pair.verifier)
    ]
    assert texts[0] == texts[1]


def test_a_row_near_the_length_limit_leaves_the_drafts_of_others_as_they_are(
    pair: ServingPair, prompts: list[str]
) -> None:
    """vLLM would stop asking for drafts, and verify a full draft of zeros for every row instead."""
    context = pair.plain.post("/tokenize", {"prompt": "".join(prompts)})["tokens"]
    assert isinstance(context, list)
    pair.wait_until_drafting(prompts[0])
    before, proposed = Accepted.of(pair.verifier), pair.verifier.own_metric(metrics.DRAFT_ROWS, 'outcome="drafted"')

    def ask(prompt: list[int], tokens: int) -> None:
        pair.verifier.post(
            "/v1/completions", {"prompt": prompt, "max_tokens": tokens, "temperature": 0, "ignore_eos": True}
        )

    with ThreadPoolExecutor(REQUESTS_AT_ONCE) as pool:
        short = pool.submit(ask, context[:40], 200)
        while not short.done():
            ask(context[: CONTEXT_TOKENS - 8], 8)
        short.result()
    verified = Accepted.of(pair.verifier).drafted - before.drafted
    drafted = pair.verifier.own_metric(metrics.DRAFT_ROWS, 'outcome="drafted"') - proposed
    assert 0 < verified <= drafted * pair.verifier.options.max_depth


def test_a_sampled_request_with_its_end_in_the_batch_of_others_is_served(pair: ServingPair, prompts: list[str]) -> None:
    def ask(number: int) -> str:
        sampled = {"max_tokens": 1 + number, "temperature": 0.9, "logprobs": 1}
        answer = pair.verifier.post("/v1/completions", {"prompt": prompts[number], **sampled})
        return str(answer["choices"][0]["finish_reason"])  # type: ignore[index]

    with ThreadPoolExecutor(REQUESTS_AT_ONCE) as pool:
        assert set(pool.map(ask, range(20))) <= {"length", "stop"}
    assert pair.verifier.own_metric(metrics.DRAFT_ERRORS) == 0


def test_a_chat_completion_uses_the_models_template(pair: ServingPair) -> None:
    question = {"messages": [{"role": "user", "content": "def read_file(path):"}], "max_tokens": 16}
    answer = pair.verifier.post("/v1/chat/completions", question)
    assert answer["choices"][0]["message"]["content"]  # type: ignore[index]
