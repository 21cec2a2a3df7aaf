"""Long texts in which sentences with a number each stand at all depths, and whose end asks for each number. Pure.

The questions follow each other with their right answers, so that one pass answers all of them: a number is found where
the model would put the whole of it itself, taking the most likely token each time. That is what greedy decoding would
say after the same words, in a fraction of the time, and needs no cache that could be continued, which not every
architecture has.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from tandem_contracts.artifact_job import FEWEST_CONTEXT_TOKENS
from tandem_contracts.termination import Reason
from tandem_runtime.artifacts.last_word import RefusedError
from tandem_runtime.artifacts.texts import Encode, Texts

CONTEXTS = 2
NEEDLES = 10
"""Of each context. Together 20 answers: recall comes in steps of 5 %."""
SEED = 17
_OWNERS = ("amber", "brisk", "calm", "dusty", "eager", "frosty", "gentle", "hollow", "ivory", "jolly")
_OWNED = ("anchor", "bridge", "castle", "forest", "garden", "harbor", "island", "market", "river", "tower")

Find = Callable[[list[int], int], list[int]]
"""The most likely next token after each of the last so many tokens of a context."""


@dataclass(frozen=True)
class Context:
    """A text with its questions, as tokens."""

    tokens: list[int]
    answers: tuple[tuple[int, int], ...]
    """Where each answer begins, and where it is over."""


def tokens_within(max_positions: int, wanted: int) -> int:
    """Of a context: as many as are wanted, or as the model has room for (0: nobody knows).

    Raises RefusedError where that is fewer than FEWEST_CONTEXT_TOKENS.
    """
    taken = min(wanted, max_positions or wanted)
    if taken < FEWEST_CONTEXT_TOKENS:
        room = f", the model has room for {max_positions}" if max_positions else ""
        raise RefusedError(
            Reason.CONFIG_INVALID, f"long context (is {wanted} tokens{room}): must be {FEWEST_CONTEXT_TOKENS} or more"
        )
    return taken


def contexts_of(texts: Texts, encode: Encode, *, tokens: int, first: Sequence[int] = ()) -> list[Context]:
    """CONTEXTS of exactly so many tokens, `first` in front of each; the same for the same texts.

    `tokens`: FEWEST_CONTEXT_TOKENS or more. Texts that are too short are repeated.
    """
    chance = random.Random(SEED)  # noqa: S311 - the same each time is what is wanted
    # No document is looked into further than a context is long.
    text = itertools.chain.from_iterable(
        encode(text[: 16 * tokens])[:tokens] for text in itertools.cycle(texts.documents)
    )
    return [_context(text, encode, chance, tokens=tokens, first=first) for _ in range(CONTEXTS)]


def recalled(context: Context, find: Find) -> int:
    """How many of the context's answers a model finds."""
    begin = context.answers[0][0]
    found = find(context.tokens, len(context.tokens) - begin + 1)
    # Its first token is what follows the one before `begin`.
    return sum(found[start - begin : end - begin] == context.tokens[start:end] for start, end in context.answers)


def _context(
    text: Iterator[int], encode: Encode, chance: random.Random, *, tokens: int, first: Sequence[int]
) -> Context:
    keys = chance.sample([f"{owner} {owned}" for owner in _OWNERS for owned in _OWNED], NEEDLES)
    pairs = [(f"The number of the {key} is", str(chance.randrange(1_000_000, 10_000_000))) for key in keys]
    needles = [encode(f"\n{question} {number}.\n") for question, number in pairs]
    asked: list[int] = []
    answers = []
    for question, number in chance.sample(pairs, len(pairs)):
        before, whole = encode(f"\n{question}"), encode(f"\n{question} {number}")
        # A tokenizer may join the question's end to the answer: that is asked for, too.
        shared = next(at for at, token in enumerate(whole) if before[at : at + 1] != [token])
        answers.append((len(asked) + shared, len(asked) + len(whole)))
        asked += [*whole, *encode(".")]
    room = tokens - len(first) - len(asked) - sum(map(len, needles))
    # At 5 %, 15 %, and so on of the text.
    depths = [room * (2 * at + 1) // (2 * NEEDLES) for at in range(NEEDLES)]
    row = list(first)
    for depth, before_it, needle in zip(depths, [0, *depths], needles, strict=False):
        row += [*itertools.islice(text, depth - before_it), *needle]
    row += itertools.islice(text, room - depths[-1])
    return Context(row + asked, tuple((len(row) + start, len(row) + end) for start, end in answers))
