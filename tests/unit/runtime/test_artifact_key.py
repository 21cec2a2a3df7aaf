"""Keys are for good, and the same tokenizer is the same however it is written."""

from typing import Any

import pytest

from tandem_contracts.artifact import artifact_key
from tandem_contracts.tokenizer import tokenizer_hash_of


@pytest.mark.parametrize(
    ("source", "key"),
    [
        (
            {"persistentVolumeClaim": {"claimName": "models", "path": "verifier"}},
            "v1-vs6krw5hpv4uvw4bhiteq3q5t6",
        ),
        (
            {"persistentVolumeClaim": {"path": "verifier", "claimName": "models"}},
            "v1-vs6krw5hpv4uvw4bhiteq3q5t6",
        ),
        (
            {"image": {"reference": "registry.example/llama@sha256:" + "0" * 64, "path": "model"}},
            "v1-l64isrwcsgwea2efqkbbcj3ikj",
        ),
    ],
)
def test_a_key_never_changes(source: dict[str, Any], key: str) -> None:
    assert artifact_key(source) == key


def test_another_folder_is_another_key() -> None:
    here = {"persistentVolumeClaim": {"claimName": "models", "path": "a"}}
    there = {"persistentVolumeClaim": {"claimName": "models", "path": "b"}}
    assert artifact_key(here) != artifact_key(there)


BPE = {
    "model": {"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2}, "merges": ["a b"]},
    "added_tokens": [{"id": 3, "content": "<|end|>", "special": True}],
}


def test_a_tokenizer_that_is_written_otherwise_has_the_same_hash() -> None:
    other = {
        "added_tokens": [{"id": 3, "content": "<|end|>", "special": False}],
        "model": {"type": "BPE", "merges": [["a", "b"]], "vocab": {"ab": 2, "b": 1, "a": 0}},
        "post_processor": {"type": "ByteLevel"},
    }
    assert tokenizer_hash_of(other) == tokenizer_hash_of(BPE)
    unigram = {"model": {"type": "Unigram", "vocab": [["a", 0.0], ["b", -1.5], ["ab", -2]]}}
    assert tokenizer_hash_of({**unigram, "added_tokens": BPE["added_tokens"]}) == tokenizer_hash_of(BPE)


@pytest.mark.parametrize(
    "change",
    [
        {"model": {"vocab": {"a": 1, "b": 0, "ab": 2}}},
        {"model": {"vocab": {"a": 0, "b": 1, "aB": 2}}},
        {"added_tokens": []},
        {"added_tokens": [{"id": 4, "content": "<|end|>"}]},
    ],
)
def test_a_tokenizer_with_another_text_for_an_id_has_another_hash(change: dict[str, Any]) -> None:
    assert tokenizer_hash_of({**BPE, **change}) != tokenizer_hash_of(BPE)


@pytest.mark.parametrize(
    "tokenizer",
    [
        {},
        {"model": []},
        {"model": {"vocab": {}}},
        {"model": {"vocab": "abc"}},
        {"model": {"vocab": {"a": "0"}}},
        {"model": {"vocab": {"a": -1}}},
        {"model": {"vocab": {"a": True}}},
        {"model": {"vocab": [[]]}},
        {"model": {"vocab": {"a": 0}}, "added_tokens": [3]},
        {"model": {"vocab": {"a": 0}}, "added_tokens": [{"id": 1}]},
    ],
)
def test_what_is_no_tokenizer_is_refused(tokenizer: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"vocab|text|id|added_tokens"):
        tokenizer_hash_of(tokenizer)
