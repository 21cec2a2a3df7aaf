"""What quantizing has cost: what a Job measures, and what is judged by. Pure.

Perplexity is compared window by window, so that what the text is like cancels out: with the losses q and b of the same
window, d = q - b, the increase is exp(mean d) - 1, and its 95 % bound follows from the spread of d. KL divergence and
agreement show damage that perplexity hides (Dutta et al., arXiv 2407.09141).
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from statistics import fmean, stdev
from typing import Any, Self

FEWEST_WINDOWS = 2
MOST_NATS = 50.0
"""Of a loss or a divergence that is told: what is no number, or larger, is a model that is ruined."""
_NORMAL_95 = 1.959964
_STUDENT_95 = (
    *(12.7062, 4.3027, 3.1824, 2.7764, 2.5706, 2.4469, 2.3646, 2.3060, 2.2622, 2.2281),
    *(2.2010, 2.1788, 2.1604, 2.1448, 2.1314, 2.1199, 2.1098, 2.1009, 2.0930, 2.0860),
)
"""Student's t, two-sided, for 1 to 20 degrees of freedom: the spread is estimated from the same few windows."""
_SCALARS = ("str", "int", "float")


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Figures:
    """Their fields that are texts or numbers, as JSON values; the other fields are their own classes' to care for."""

    def to_data(self) -> dict[str, Any]:
        """JSON values, numbers with six digits."""
        data = {}
        for field in dataclasses.fields(self):
            if field.type in _SCALARS:
                value = getattr(self, field.name)
                data[_wire(field.name)] = float(f"{value:.6g}") if isinstance(value, float) else value
        return data

    @classmethod
    def from_data(cls, data: object) -> Self:
        """The reverse. Raises ValueError for anything else, NaN and infinity included."""
        return cls(**cls._given(data))

    @classmethod
    def _given(cls, data: object) -> dict[str, Any]:
        if not isinstance(data, Mapping):
            raise ValueError(f"quality (is {str(data)[:100]}): must be an object")  # noqa: TRY004 - one error for all
        given: dict[str, Any] = {}
        for field in dataclasses.fields(cls):
            value = data.get(_wire(field.name))
            if field.type not in _SCALARS:
                continue
            if field.type == "str" and isinstance(value, str):
                given[field.name] = value
            elif field.type != "str" and isinstance(value, int | float) and math.isfinite(value):
                given[field.name] = int(value) if field.type == "int" else float(value)
            else:
                raise ValueError(f"{_wire(field.name)} (is {str(value)[:100]}): must be a {field.type}")
        return given


@dataclasses.dataclass(frozen=True, kw_only=True)
class TaskResult(_Figures):
    """How well both models do one task of questions and answers."""

    name: str
    metric: str
    """lm-eval's name of it and of the filter that answers went through, such as `acc,none`; more is better."""
    source: float
    quantized: float
    recovery_percent: float
    """See `recovery_percent_of`."""


