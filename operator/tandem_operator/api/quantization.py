"""`model.quantization`: in which form a model is served, and how good that form must be.

Texts to calibrate and evaluate with are ConfigMaps, which only the Jobs read. A ConfigMap is known by its name: other
texts are another ConfigMap.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Annotated, Any, ClassVar

from pydantic import BeforeValidator, Field
from pydantic_core import PydanticCustomError

from tandem_contracts import recipe
from tandem_contracts.artifact_job import FEWEST_CONTEXT_TOKENS
from tandem_contracts.engine_settings import OnlineQuantization
from tandem_contracts.quality import Thresholds
from tandem_contracts.recipe import Algorithm, AnyScheme, DraftScheme, KVCache, Scheme
from tandem_operator.api.access import SecretKeyName
from tandem_operator.api.fields import (
    AcceleratorClassName,
    ApiModel,
    DnsSubdomain,
    Duration,
    Rule,
    Rules,
    between,
    matching,
    members,
    seconds_of,
)


class QuantizationMode(StrEnum):
    """Who quantizes, and when."""

    OFFLINE = "Offline"
    ONLINE = "Online"
    PREQUANTIZED = "Prequantized"


class GateFailure(StrEnum):
    """What becomes of a quantized model that is not good enough."""

    FAIL = "Fail"
    SERVE_UNQUANTIZED = "ServeUnquantized"
    WARN = "Warn"


ONLINE_SCHEMES = {
    Scheme.FP8_DYNAMIC: OnlineQuantization.FP8_PER_CHANNEL,
    Scheme.FP8_BLOCK: OnlineQuantization.FP8_PER_BLOCK,
    Scheme.MXFP8: OnlineQuantization.MXFP8,
}
"""Schemes that vLLM makes itself while it loads a model, and what its flag `--quantization` calls them."""

ModuleName = Annotated[
    str,
    Field(min_length=1, max_length=256),
    matching(
        "^([A-Za-z_][A-Za-z0-9_.]*|re:[A-Za-z0-9_.*]+[$]?)$",
        "a module's name, or re: and a pattern of letters, digits, '_', '.' and '*' with '$' at its end or not",
    ),
]
Share = Annotated[
    str,
    Field(min_length=1, max_length=8),
    matching("^(0([.][0-9]{1,6})?|1([.]0{1,6})?)$", "a share from 0 to 1, such as 0.97"),
]
Amount = Annotated[
    str,
    Field(min_length=1, max_length=12),
    matching("^[0-9]{1,4}([.][0-9]{1,6})?$", "a number that is not negative, such as 0.01"),
]
TaskName = Annotated[
    str,
    Field(min_length=1, max_length=63),
    matching("^[A-Za-z0-9][A-Za-z0-9_.-]*$", "the name of a task: letters, digits, '_', '.' and '-'"),
]
Percent = Annotated[
    str,
    Field(min_length=1, max_length=8),
    matching("^[0-9]{1,3}([.][0-9]{1,3})?$", "a number of percent, such as 97 or 98.5"),
]
MemoryQuantity = Annotated[
    str,
    Field(min_length=2, max_length=16),
    matching("^[1-9][0-9]{0,7}(Mi|Gi|Ti)$", "an amount of memory in Mi, Gi or Ti, such as 64Gi"),
]


class ConfigMapKeyRef(ApiModel):
    """A key of a ConfigMap in the namespace of the LLMDeployment."""

    name: DnsSubdomain
    """Name of the ConfigMap."""
    key: SecretKeyName
    """Key in the ConfigMap whose value is meant."""


class Calibration(ApiModel):
    """What a calibrated algorithm runs the model on."""

    config_map_key_ref: ConfigMapKeyRef | None = None
    """Texts, one JSON object a line: {"text": …} or {"messages": […]}. Omitted: Python's own library. Other texts
    need a ConfigMap of another name."""
    samples: Annotated[int, Field(ge=1, le=8192)] = recipe.DEFAULT_SAMPLES
    """Texts that are used, from 1 to 8192."""
    max_sequence_length: Annotated[int, Field(ge=16, le=131072)] = recipe.DEFAULT_SEQUENCE_TOKENS
    """Tokens of a text that are used, from 16 to 131072."""
    seed: Annotated[int, Field(ge=0, le=2**31 - 1)] = recipe.DEFAULT_SEED
    """Of which texts are taken and in which order."""


class Evaluation(ApiModel):
    """What the loss is measured on."""

    config_map_key_ref: ConfigMapKeyRef
    """Texts, as for calibration; none of them may be in both. Other texts need a ConfigMap of another name."""


class Task(ApiModel):
    """A task of lm-evaluation-harness that both models do."""

    name: TaskName
    """`task` in its YAML file."""
    limit: Annotated[int, Field(ge=0, le=100000)] = 0
    """Questions of it, the first ones. 0: all."""
    min_recovery_percent: Percent = "97"
    """Least score of the quantized model in percent of the source's."""


