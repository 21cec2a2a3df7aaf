"""Pairs that fit, that do not, and that nobody can tell: each verdict names both values."""

from __future__ import annotations

from dataclasses import replace

from tandem_operator.pairing import Fit, pair_check
from tests.unit.operator.models import LLAMA_1B, LLAMA_70B, QWEN_32B, make_model


def test_models_of_one_tokenizer_fit() -> None:
    check = pair_check(LLAMA_70B, LLAMA_1B)
    assert (check.fit, check.warnings) == (Fit.FITS, ())
    assert check.message == (
        "the tokenizers are the same: verifier LlamaForCausalLM tokenizer aaaaaaaaaaaa, vocabulary 128256, "
        "draft LlamaForCausalLM tokenizer aaaaaaaaaaaa, vocabulary 128256"
    )


def test_different_tokenizers_do_not_fit_and_both_are_named() -> None:
    check = pair_check(QWEN_32B, LLAMA_1B)
    assert check.fit is Fit.MISFIT
    assert check.message == (
        "the models have different tokenizers, no draft would be accepted: verifier Qwen3ForCausalLM tokenizer "
        "bbbbbbbbbbbb, vocabulary 151936, draft LlamaForCausalLM tokenizer aaaaaaaaaaaa, vocabulary 128256"
    )


def test_an_equal_vocabulary_does_not_make_another_tokenizer_fit() -> None:
    other = replace(LLAMA_1B, tokenizer_hash="f" * 64)
    assert pair_check(LLAMA_70B, other).fit is Fit.MISFIT


def test_a_vocabulary_that_is_only_padded_otherwise_fits() -> None:
    draft = replace(QWEN_32B, vocabulary_size=152064, weights_bytes=10**9)
    check = pair_check(QWEN_32B, draft)
    assert check.fit is Fit.FITS
    assert "differ by padding" in check.message
    assert "vocabulary 151936" in check.message
    assert "vocabulary 152064" in check.message


def test_a_folder_without_tokenizer_cannot_be_compared() -> None:
    for verifier, draft in (
        (LLAMA_70B, replace(LLAMA_1B, tokenizer_hash="")),
        (make_model(tokenizer_hash=""), LLAMA_1B),
    ):
        check = pair_check(verifier, draft)
        assert check.fit is Fit.UNKNOWN
        assert "tokenizer none" in check.message


def test_a_draft_that_is_not_smaller_is_warned_of() -> None:
    assert pair_check(LLAMA_1B, LLAMA_70B).warnings == (
        "the draft is not smaller than the verifier: 141107412992 bytes of weights against 2471628800; it will hardly "
        "be faster",
    )
    assert pair_check(LLAMA_70B, LLAMA_70B).fit is Fit.FITS
    assert len(pair_check(LLAMA_70B, LLAMA_70B).warnings) == 1


def test_a_draft_for_shorter_texts_is_warned_of() -> None:
    (warning,) = pair_check(LLAMA_70B, replace(LLAMA_1B, max_positions=8192)).warnings
    assert "the draft was made for 8192 tokens, the verifier for 131072" in warning
    assert pair_check(LLAMA_70B, replace(LLAMA_1B, max_positions=0)).warnings == ()