def recovery_percent_of(source: float, quantized: float) -> float:
    """What is left of the source's score. 0 where that is 0: such a task shows nothing, and nothing is no evidence."""
    return 100 * quantized / source if source > 0 else 0.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class LongContext(_Figures):
    """How well both models find what was said far back in a long text."""

    tokens: int
    """Of a context: fewer than were wanted where the model has no room for them."""
    wanted_tokens: int
    recall_source: float
    """Share of what was asked for that the source finds."""
    recall: float
    """The same of the quantized model, its cache of keys and values rounded as the engine would."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Quality(_Figures):
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
    tasks: tuple[TaskResult, ...] = ()
    """Of the tasks that were wanted."""
    long_context: LongContext | None = None
    """None: was not measured."""

    def to_data(self) -> dict[str, Any]:
        """JSON values, numbers with six digits; what was not measured is left out."""
        data = super().to_data()
        if self.tasks:
            data["tasks"] = [task.to_data() for task in self.tasks]
        if self.long_context is not None:
            data["longContext"] = self.long_context.to_data()
        return data

    @classmethod
    def from_data(cls, data: object) -> Self:
        """The reverse. Raises ValueError for anything else, NaN and infinity included."""
        given = cls._given(data)
        assert isinstance(data, Mapping)  # noqa: S101 - narrows the type: `_given` has refused anything else
        tasks, long_context = data.get("tasks", []), data.get("longContext")
        if not isinstance(tasks, list | tuple):
            raise ValueError(f"tasks (is {str(tasks)[:100]}): must be a list")  # noqa: TRY004 - one error for all
        return cls(
            **given,
            tasks=tuple(TaskResult.from_data(task) for task in tasks),
            long_context=None if long_context is None else LongContext.from_data(long_context),
        )


def quality_of(
    source_losses: Sequence[float],
    losses: Sequence[float],
    *,
    tokens: int,
    kl_divergence: float,
    top1_agreement: float,
    evaluation: str,
) -> Quality:
    """From the mean loss of each window in nats a token, windows of one length.

    A quantized model whose logits are no numbers is as bad as can be told. Raises ValueError for too few windows, and
    where the source's loss is no number.
    """
    if len(losses) != len(source_losses) or len(losses) < FEWEST_WINDOWS:
        raise ValueError(f"{len(losses)} and {len(source_losses)} windows: at least {FEWEST_WINDOWS} pairs are needed")
    if not all(map(math.isfinite, source_losses)):
        raise ValueError("the loss of the source itself is not a finite number: nothing can be compared with it")
    losses = [_told(loss) for loss in losses]
    differences = [loss - source for loss, source in zip(losses, source_losses, strict=True)]
    mean, half = fmean(differences), _t_95(len(differences) - 1) * stdev(differences) / math.sqrt(len(differences))
    return Quality(
        tokens=tokens,
        perplexity_source=_exp(fmean(source_losses)),
        perplexity=_exp(fmean(losses)),
        increase_percent=100 * (_exp(mean) - 1),
        increase_percent_upper=100 * (_exp(mean + half) - 1),
        kl_divergence=_told(kl_divergence),
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
    min_task_recovery_percent: Mapping[str, float] = dataclasses.field(default_factory=dict)
    """Least of each task, by its name. A task that was not measured is not good enough."""
    min_long_context_recall: float = 0.0
    """Least share of the source's recall, 0: whatever it is. Not of all that was asked for: this judges what quantizing
    has cost, as all the others do, and no recipe makes a model recall what its source does not. Where the source finds
    nothing at all, nothing is known of the quantized model, which is not good enough for who wants to know."""

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
    return (*found, *_lacking_tasks(quality, thresholds), *_lacking_recall(quality, thresholds))


def _lacking_tasks(quality: Quality, thresholds: Thresholds) -> Iterator[str]:
    measured = {task.name: task for task in quality.tasks}
    for name, least in thresholds.min_task_recovery_percent.items():
        task = measured.get(name)
        if task is None:
            yield f"task {name} was not measured (needed: {least:g} % of the source's score)"
        elif task.recovery_percent < least:
            yield (
                f"task {name}: {task.metric} is {task.quantized:.4g}, {task.recovery_percent:.1f} % "
                f"of the source's {task.source:.4g} (needed: {least:g} %)"
            )


def _lacking_recall(quality: Quality, thresholds: Thresholds) -> Iterator[str]:
    least, found = thresholds.min_long_context_recall, quality.long_context
    if least <= 0:
        return
    if found is None:
        yield f"recall from a long context was not measured (needed: {100 * least:g} % of the source's)"
    elif found.recall_source <= 0:
        yield f"the source itself recalls nothing from {found.tokens} tokens, so that cannot be judged"
    elif found.recall < least * found.recall_source:
        yield (
            f"{100 * found.recall:.0f} % is recalled from {found.tokens} tokens, "
            f"by the source {100 * found.recall_source:.0f} % (needed: {100 * least:g} % of that)"
        )


def _t_95(freedom: int) -> float:
    if freedom <= len(_STUDENT_95):
        return _STUDENT_95[freedom - 1]
    # Abramowitz and Stegun 26.7.5, its first two terms: from 21 on within 0.001.
    first = (_NORMAL_95**3 + _NORMAL_95) / (4 * freedom)
    return _NORMAL_95 + first + (5 * _NORMAL_95**5 + 16 * _NORMAL_95**3 + 3 * _NORMAL_95) / (96 * freedom**2)


def _told(nats: float) -> float:
    return nats if math.isfinite(nats) else MOST_NATS


def _exp(value: float) -> float:
    """Without an overflow: a model that is ruined is told so, and not that a number was too large."""
    return math.exp(min(value, MOST_NATS))


def _wire(name: str) -> str:
    head, *rest = name.split("_")
    return head + "".join(word.capitalize() for word in rest)
