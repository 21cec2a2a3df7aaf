"""Whether two models make a pair: the same tokenizer, ids that the verifier knows, and a draft worth asking. Pure.

What does not fit costs acceptance, never correctness; but a draft whose ids mean other texts is never accepted.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from tandem_contracts.model_facts import ModelFacts

SHOWN_DIGITS = 12
"""Of a tokenizer's hash, enough to compare by eye."""


class Fit(StrEnum):
    """Whether a pair fits."""

    FITS = "Fits"
    MISFIT = "Misfit"
    UNKNOWN = "Unknown"


@dataclass(frozen=True)
class PairCheck:
    """The verdict, a sentence with both values, and what a person should know although it fits."""

    fit: Fit
    message: str
    warnings: tuple[str, ...] = ()


def pair_check(verifier: ModelFacts, draft: ModelFacts) -> PairCheck:
    """Compare a draft with its verifier.

    The tokenizers must be the same. The rows of the vocabulary may differ where they are, as by padding: a verifier
    drops ids that it has no row for.
    """
    values = _values(verifier, draft)
    warnings = tuple(_warnings(verifier, draft))
    if not verifier.tokenizer_hash or not draft.tokenizer_hash:
        return PairCheck(Fit.UNKNOWN, f"the tokenizers cannot be compared: {values}", warnings)
    if verifier.tokenizer_hash != draft.tokenizer_hash:
        return PairCheck(
            Fit.MISFIT, f"the models have different tokenizers, no draft would be accepted: {values}", warnings
        )
    if verifier.vocabulary_size != draft.vocabulary_size:
        return PairCheck(
            Fit.FITS, f"the tokenizers are the same, the vocabularies differ by padding: {values}", warnings
        )
    return PairCheck(Fit.FITS, f"the tokenizers are the same: {values}", warnings)


def in_engine_check(verifier: ModelFacts, draft: ModelFacts) -> PairCheck:
    """Compare a draft model that runs inside the verifier's engine, which refuses another number of rows too."""
    check = pair_check(verifier, draft)
    if check.fit is Fit.MISFIT or verifier.vocabulary_size == draft.vocabulary_size:
        return check
    message = f"the engine refuses a draft model with another vocabulary inside it: {_values(verifier, draft)}"
    return PairCheck(Fit.MISFIT, message, check.warnings)


def _values(verifier: ModelFacts, draft: ModelFacts) -> str:
    return f"verifier {_tokenizer(verifier)}, draft {_tokenizer(draft)}"


def _tokenizer(model: ModelFacts) -> str:
    shown = model.tokenizer_hash[:SHOWN_DIGITS] or "none"
    return f"{model.architecture} tokenizer {shown}, vocabulary {model.vocabulary_size}"


def _warnings(verifier: ModelFacts, draft: ModelFacts) -> list[str]:
    warnings = []
    if draft.weights_bytes >= verifier.weights_bytes:
        warnings.append(
            f"the draft is not smaller than the verifier: {draft.weights_bytes} bytes of weights against "
            f"{verifier.weights_bytes}; it will hardly be faster"
        )
    if 0 < draft.max_positions < verifier.max_positions:
        warnings.append(
            f"the draft was made for {draft.max_positions} tokens, the verifier for {verifier.max_positions}: longer "
            "texts get no drafts"
        )
    return warnings