class Tasks(ApiModel):
    """Tasks, and a ConfigMap with their YAML files and the .jsonl files of questions that these name."""

    config_map_name: DnsSubdomain
    """Name of the ConfigMap. What a file may say is listed, and nothing of it is run; other files need another name."""
    tasks: Annotated[
        tuple[Task, ...],
        Field(
            min_length=1,
            max_length=16,
            json_schema_extra={"x-kubernetes-list-type": "atomic"},
        ),
        Rules(
            Rule(
                "self.all(task, self.exists_one(other, other.name == task.name))",
                lambda tasks: len({task.name for task in tasks}) == len(tasks),
                "each task must be named once",
            )
        ),
    ]
    """The tasks that are done."""


class RecallGate(ApiModel):
    """How much of a long context must be recalled."""

    tokens: Annotated[int, Field(ge=FEWEST_CONTEXT_TOKENS, le=1048576)] = 16384
    """Length of the context, 1024 or more, and at most what the model was made for."""
    min_recall: Share = "0.9"
    """Least recall as a share of the source's. A source that recalls nothing does not pass; 0 asks for nothing."""


class Gate(ApiModel):
    """How good a quantized model must be beside its source. Omitted bounds follow from the bits of a weight: with 8 or
    more 1 %, 0.01 and 0.97, with fewer 3 %, 0.05 and 0.92. A change judges again without quantizing again."""

    evaluation: Evaluation | None = None
    """Texts to measure with. Omitted: Python's own library, other files of it than calibration uses."""
    max_perplexity_increase_percent: Amount | None = None
    """Most that the perplexity may rise: the end of the 95 % interval of the paired difference.
    Omitted: 1, with fewer than 8 bits 3."""
    max_kl_divergence: Annotated[Amount | None, Field(alias="maxKLDivergence")] = None
    """Most KL divergence from the source's next token, the mean over tokens, in nats. Omitted: 0.01, with fewer
    than 8 bits 0.05."""
    min_top1_agreement: Share | None = None
    """Least share of tokens for which both models put the same one first. Omitted: 0.97, with fewer than 8
    bits 0.92."""
    tasks: Tasks | None = None
    """What else both models have to do."""
    long_context: RecallGate | None = None
    """Recall from a long context. Omitted: as if {} were given where the KV cache is quantized, else not measured."""
    on_failure: GateFailure = GateFailure.FAIL
    """Fail: it is not served, and what served before goes on. ServeUnquantized: the source is served instead.
    Warn: it is served, and the condition says what it lacks."""

    def long_context_tokens(self, kv_cache: KVCache) -> int:
        """How long the context is that is to be recalled; 0: none is."""
        recall = self._recall(kv_cache)
        return recall.tokens if recall else 0

    def _recall(self, kv_cache: KVCache) -> RecallGate | None:
        return self.long_context or (RecallGate() if kv_cache is not KVCache.AS_COMPUTED else None)

    def thresholds(self, scheme: Scheme, kv_cache: KVCache = KVCache.AS_COMPUTED) -> Thresholds:
        """What this gate asks of a model in this scheme."""
        recall = self._recall(kv_cache)
        usual = Thresholds.of_bits(scheme.weight_bits)
        rise, divergence = self.max_perplexity_increase_percent, self.max_kl_divergence
        agreement = self.min_top1_agreement
        return Thresholds(
            perplexity_increase_percent=usual.perplexity_increase_percent if rise is None else float(rise),
            kl_divergence=usual.kl_divergence if divergence is None else float(divergence),
            top1_agreement=usual.top1_agreement if agreement is None else float(agreement),
            min_task_recovery_percent={
                task.name: float(task.min_recovery_percent) for task in (self.tasks.tasks if self.tasks else ())
            },
            min_long_context_recall=float(recall.min_recall) if recall else 0.0,
        )


