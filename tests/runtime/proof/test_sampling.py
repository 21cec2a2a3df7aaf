"""Sampled tokens follow the distribution of plain sampling with any drafts: at the sampler, and over HTTP."""

from __future__ import annotations

import itertools
import math
import random
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from tandem_runtime.draft_server.engines import Ask, Key
from tandem_runtime.draft_server.server import DraftServer
from tests.runtime.engines import LOOPBACK
from tests.runtime.probes import answers_of
from tests.runtime.proof.chi_square import SIGNIFICANCE, Verdict, compared
from tests.runtime.proof.greedy import Tokens
from tests.runtime.proof.strained import DEPTH, Strained, Work

pytestmark = [pytest.mark.engine, pytest.mark.timeout(1800)]

SAMPLER_DRAWS = 6_000
"""In each of ten ways of drafting, so 60,000 in all."""
CAMPAIGN_SAMPLER_DRAWS = 20_000
SAMPLER_LIMIT_SECONDS = 1500.0
FAITHFUL = (
    "plain", "honest", "random", "adversarial", "by the past", "honest, narrow sampling", "random, top-k",
    "placeholders", "random placeholders",
)  # fmt: skip

SEED = 9
DRAWS = 3_000
CAMPAIGN_DRAWS = 6_000
SAMPLES = 16
"""Of one request."""
LENGTH = 5
"""Tokens of a sample; the first two of a request have no drafts yet."""
TOP_K = 3
TEMPERATURE = 1.5
PROMPT_TOKENS = 40
APART_NATS = 1e-3
"""Between the least likely token that may be sampled and the next one, so that rounding does not decide."""
PLANTED = 5
"""One of so many last tokens is changed, to show that it would be found: 4 % of all."""

Path = tuple[int, ...]
"""What was sampled so far."""


def summary(verdict: Verdict) -> dict[str, float]:
    return {**vars(verdict), "p value": verdict.p_value}


@pytest.fixture(scope="module")
def at_sampler(results: dict[str, Any], *, is_campaign: bool) -> dict[str, Any]:
    draws = CAMPAIGN_SAMPLER_DRAWS if is_campaign else SAMPLER_DRAWS
    answers = answers_of("proof/sampler_probe.py", str(draws), limit_seconds=SAMPLER_LIMIT_SECONDS)
    results["sampler"] = {
        name: {**summary(verdict_of(found)), "drafted": found["drafted"], "accepted": found["accepted"]}
        for name, found in answers.items()
    }
    return answers


def verdict_of(found: dict[str, Any]) -> Verdict:
    return compared(found["counts"], found["probabilities"])


@pytest.mark.parametrize("drafts", FAITHFUL)
def test_the_sampler_draws_from_the_models_distribution(at_sampler: dict[str, Any], drafts: str) -> None:
    found = at_sampler[drafts]
    assert verdict_of(found).p_value >= SIGNIFICANCE
    assert found["errors"] == 0
    assert drafts == "plain" or found["drafted"] > verdict_of(found).draws


def test_honest_drafts_are_accepted_and_adversarial_ones_are_not(at_sampler: dict[str, Any]) -> None:
    share = {name: found["accepted"] / max(found["drafted"], 1) for name, found in at_sampler.items()}
    assert share["honest"] > 2 * share["random"] > 4 * share["adversarial"]


def test_a_bias_of_two_percent_of_the_rejected_drafts_is_found(at_sampler: dict[str, Any]) -> None:
    assert verdict_of(at_sampler["planted bias"]).p_value < SIGNIFICANCE


@dataclass(frozen=True)
class Tree:
    """What plain vLLM says may follow a prompt, and how likely it is, by what was sampled so far."""

    prompt: Tokens
    shares: dict[Path, dict[int, float]]
    """Likeliest token first."""

    def verdict(self, samples: Iterable[Path]) -> Verdict:
        """Of every token of the samples, each after those before it."""
        counts = {path: Counter[int]() for path in self.shares}
        strays = 0
        for sample in samples:
            for at, token in enumerate(sample):
                if token not in self.shares[sample[:at]]:
                    strays += 1
                    break
                counts[sample[:at]][token] += 1
        assert not strays, f"{strays} samples have tokens that plain vLLM cannot sample"
        paths = sorted(self.shares)
        return compared(
            [[counts[path][token] for token in self.shares[path]] for path in paths],
            [list(self.shares[path].values()) for path in paths],
        )

    def verdict_by_rank(self, samples: Sequence[Path]) -> Verdict:
        """Of whether the tokens at each place are the likeliest, the second or the third as often as they should be.

        It sees a small shift in one direction that `verdict` spreads over many cells. The variance of such sums is
        below that of draws from their mean, so that it errs to the safe side.
        """
        counts, shares = ([[0.0] * TOP_K for _ in range(LENGTH)] for _ in range(2))
        for sample in samples:
            for at, token in enumerate(sample):
                likely = self.shares[sample[:at]]
                counts[at][list(likely).index(token)] += 1
                for rank, share in enumerate(likely.values()):
                    shares[at][rank] += share / len(samples)
        return compared(counts, shares)


