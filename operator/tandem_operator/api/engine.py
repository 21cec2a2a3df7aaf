"""`engine`: the program that serves a model, and what may be set of it.

Environment variables cannot be set at all: some of them (LD_*, PYTHON*, VLLM_PLUGINS) would load the user's code into
the engine. Ranges and the list of flags come from `tandem_contracts.engine_settings`.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from typing import Annotated, Any, ClassVar

from pydantic import Field, PlainValidator, WithJsonSchema
from pydantic_core import PydanticCustomError

from tandem_contracts import engine_settings
from tandem_contracts.engine_settings import (
    FLAGS,
    AttentionBackend,
    Compilation,
    DataType,
    EngineSettings,
    Kind,
    KVCacheDtype,
    PrefixHash,
    SchedulingPolicy,
    Switch,
    Whole,
)
from tandem_operator.api.fields import ApiModel, Given, ImageReference, Rule, Rules, listed, members

FLAGS_AT_ONCE = 32
_VALUE_LENGTH = 64
_WHOLE_LIMIT = 2**63


class EngineType(StrEnum):
    """Programs that can serve a role."""

    VLLM = "VLLM"
    TRANSFORMERS = "Transformers"
    TRITON = "Triton"
    CUSTOM = "Custom"


def _within(kind: Whole) -> Any:
    return Field(ge=kind.least, le=kind.most)


class Paging(ApiModel):
    """How the KV cache is cut up, and how much memory it gets."""

    block_size: (
        Annotated[
            int,
            _within(engine_settings.BLOCK_TOKENS),
            Field(multiple_of=engine_settings.BLOCK_TOKENS_MULTIPLE),
        ]
        | None
    ) = None
    """Tokens of one block of the KV cache. Omitted: the engine's choice for the hardware."""
    memory_utilization_percent: Annotated[int, _within(engine_settings.MEMORY_PERCENT)] | None = None
    """Share of an accelerator's memory that the engine may use. Omitted: 92."""


class Scheduler(ApiModel):
    """How requests share a step of the engine."""

    RULES: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "!has(self.maxBatchedTokens) || !has(self.maxSequences) || self.maxBatchedTokens >= self.maxSequences",
            lambda scheduler: (
                scheduler.max_batched_tokens is None
                or scheduler.max_sequences is None
                or scheduler.max_batched_tokens >= scheduler.max_sequences
            ),
            "maxBatchedTokens must not be below maxSequences",
            path=".maxBatchedTokens",
            given=members("maxBatchedTokens", "maxSequences"),
        ),
    )

    max_sequences: Annotated[int, _within(engine_settings.SEQUENCES)] | None = None
    """Most requests that run at once; others wait."""
    max_batched_tokens: Annotated[int, _within(engine_settings.BATCHED_TOKENS)] | None = None
    """Most tokens of one step."""
    chunked_prefill: Switch | None = None
    """Enabled: a long prompt is read over several steps, beside requests that are being answered."""
    policy: SchedulingPolicy | None = None
    """fcfs: first come, first served. priority: by the request's own `priority`, the lowest first."""


class PrefixCache(ApiModel):
    """Reuse of the KV cache between requests that begin alike."""

    RULES: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "!has(self.hash) || !has(self.mode) || self.mode != 'Disabled'",
            lambda cache: cache.hash is None or cache.mode is not Switch.DISABLED,
            "hash must be left out when mode is Disabled",
            path=".hash",
        ),
    )

    mode: Switch | None = None
    """Whether there is one. Omitted: where the model allows it."""
    hash: PrefixHash | None = None
    """How blocks are told apart. sha256_cbor is the same in every process. Fast, insecure hashes are not offered."""


def _is_flag_value(value: Any) -> int | str:
    is_whole = isinstance(value, int) and not isinstance(value, bool) and abs(value) < _WHOLE_LIMIT
    if not is_whole and not isinstance(value, str):
        raise PydanticCustomError("int_or_string", "must be a whole number or a text")
    if isinstance(value, str) and len(value) > _VALUE_LENGTH:
        raise PydanticCustomError("too_long", "must have at most {limit} characters", {"limit": _VALUE_LENGTH})
    checked: int | str = value
    return checked


FlagValue = Annotated[
    int | str,
    PlainValidator(_is_flag_value),
    WithJsonSchema({"x-kubernetes-int-or-string": True, "maxLength": _VALUE_LENGTH}),
]


def _rule_of(kind: Kind, flags: tuple[str, ...]) -> Rule:
    """All of these flags are of this kind."""
    if isinstance(kind, Whole):
        allowed = f"type(self[name]) == int && self[name] >= {kind.least} && self[name] <= {kind.most}"
    else:
        allowed = f"self[name] in {_cel(kind.choices)}"
    return Rule(
        f"{_cel(flags)}.all(name, !(name in self) || ({allowed}))",
        lambda given: all(name not in given or kind.allows(given[name]) for name in flags),
        f"{', '.join(flags)} must be {kind}",
        given=Given(
            "given: %s",
            (f"{_cel(flags)}.map(name, name in self, self[name])",),
            lambda given: (listed(given[name] for name in flags if name in given),),
        ),
    )


def _cel(texts: Iterable[str]) -> str:
    """A CEL list of texts without quotes in them."""
    return f"[{', '.join(repr(str(text)) for text in texts)}]"