class QuantizationJob(ApiModel):
    """Where and how long the Jobs run that quantize and evaluate. No part of what they make."""

    classes: Annotated[
        tuple[AcceleratorClassName, ...],
        Field(max_length=8, json_schema_extra={"x-kubernetes-list-type": "atomic"}),
    ] = ()
    """Accelerator classes, in order of preference. Omitted: cpu without calibration or up to 1B parameters, else the
    role's own."""
    memory: MemoryQuantity | None = None
    """Memory of the Job. Omitted: by the size of the model. After an out-of-memory kill it is tried once more with half
    as much again."""
    active_deadline: Annotated[Duration, between("1m", "168h")] = "4h"
    """Most time of one try, 1m to 168h. What cannot end before it, by estimate, is not begun."""

    @property
    def active_deadline_seconds(self) -> int:
        return seconds_of(self.active_deadline)


def _algorithms() -> Rule:
    of = {each: [scheme.value for scheme in Scheme if each in scheme.algorithms] for each in Algorithm}
    of_all = [each for each in Algorithm if len(of[each]) == len(Scheme)]
    cases = " || ".join(
        f"self.algorithm == '{each}'" + ("" if each in of_all else f" && self.scheme in {of[each]}")
        for each in Algorithm
    )
    told = "; ".join(f"{each} for {', '.join(of[each])}" for each in Algorithm if each not in of_all)
    return Rule(
        f"!has(self.scheme) || !has(self.algorithm) || {cases}",
        lambda given: (
            given.scheme is None
            or given.algorithm is None
            or given.algorithm in of_all
            or given.scheme in of[given.algorithm]
        ),
        f"algorithm must be RTN, or {told}",
        path=".algorithm",
        given=members("scheme", "algorithm"),
    )


def _words(schemes: Iterable[AnyScheme]) -> str:
    """A CEL list."""
    return f"[{', '.join(repr(scheme.value) for scheme in schemes)}]"


def _is_for_drafts(quantization: str) -> str:
    """CEL: that bitsandbytes quantizes, by the expression of a quantization."""
    return f"(has({quantization}.scheme) && {quantization}.scheme in {_words(DraftScheme)})"


def is_offline(quantization: str) -> str:
    """CEL: that Jobs quantize, by the expression of a quantization; an omitted mode is `_usual_mode`."""
    given = f"{quantization}.mode"
    return f"(has({given}) ? {given} == 'Offline' : !{_is_for_drafts(quantization)})"


_OF_OFFLINE = ("algorithm", "calibration", "gate", "job")
_FOR_DRAFTS = " or ".join(DraftScheme)


def _is_offline_only(given: Quantization) -> bool:
    return any(getattr(given, name) is not None for name in _OF_OFFLINE)


def _read_scheme(value: object) -> AnyScheme:
    """One of either list: a union of both would tell two errors, neither at the field's own path."""
    kinds: tuple[type[AnyScheme], ...] = (Scheme, DraftScheme)
    for kind in kinds:
        if isinstance(value, kind) or (isinstance(value, str) and value in list(kind)):
            return kind(value)
    words = [repr(word.value) for kind in kinds for word in kind]
    raise PydanticCustomError("enum", "Input should be {expected}", {"expected": f"one of {', '.join(words)}"})


GivenScheme = Annotated[AnyScheme, BeforeValidator(_read_scheme)]


