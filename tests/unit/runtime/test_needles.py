"""Long contexts: exactly as long as they say, with every number at its depth, and counted as greedy decoding would."""

from __future__ import annotations

import re

import pytest
from pydantic import ValidationError

from tandem_contracts.artifact_job import FEWEST_CONTEXT_TOKENS
from tandem_operator.api.quantization import RecallGate
from tandem_runtime.artifacts.last_word import RefusedError
from tandem_runtime.artifacts.needles import (
    CONTEXTS,
    NEEDLES,
    Context,
    Find,
    contexts_of,
    recalled,
    tokens_within,
)
from tandem_runtime.artifacts.texts import Texts
from tests.unit.runtime.test_artifact_texts import encode

TEXTS = Texts("texts", tuple(f"Document {number}. " * 9 for number in range(20)))
TOKENS = 4000
SENTENCE = re.compile(r"\nThe number of the (\w+ \w+) is (\d{7})\.")


def contexts(tokens: int = TOKENS, *, first: tuple[int, ...] = ()) -> list[Context]:
    return contexts_of(TEXTS, encode, tokens=tokens, first=first)


def text_of(tokens: list[int]) -> str:
    return bytes(tokens).decode()


@pytest.mark.parametrize("tokens", [FEWEST_CONTEXT_TOKENS, TOKENS, 20_000])
def test_contexts_are_as_long_as_wanted_even_where_the_texts_are_short(tokens: int) -> None:
    found = contexts(tokens, first=(7,))
    assert [len(context.tokens) for context in found] == [tokens] * CONTEXTS
    assert {context.tokens[0] for context in found} == {7}
    assert found == contexts(tokens, first=(7,))


def test_every_number_stands_once_at_its_depth_and_is_asked_for_at_the_end() -> None:
    for context in contexts():
        begin = context.answers[0][0]
        said = [(match[1], match[2], match.start()) for match in SENTENCE.finditer(text_of(context.tokens))]
        told, asked = said[:NEEDLES], said[NEEDLES:]
        assert len({key for key, *_ in told}) == NEEDLES
        assert sorted(pair[:2] for pair in told) == sorted(pair[:2] for pair in asked)
        assert told[0][2] < 0.1 * begin
        assert told[-1][2] > 0.85 * begin
        assert [text_of(context.tokens[start:end]) for start, end in context.answers] == [f" {n}" for _, n, _ in asked]


def test_contexts_differ_in_text_keys_and_numbers() -> None:
    first, second = ({match.groups() for match in SENTENCE.finditer(text_of(each.tokens))} for each in contexts())
    assert first.isdisjoint(second)


def reader(reach: int, *, mistaken: bytes = b"") -> Find:
    """A model that recalls what stood after the same words, as far back as it reaches."""

    def find(tokens: list[int], last: int) -> list[int]:
        found = []
        for at in range(len(tokens) - last, len(tokens)):
            seen = bytes(tokens[max(at + 1 - reach, 0) : at + 1])
            words = seen[-20:]
            before = seen.rfind(words, 0, -1)
            follows = seen[before + 20] if before >= 0 else 0
            found.append(0 if follows in mistaken else follows)
        return found

    return find


def test_a_model_that_reads_everything_recalls_everything_and_one_that_forgets_what_is_far_does_not() -> None:
    context = contexts()[0]
    assert recalled(context, reader(TOKENS)) == NEEDLES
    assert recalled(context, reader(100)) == 0
    assert 0 < recalled(context, reader(TOKENS // 2)) < NEEDLES


def test_an_answer_counts_only_as_a_whole() -> None:
    context = contexts()[0]
    numbers = [text_of(context.tokens[start:end]) for start, end in context.answers]
    assert recalled(context, reader(TOKENS, mistaken=b"7")) == sum("7" not in number for number in numbers)


@pytest.mark.parametrize(("room", "wanted", "taken"), [(0, 16384, 16384), (2048, 16384, 2048), (32768, 16384, 16384)])
def test_a_context_is_cut_to_what_the_model_has_room_for(room: int, wanted: int, taken: int) -> None:
    assert tokens_within(room, wanted) == taken


def test_a_gate_asks_for_no_context_that_its_job_would_refuse() -> None:
    assert tokens_within(0, RecallGate(tokens=FEWEST_CONTEXT_TOKENS).tokens) == FEWEST_CONTEXT_TOKENS
    with pytest.raises(ValidationError, match="greater than or equal to 1024"):
        RecallGate(tokens=FEWEST_CONTEXT_TOKENS - 1)


@pytest.mark.parametrize(("room", "wanted", "told"), [(0, 512, "is 512 tokens\\)"), (1000, 16384, "has room for 1000")])
def test_too_few_tokens_to_say_anything_are_refused(room: int, wanted: int, told: str) -> None:
    with pytest.raises(RefusedError, match=told):
        tokens_within(room, wanted)
