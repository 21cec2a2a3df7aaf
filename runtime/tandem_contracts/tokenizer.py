"""When two models have the same tokenizer: their ids stand for the same texts.

A verifier hands its drafts ids, never text, so merges, normalizer and chat template do not matter to a pair, and
neither does how a file is written (a newer one spells the same merges otherwise). Must not read files.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Any

ID_LIMIT = 2**31


def tokenizer_hash_of(tokenizer: Mapping[str, Any]) -> str:
    """SHA-256 in hex over which id stands for which text, given a parsed tokenizer.json.

    Raises ValueError when it holds no such table.
    """
    model = tokenizer.get("model")
    table = dict(_vocabulary(model.get("vocab") if isinstance(model, Mapping) else None))
    for added in tokenizer.get("added_tokens") or ():
        if not isinstance(added, Mapping):
            raise ValueError("added_tokens: must be objects with id and content")  # noqa: TRY004
        table[_id(added.get("id"))] = _text(added.get("content"))
    return table_hash_of(table)


def table_hash_of(table: Mapping[int, str]) -> str:
    """The same for the table itself. Raises ValueError for an empty one."""
    if not table:
        raise ValueError("the vocabulary is empty")
    # ASCII, since a text may hold half of a surrogate pair, which has no UTF-8.
    canonical = json.dumps(sorted(table.items()), separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()


def _vocabulary(vocabulary: object) -> Iterator[tuple[int, str]]:
    if isinstance(vocabulary, Mapping):  # BPE, WordPiece: text to id
        for text, number in vocabulary.items():
            yield _id(number), _text(text)
    elif isinstance(vocabulary, list):  # Unigram: texts with their scores, the id is the place
        for number, entry in enumerate(vocabulary):
            yield number, _text(entry[0] if isinstance(entry, list) and entry else None)
    else:
        raise ValueError("model.vocab: must be an object or a list")  # noqa: TRY004 - what is wrong is the file


def _id(number: object) -> int:
    if isinstance(number, bool) or not isinstance(number, int) or not 0 <= number < ID_LIMIT:
        raise ValueError(f"an id of the vocabulary (is {str(number)[:40]!r}): must be a whole number from 0")
    return number


def _text(text: object) -> str:
    if not isinstance(text, str):
        raise ValueError(f"a text of the vocabulary (is {str(text)[:40]!r}): must be a string")  # noqa: TRY004
    return text