@pytest.fixture(scope="module")
def tree(shared_strained: Strained, text: Tokens) -> Tree:
    chance = random.Random(SEED)
    for _ in range(20):
        begin = chance.randrange(len(text) - PROMPT_TOKENS)
        prompt = text[begin : begin + PROMPT_TOKENS]
        if (shares := shares_after(shared_strained, prompt)) is not None:
            return Tree(prompt, shares)
    raise AssertionError("no prompt whose likeliest tokens are apart")


def shares_after(strained: Strained, prompt: Tokens) -> dict[Path, dict[int, float]] | None:
    """Of each path; None where tokens are too near to each other to say which may be sampled."""
    found: dict[Path, dict[int, float]] = {}
    level: list[Path] = [()]
    with ThreadPoolExecutor(8) as pool:
        for _ in range(LENGTH):
            likely = pool.map(lambda path: strained.plain.likeliest([*prompt, *path], TOP_K + 1), level)
            for path, nats in zip(level, likely, strict=True):
                *kept, last = nats.items()
                if kept[-1][1] - last[1] < APART_NATS:
                    return None
                weights = {token: math.exp(value / TEMPERATURE) for token, value in kept}
                found[path] = {token: weight / sum(weights.values()) for token, weight in weights.items()}
            level = [(*path, token) for path in level for token in found[path]]
    return found


class TreeEngine:
    """A draft engine that chooses among what may be sampled."""

    name, tokenizer_hash, vocabulary, context_limit = "tree", "", 4096, 2048

    def __init__(self, tree: Tree, choose: Callable[[list[int]], int]) -> None:
        self._tree, self._choose = tree, choose

    def draft(self, asks: Sequence[Ask], *, is_due: Callable[[], bool]) -> list[list[int]]:
        return [self._draft(tuple(ask.tokens[len(self._tree.prompt) :]), ask.depth) for ask in asks]

    def _draft(self, path: Path, depth: int) -> list[int]:
        drafted: list[int] = []
        while len(drafted) < depth:
            likely = self._tree.shares.get((*path, *drafted))
            drafted.append(self._choose(list(likely)) if likely else 0)
        return drafted

    def forget(self, keys: Iterable[Key]) -> None:
        """Nothing is kept."""


@contextmanager
def honest(_tree: Tree, strained: Strained) -> Iterator[str]:
    yield strained.honest


@contextmanager
def serving(tree: Tree, choose: Callable[[list[int]], int]) -> Iterator[str]:
    server = DraftServer(TreeEngine(tree, choose), name="tree", max_depth=DEPTH, max_sessions=2 * SAMPLES)
    yield f"{LOOPBACK}:{server.start(f'{LOOPBACK}:0')}"
    server.stop(grace_seconds=0)


DRAFTS: dict[str, Callable[[Tree, Strained], AbstractContextManager[str]]] = {
    "honest": honest,
    "random": lambda tree, _: serving(tree, random.Random(SEED).choice),
    "adversarial": lambda tree, _: serving(tree, lambda likely: likely[-1]),
}


@pytest.mark.parametrize("drafts", DRAFTS)
def test_what_is_sampled_over_http_follows_plain_vllms_distribution(
    strained: Strained, tree: Tree, drafts: str, results: dict[str, Any], *, is_campaign: bool
) -> None:
    requests = -(-(CAMPAIGN_DRAWS if is_campaign else DRAWS) // (SAMPLES * LENGTH))
    with DRAFTS[drafts](tree, strained) as address:
        if address != strained.honest:
            strained.connect(address)
            strained.wait_until_drafting(tree.prompt)
        before = Work.of(strained.verifier)
        sampled = [
            strained.verifier.completions(
                tree.prompt, max_tokens=LENGTH, n=SAMPLES, temperature=TEMPERATURE, top_k=TOP_K, seed=1000 * number
            )
            for number in range(requests)
        ]
        work = Work.of(strained.verifier).since(before)
        strained.restore()
    samples = [tuple(sample) for sample in itertools.chain.from_iterable(sampled)]
    verdict, by_rank = tree.verdict(samples), tree.verdict_by_rank(samples)
    biased = [
        (*sample[:-1], list(tree.shares[sample[:-1]])[-1]) if number % PLANTED == 0 else sample
        for number, sample in enumerate(samples)
    ]
    results.setdefault("end to end", {})[drafts] = {
        **summary(verdict), "by rank": summary(by_rank), "drafted": work.drafted, "accepted": work.accepted,
        "top k": TOP_K, "temperature": TEMPERATURE,
        "p value with a planted bias": tree.verdict_by_rank(biased).p_value,
    }  # fmt: skip
    assert verdict.draws >= DRAWS
    assert work.drafted >= 0.2 * verdict.draws
    assert work.errors == 0
    assert min(verdict.p_value, by_rank.p_value) >= SIGNIFICANCE
    assert tree.verdict_by_rank(biased).p_value < SIGNIFICANCE
