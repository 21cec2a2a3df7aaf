"""Has an engine say what was recorded of the model that it serves, and refuses one that says something else.

Token ids are sent, not text: what the engine's tokenizer would put around a text is no part of the record.
"""

from __future__ import annotations

import hashlib
import json
import math
import urllib.error
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tandem_contracts.launch import LaunchOptions
from tandem_contracts.manifest import MANIFEST
from tandem_contracts.reference import Deviation, Reference, Window, deviation_of
from tandem_contracts.termination import Reason
from tandem_runtime.artifacts.last_word import RefusedError

Complete = Callable[[Mapping[str, Any]], Mapping[str, Any]]
"""Sends the body of a completion, as OpenAI's with vLLM's own fields, and returns the answer.

Raises HTTPError for an answer of another status than 200.
"""
_MODES_OF_LOGITS = {"raw_logits", "processed_logits"}
_ERRORS_OF_REQUESTS = range(400, 500)


class UncomparableError(Exception):
    """This engine, as it is set, does not tell what was recorded; the message says why."""


def read_reference(text: str) -> Reference:
    """A reference in JSON. Raises ValueError."""
    return Reference.from_data(json.loads(text))


def required_deviation(reference: Reference, options: LaunchOptions, complete: Complete) -> Deviation:
    """How far the engine is from the record. `options`: what it was started with.

    Raises RefusedError for more than is allowed, and for files that were not those that were measured;
    UncomparableError where the engine does not say.
    """
    _require_same_files(reference, Path(options.model))
    mode = options.engine.flags.get("logprobs-mode")
    if mode in _MODES_OF_LOGITS:
        raise UncomparableError(f"engine.args.logprobs-mode is {mode}, so it tells no log probabilities")
    found = deviation_of(reference, [_losses(window, complete) for window in reference.windows])
    if not found.is_allowed:
        raise RefusedError(
            Reason.DIFFERS_FROM_REFERENCE, f"the engine answers, and not as the model did when it was measured: {found}"
        )
    return found


def _require_same_files(reference: Reference, folder: Path) -> None:
    there = hashlib.sha256((folder / MANIFEST).read_bytes()).hexdigest()
    if there != reference.manifest:
        raise RefusedError(
            Reason.DIFFERS_FROM_REFERENCE,
            f"the files are not those that were measured: their manifest has SHA-256 {there}, measured was "
            f"{reference.manifest}: delete the ModelArtifact so that they are measured anew",
        )


def _losses(window: Window, complete: Complete) -> tuple[float, ...]:
    """The loss of each token of a window but the first."""
    body = {"prompt": list(window.tokens), "max_tokens": 1, "temperature": 0, "prompt_logprobs": 0}
    try:
        answer = complete(body)
    except urllib.error.HTTPError as error:
        if error.code not in _ERRORS_OF_REQUESTS:
            raise
        told = error.read(1000).decode(errors="replace")
        raise UncomparableError(f"the engine refuses `prompt_logprobs`: HTTP {error.code}: {told}") from error
    told = (answer.get("choices") or [{}])[0].get("prompt_logprobs")
    if not told:
        raise UncomparableError("the engine leaves `prompt_logprobs` out of its answer")
    try:
        after_first = zip(window.tokens[1:], told[1:], strict=True)
        losses = tuple(-float(each[str(token)]["logprob"]) for token, each in after_first)
    except (KeyError, TypeError, ValueError) as error:
        raise UncomparableError(f"`prompt_logprobs` of the engine are of another form: {str(told)[:200]}") from error
    if not all(map(math.isfinite, losses)):
        raise RefusedError(Reason.DIFFERS_FROM_REFERENCE, f"log probabilities that are no numbers: {losses[:4]}")
    return losses
