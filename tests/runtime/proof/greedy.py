"""Prompts of mixed lengths, and whether greedy continuations of them are plain vLLM's.

A pass over several tokens adds numbers up in another order than one over a single token, so two tokens that are as
likely as each other up to rounding may change places. Such a tie is told from an error by what plain vLLM itself says
of both tokens at the first place where the texts differ.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from tests.runtime.engines import Engine

TIE_NATS = 1e-3
"""Log-probabilities that differ by less are a tie; the wrong one of two tokens has this little to choose between in
about one of a thousand places."""
LIKELIEST = 20
Tokens = list[int]


@dataclass(frozen=True)
class Tie:
    """Where two texts part: which prompt, after how many tokens, and how far the two tokens lie apart."""

    prompt: int
    at: int
    nats: float


def mixed_prompts(text: Sequence[int], count: int, *, longest: int, seed: int) -> list[Tokens]:
    """Pieces of a text: half of them short, half of any length up to `longest`."""
    chance = random.Random(seed)
    found = []
    for number in range(count):
        length = chance.randint(1, longest if number % 2 else longest // 16)
        begin = chance.randrange(len(text) - length)
        found.append(list(text[begin : begin + length]))
    return found


def continued(engine: Engine, prompts: Sequence[Tokens], tokens: int, *, at_once: int) -> list[Tokens]:
    """The greedy continuation of each prompt, so many at a time."""
    with ThreadPoolExecutor(at_once) as pool:
        return list(pool.map(lambda prompt: engine.completions(prompt, max_tokens=tokens, temperature=0)[0], prompts))


def ties(plain: Engine, prompts: Sequence[Tokens], expected: Sequence[Tokens], found: Sequence[Tokens]) -> list[Tie]:
    """Where texts differ by ties. Fails where one differs by anything else."""
    return [
        _tie(plain, number, prompt, expected=one, found=other)
        for number, (prompt, one, other) in enumerate(zip(prompts, expected, found, strict=True))
        if one != other
    ]


def _tie(plain: Engine, number: int, prompt: Tokens, *, expected: Tokens, found: Tokens) -> Tie:
    assert len(found) == len(expected), f"prompt {number}: {len(found)} tokens instead of {len(expected)}"
    at = next(at for at, (one, other) in enumerate(zip(expected, found, strict=True)) if one != other)
    likely = plain.likeliest([*prompt, *expected[:at]], LIKELIEST)
    one, other = expected[at], found[at]
    assert {one, other} <= likely.keys(), f"prompt {number}, token {at}: {other} instead of {one} is no likely token"
    nats = abs(likely[one] - likely[other])
    assert nats < TIE_NATS, f"prompt {number}, token {at}: {other} instead of {one}, which is {nats:.4f} nats away"
    return Tie(number, at, nats)