def _usual_mode(given: Mapping[str, Any]) -> QuantizationMode:
    return QuantizationMode.ONLINE if isinstance(given.get("scheme"), DraftScheme) else QuantizationMode.OFFLINE


class Quantization(ApiModel):
    """The form in which the model is served. {} is enough: then scheme and algorithm suit the accelerator."""

    RULES: ClassVar[tuple[Rule, ...]] = (
        _algorithms(),
        Rule(
            is_offline("self") + " || (" + " && ".join(f"!has(self.{name})" for name in _OF_OFFLINE) + ")",
            lambda given: given.mode is QuantizationMode.OFFLINE or not _is_offline_only(given),
            f"{', '.join(_OF_OFFLINE)} must be left out unless mode is Offline",
        ),
        Rule(
            "!has(self.mode) || self.mode != 'Prequantized' || !has(self.scheme)",
            lambda given: given.mode is not QuantizationMode.PREQUANTIZED or given.scheme is None,
            "scheme must be left out when mode is Prequantized: the files say it",
            path=".scheme",
        ),
        Rule(
            "!has(self.mode) || self.mode != 'Online' || !has(self.scheme)"
            f" || self.scheme in {_words((*ONLINE_SCHEMES, *DraftScheme))}",
            lambda given: (
                given.mode is not QuantizationMode.ONLINE or given.scheme in {None, *ONLINE_SCHEMES, *DraftScheme}
            ),
            f"scheme must be one of {', '.join((*ONLINE_SCHEMES, *DraftScheme))} when mode is Online",
            path=".scheme",
        ),
        Rule(
            f"!has(self.mode) || self.mode == 'Online' || !{_is_for_drafts('self')}",
            lambda given: given.mode is QuantizationMode.ONLINE or not isinstance(given.scheme, DraftScheme),
            f"mode must be Online, or left out, when scheme is {_FOR_DRAFTS}",
            path=".mode",
            given=members("mode", "scheme"),
        ),
        Rule(
            f"!{_is_for_drafts('self')} || ((!has(self.ignore) || self.ignore == {list(recipe.DEFAULT_IGNORED)})"
            f" && (!has(self.kvCache) || self.kvCache == '{KVCache.AS_COMPUTED}'))",
            lambda given: (
                not isinstance(given.scheme, DraftScheme)
                or (given.ignore == recipe.DEFAULT_IGNORED and given.kv_cache is KVCache.AS_COMPUTED)
            ),
            f"ignore and kvCache must be left out when scheme is {_FOR_DRAFTS}",
        ),
    )

    scheme: GivenScheme | None = None
    """What weights and activations become. Omitted: the first that the accelerator classes have a kernel for. NF4 and
    INT8 are bitsandbytes', for drafts with engine.type Transformers alone."""
    mode: Annotated[QuantizationMode, Field(default_factory=_usual_mode)]
    """Offline: Jobs quantize and measure, the result is published on spec.cache.volume. Online: the engine quantizes
    each time that it loads the model. Prequantized: the source must be quantized already. Omitted: Offline; Online for
    NF4 and INT8."""
    algorithm: Algorithm | None = None
    """How the weights are found. Omitted: RTN for 8 bits, GPTQ for 4."""
    ignore: Annotated[
        tuple[ModuleName, ...], Field(max_length=64, json_schema_extra={"x-kubernetes-list-type": "atomic"})
    ] = recipe.DEFAULT_IGNORED
    """Modules that stay as they are, by name, or by re: and a pattern."""
    kv_cache: Annotated[KVCache, Field(alias="kvCache")] = KVCache.AS_COMPUTED
    """fp8: the scales of a KV cache in FP8 are found by calibration, too. auto: as the engine computes."""
    calibration: Calibration | None = None
    """What a calibrated algorithm runs the model on. Omitted: as if {} were given."""
    gate: Gate | None = None
    """How good it must be. Omitted: it is measured, and served with a warning where it falls short."""
    job: QuantizationJob | None = None
    """Where and how long the Jobs run."""