def _flag_rules() -> tuple[Rule, ...]:
    by_kind: dict[Kind, list[str]] = {}
    for name, kind in FLAGS.items():
        by_kind.setdefault(kind, []).append(name)
    on_the_list = Rule(
        f"self.all(name, name in {_cel(FLAGS)})",
        lambda given: all(name in FLAGS for name in given),
        f"the flags that may be set are {', '.join(FLAGS)}",
        given=Given(
            "not %s",
            (f"self.filter(name, !(name in {_cel(FLAGS)}))",),
            lambda given: (listed(name for name in given if name not in FLAGS),),
        ),
    )
    tool_choice = Rule(
        "!('enable-auto-tool-choice' in self) || self['enable-auto-tool-choice'] != 'Enabled'"
        " || 'tool-call-parser' in self",
        lambda given: given.get("enable-auto-tool-choice") != "Enabled" or "tool-call-parser" in given,
        "tool-call-parser is required when enable-auto-tool-choice is Enabled",
    )
    return on_the_list, tool_choice, *(_rule_of(kind, tuple(flags)) for kind, flags in by_kind.items())


Flags = Annotated[dict[str, FlagValue], Field(max_length=FLAGS_AT_ONCE), Rules(*_flag_rules())]


_SETTINGS_OF_VLLM = (
    "dataType", "maxModelLength", "kvCacheDtype", "attentionBackend", "compilation", "paging.blockSize",
    "paging.memoryUtilizationPercent", "scheduler.maxBatchedTokens", "scheduler.chunkedPrefill", "scheduler.policy",
    "prefixCache.mode", "prefixCache.hash", "args",
)  # fmt: skip


def _is_left_out(setting: str) -> str:
    """CEL: that a setting is not given. A frozen request has all groups written out, be they empty."""
    if setting == "args":
        return "(!has(self.args) || size(self.args) == 0)"
    group, _, name = setting.rpartition(".")
    return f"(!has(self.{group}) || !has(self.{group}.{name}))" if group else f"!has(self.{name})"


def _settings_of_vllm(engine: Engine) -> bool:
    """Whether anything is set that only vLLM has."""
    given = engine.settings.given().keys() - {"max_sequences"}
    return bool(given or engine.args)


class Engine(ApiModel):
    """The program that serves the model. Environment variables cannot be set: some of them load code."""

    RULES: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "!has(self.maxModelLength) || !has(self.scheduler) || !has(self.scheduler.maxBatchedTokens)"
            " || !has(self.scheduler.chunkedPrefill) || self.scheduler.chunkedPrefill != 'Disabled'"
            " || self.scheduler.maxBatchedTokens >= self.maxModelLength",
            lambda engine: (
                engine.max_model_length is None
                or engine.scheduler.max_batched_tokens is None
                or engine.scheduler.chunked_prefill is not Switch.DISABLED
                or engine.scheduler.max_batched_tokens >= engine.max_model_length
            ),
            "scheduler.maxBatchedTokens must not be below maxModelLength when scheduler.chunkedPrefill is Disabled",
            given=members("scheduler.maxBatchedTokens", "maxModelLength"),
        ),
        Rule(
            f"!has(self.type) || self.type == 'VLLM' || ({' && '.join(map(_is_left_out, _SETTINGS_OF_VLLM))})",
            lambda engine: engine.type is EngineType.VLLM or not _settings_of_vllm(engine),
            "only image and scheduler.maxSequences may be set when type is Transformers, Triton or Custom",
        ),
        Rule(
            "!has(self.type) || self.type != 'Custom' || has(self.image)",
            lambda engine: engine.type is not EngineType.CUSTOM or engine.image is not None,
            "image is required when type is Custom",
        ),
    )

    type: EngineType = EngineType.VLLM
    """VLLM: vLLM, as published. For drafts only, and of the settings they take scheduler.maxSequences alone:
    Transformers, a lean loop that suits small models; Triton, NVIDIA's server, with the model in ONNX Runtime; Custom,
    any server of the protocol tandem.draft.v1, started by its image's own command and told by TANDEM_* variables."""
    image: ImageReference | None = None
    """Image of the engine. It must match the operator's allow-list and, unless type is Custom, contain tandem_runtime.
    Omitted: the image of the accelerator class, and for Triton the one beside it."""
    data_type: DataType | None = None
    """Data type of weights and activations. Omitted: the one that the weights are kept in."""
    max_model_length: Annotated[int, _within(engine_settings.MODEL_LENGTH)] | None = None
    """Most tokens of prompt and answer together. Omitted: what the model was trained for."""
    kv_cache_dtype: KVCacheDtype | None = None
    """Data type of the KV cache. Omitted or auto: that of the model."""
    attention_backend: AttentionBackend | None = None
    """Kernels of the attention layers. Omitted: the engine's choice. On CPUs there is only one."""
    compilation: Compilation | None = None
    """Eager starts sooner and answers more slowly. Omitted: Compiled, and Eager on the class cpu."""
    paging: Paging = Paging()
    """The blocks of the KV cache, and its memory."""
    scheduler: Scheduler = Scheduler()
    """How requests share a step."""
    prefix_cache: PrefixCache = PrefixCache()
    """Reuse of what requests have in common."""
    args: Flags = Field(default_factory=dict)
    """Further flags of the engine by name, without dashes; on and off are Enabled and Disabled. A name that may not be
    set is refused with the list of those that may, a value with its range."""

    @property
    def settings(self) -> EngineSettings:
        """What is set, in the form that the launcher gets."""
        return EngineSettings(
            data_type=self.data_type,
            max_model_length=self.max_model_length,
            kv_cache_dtype=self.kv_cache_dtype,
            attention_backend=self.attention_backend,
            compilation=self.compilation,
            block_tokens=self.paging.block_size,
            memory_percent=self.paging.memory_utilization_percent,
            max_sequences=self.scheduler.max_sequences,
            max_batched_tokens=self.scheduler.max_batched_tokens,
            chunked_prefill=self.scheduler.chunked_prefill,
            scheduling_policy=self.scheduler.policy,
            prefix_caching=self.prefix_cache.mode,
            prefix_hash=self.prefix_cache.hash,
            flags=self.args,
        )
