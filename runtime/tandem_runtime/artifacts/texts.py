"""The texts that a Job calibrates or evaluates with: a file of the user's, or what comes with every Python.

A file has one JSON object a line: `{"text": …}`, or `{"messages": [{"role": …, "content": …}, …]}`, which the model's
chat template is applied to. The texts that come with Python, its reference and its library, are code and prose about
code: somebody who serves something else gets a better model, and a truer figure, with texts of their own.
"""

from __future__ import annotations

import hashlib
import json
import random
import sysconfig
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FILE_LIMIT_BYTES = 256 << 20
FEWEST_TOKENS = 16
"""Of a sample: shorter ones say nothing about long contexts."""
DIGEST_DIGITS = 16
_SKIPPED = frozenset({"site-packages", "dist-packages", "test", "tests", "idlelib", "lib2to3", "encodings"})

Encode = Callable[[str], list[int]]
Chat = Callable[[list[dict[str, Any]]], str]


class InvalidTextsError(ValueError):
    """A file of texts cannot be used; the message names file, line and what is allowed."""


@dataclass(frozen=True)
class Texts:
    """Documents, in a fixed order."""

    name: str
    documents: tuple[str, ...]

    @property
    def digests(self) -> tuple[str, ...]:
        """Of each document: the beginning of its SHA-256 in hex."""
        return tuple(hashlib.sha256(text.encode()).hexdigest()[:DIGEST_DIGITS] for text in self.documents)

    @property
    def digest(self) -> str:
        """SHA-256 of all in hex."""
        return hashlib.sha256("\n".join(self.digests).encode()).hexdigest()


def chat_of(tokenizer: Any) -> Chat:
    """The template of a tokenizer of transformers."""
    return lambda messages: str(tokenizer.apply_chat_template(messages, tokenize=False))


def encode_of(tokenizer: Any) -> Encode:
    """What a tokenizer of transformers makes of a text alone, without what it puts around one."""
    return lambda text: list(tokenizer(text, verbose=False, add_special_tokens=False)["input_ids"])


def read_texts(path: Path, *, chat: Chat) -> Texts:
    """The texts of a file. `chat`: the model's template. Raises InvalidTextsError."""
    try:
        if path.stat().st_size > FILE_LIMIT_BYTES:
            raise InvalidTextsError(f"{path.name} (has {path.stat().st_size} bytes): at most {FILE_LIMIT_BYTES}")
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidTextsError(f"{path.name} cannot be read: {error}") from error
    documents = [_document(line, f"{path.name}, line {at}", chat) for at, line in enumerate(lines, 1) if line.strip()]
    if not documents:
        raise InvalidTextsError(f"{path.name} has no texts: one JSON object a line is needed")
    return Texts(path.name, tuple(documents))


def _document(line: str, where: str, chat: Chat) -> str:
    try:
        data = json.loads(line)
    except ValueError as error:
        raise InvalidTextsError(f"{where}: no JSON: {error}") from error
    match data:
        case {"text": str(text)}:
            return text
        case {"messages": [*messages]} if all(isinstance(message, dict) for message in messages):
            try:
                return chat(messages)
            except Exception as error:  # a template is a program of the model's author
                raise InvalidTextsError(f"{where}: the chat template refuses it: {error}") from error
    raise InvalidTextsError(f'{where} (is {line[:80]}): must have "text", a string, or "messages", a list of objects')


def built_in() -> tuple[Texts, Texts]:
    """For calibration, and for evaluation: every other one. The same for the same Python."""
    root = Path(sysconfig.get_path("stdlib"))
    documents = (
        path.read_text(encoding="utf-8", errors="replace")
        for path in sorted(root.rglob("*.py"))
        if _SKIPPED.isdisjoint(path.relative_to(root).parts)
    )
    unique = tuple(dict.fromkeys(text for text in documents if text.strip()))
    return Texts("built-in", unique[::2]), Texts("built-in", unique[1::2])


def samples_of(texts: Texts, encode: Encode, *, samples: int, tokens: int, seed: int) -> list[list[int]]:
    """At most so many samples of at most so many tokens, each the beginning of a document.

    Raises InvalidTextsError where no document is long enough.
    """
    order = list(texts.documents)
    random.Random(seed).shuffle(order)  # noqa: S311 - an order
    found: list[list[int]] = []
    for text in order:
        if len(found) == samples:
            break
        sample = encode(text)[:tokens]
        if len(sample) >= FEWEST_TOKENS:
            found.append(sample)
    if not found:
        raise InvalidTextsError(f"{texts.name}: no text has {FEWEST_TOKENS} tokens or more")
    return found


def windows_of(texts: Texts, encode: Encode, *, windows: int, tokens: int) -> list[list[int]]:
    """At most so many windows of exactly so many tokens, spread evenly over all documents in a row.

    Raises InvalidTextsError where there are not two of them.
    """
    # A short way into every document is enough: what is beyond it would not be looked at.
    share = max(4 * windows * tokens // len(texts.documents), tokens)
    row: list[int] = []
    for text in texts.documents:
        row += encode(text[: 16 * share])[:share]
    there = len(row) // tokens
    if there < 2:
        raise InvalidTextsError(f"{texts.name} has {len(row)} tokens: at least {2 * tokens} are needed")
    taken = min(windows, there)
    starts: Sequence[int] = [at * there // taken * tokens for at in range(taken)]
    return [row[start : start + tokens] for start in starts]
