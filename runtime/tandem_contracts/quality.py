"""What quantizing has cost: what a Job measures, and what is judged by. Pure.

Perplexity is compared window by window, so that what the text is like cancels out: with the losses q and b of the same
window, d = q - b, the increase is exp(mean d) - 1, and its 95 % bound follows from the spread of d. KL divergence and
agreement show damage that perplexity hides (Dutta et al., arXiv 2407.09141).
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from statistics import fmean, stdev
from typing import Any, Self

FEWEST_WINDOWS = 2
_NORMAL_95 = 1.959964


@dataclasses.dataclass(frozen=True, kw_only=True)
class Quality:
    """Figures of a quantized model beside the model that it was made from, on the same held-out text."""

    tokens: int
    """That were predicted by both."""
    perplexity_source: float
    perplexity: float
    increase_percent: float
    """Of the perplexity, paired."""
    increase_percent_upper: float
    """End of its 95 % interval."""
    kl_divergence: float
    """Mean over tokens of the divergence of the quantized distribution from the source's, in nats."""
    top1_agreement: float
    """Share of tokens for which both put the same one first."""
    evaluation: str
    """SHA-256 in hex of the texts."""

    def to_data(self) -> dict[str, Any]:
        """JSON values, numbers with six digits."""
        return {
            _wire(name): float(f"{value:.6g}") if isinstance(value, float) else value
            for name, value in dataclasses.asdict(self).items()
        }

    @classmethod
    def from_data(cls, data: object) -> Self:
        """The reverse. Raises ValueError for anything else, NaN and infinity included."""
        if not isinstance(data, Mapping):
            raise ValueError(f"quality (is {str(data)[:100]}): must be an object")  # noqa: TRY004 - one error for all
        given: dict[str, Any] = {}
        for field in dataclasses.fields(cls):
            value = data.get(_wire(field.name))
            if field.type == "str" and isinstance(value, str):
                given[field.name] = value
            elif field.type != "str" and isinstance(value, int | float) and math.isfinite(value):
                given[field.name] = int(value) if field.type == "int" else float(value)
            else:
                raise ValueError(f"{_wire(field.name)} (is {str(value)[:100]}): must be a {field.type}")
        return cls(**given)


def quality_of(
    source_losses: Sequence[float],
    losses: Sequence[float],
    *,
    tokens: int,
    kl_divergence: float,
    top1_agreement: float,
    evaluation: str,
) -> Quality:
    """From the mean loss of each window in nats a token, windows of one length. Raises ValueError for too few."""
    if len(losses) != len(source_losses) or len(losses) < FEWEST_WINDOWS:
        raise ValueError(f"{len(losses)} and {len(source_losses)} windows: at least {FEWEST_WINDOWS} pairs are needed")
    differences = [loss - source for loss, source in zip(losses, source_losses, strict=True)]
    mean, half = fmean(differences), _NORMAL_95 * stdev(differences) / math.sqrt(len(differences))
    return Quality(
        tokens=tokens,
        perplexity_source=_exp(fmean(source_losses)),
        perplexity=_exp(fmean(losses)),
        increase_percent=100 * (_exp(mean) - 1),
        increase_percent_upper=100 * (_exp(mean + half) - 1),
        kl_divergence=kl_divergence,
        top1_agreement=top1_agreement,
        evaluation=evaluation,
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Thresholds:
    """What is still good enough."""

    perplexity_increase_percent: float
    """Most, of the upper bound."""
    kl_divergence: float
    """Most."""
    top1_agreement: float
    """Least."""

    @classmethod
    def of_bits(cls, weight_bits: int) -> Self:
        """Where nobody has said anything: by the bits of a weight."""
        if weight_bits >= 8:
            return cls(perplexity_increase_percent=1.0, kl_divergence=0.01, top1_agreement=0.97)
        return cls(perplexity_increase_percent=3.0, kl_divergence=0.05, top1_agreement=0.92)


def shortcomings(quality: Quality, thresholds: Thresholds) -> tuple[str, ...]:
    """What is not good enough, each with its figure and its bound; () for a model that may be served."""
    found = []
    if quality.increase_percent_upper > thresholds.perplexity_increase_percent:
        found.append(
            f"perplexity rises by {quality.increase_percent:.2f} %, at most {quality.increase_percent_upper:.2f} % "
            f"with 95 % confidence (allowed: {thresholds.perplexity_increase_percent:g} %)"
        )
    if quality.kl_divergence > thresholds.kl_divergence:
        found.append(f"KL divergence is {quality.kl_divergence:.4f} (allowed: {thresholds.kl_divergence:g})")
    if quality.top1_agreement < thresholds.top1_agreement:
        found.append(
            f"the most likely token is the same in {100 * quality.top1_agreement:.1f} % "
            f"(needed: {100 * thresholds.top1_agreement:g} %)"
        )
    return tuple(found)


def _exp(value: float) -> float:
    """Without an overflow: a model that is ruined is told so, and not that a number was too large."""
    return math.exp(min(value, 50.0))


def _wire(name: str) -> str:
    head, *rest = name.split("_")
    return head + "".join(word.capitalize() for word in rest)
