"""What may be set of an engine, and the range of each setting: one place for the CRD, the operator and the launcher.

Two kinds: the fields of `EngineSettings`, which an engine of another make would have too, and `FLAGS`, the list of
further flags of vLLM that a user may give by name. A flag is on the list only when it changes how requests are served
or counted. Never on it: what Tandem sets itself (model, ports, ranks, speculation, time-outs, keys), what loads code
or files of the user's choice (trust-remote-code, plugins, templates, class paths, remote addresses), and what writes
prompts to the log. Must not import vLLM; that its parser takes every entry is tested with the pinned version.
"""

import dataclasses
from collections.abc import Iterator, Mapping
from enum import StrEnum


class DataType(StrEnum):
    """Data types of weights and activations."""

    BFLOAT16 = "bfloat16"
    FLOAT16 = "float16"
    FLOAT32 = "float32"


class KVCacheDtype(StrEnum):
    """Data types of the KV cache."""

    AUTO = "auto"
    BFLOAT16 = "bfloat16"
    FLOAT16 = "float16"
    FP8 = "fp8"
    FP8_E4M3 = "fp8_e4m3"
    FP8_E5M2 = "fp8_e5m2"
    INT8_PER_TOKEN_HEAD = "int8_per_token_head"  # noqa: S105 -- tokens of text
    FP8_PER_TOKEN_HEAD = "fp8_per_token_head"  # noqa: S105
    NVFP4 = "nvfp4"


class AttentionBackend(StrEnum):
    """Kernels of the attention layers; which of them run is up to hardware and model."""

    FLASH_ATTN = "FLASH_ATTN"
    FLASHINFER = "FLASHINFER"
    TRITON_ATTN = "TRITON_ATTN"
    FLEX_ATTENTION = "FLEX_ATTENTION"
    FLASHMLA = "FLASHMLA"
    FLASHINFER_MLA = "FLASHINFER_MLA"
    FLASH_ATTN_MLA = "FLASH_ATTN_MLA"
    CUTLASS_MLA = "CUTLASS_MLA"
    TRITON_MLA = "TRITON_MLA"
    ROCM_ATTN = "ROCM_ATTN"
    ROCM_AITER_FA = "ROCM_AITER_FA"
    ROCM_AITER_MLA = "ROCM_AITER_MLA"


class OnlineQuantization(StrEnum):
    """What the engine can make of the weights while it loads them."""

    FP8_PER_CHANNEL = "fp8_per_channel"
    FP8_PER_BLOCK = "fp8_per_block"
    MXFP8 = "mxfp8"


class Compilation(StrEnum):
    """Whether the model is compiled and its steps captured as graphs at start."""

    COMPILED = "Compiled"
    EAGER = "Eager"


class Switch(StrEnum):
    """Something that can be on or off."""

    ENABLED = "Enabled"
    DISABLED = "Disabled"


class SchedulingPolicy(StrEnum):
    """Which waiting request is next."""

    FIRST_COME = "fcfs"
    PRIORITY = "priority"


class PrefixHash(StrEnum):
    """Hashes by which blocks of the prefix cache are found. The fast, insecure ones are left out: with them one
    tenant's prompt can be made to collide with another's."""

    SHA256 = "sha256"
    SHA256_CBOR = "sha256_cbor"


@dataclasses.dataclass(frozen=True)
class Whole:
    """A whole number from `least` to `most`."""

    least: int
    most: int

    def __str__(self) -> str:
        return f"a whole number from {self.least} to {self.most}"

    def allows(self, value: object) -> bool:
        return isinstance(value, int) and not isinstance(value, bool) and self.least <= value <= self.most

    def read(self, text: str) -> int | str:
        """The value that a command line spells; what is no number stays a text, which `allows` refuses."""
        return int(text) if text.isascii() and text.isdecimal() else text


@dataclasses.dataclass(frozen=True)
class OneOf:
    """One of a few texts."""

    choices: tuple[str, ...]

    def __str__(self) -> str:
        return f"one of {', '.join(self.choices)}"

    def allows(self, value: object) -> bool:
        return isinstance(value, str) and value in self.choices

    def read(self, text: str) -> str:
        """The value that a command line spells."""
        return text


Kind = Whole | OneOf
SWITCH = OneOf(tuple(Switch))
"""The kind of a flag that vLLM has as `--name` and `--no-name`."""

MODEL_LENGTH = Whole(1, 16_777_216)
BLOCK_TOKENS = Whole(8, 1024)
BLOCK_TOKENS_MULTIPLE = 8
MEMORY_PERCENT = Whole(1, 99)
SEQUENCES = Whole(1, 65_536)
BATCHED_TOKENS = Whole(1, 1_048_576)

_REASONING = (
    "cohere_command3", "cohere_command4", "deepseek_r1", "deepseek_v3", "deepseek_v4", "ernie45", "gemma4", "glm45",
    "glm47", "granite", "hunyuan_a13b", "kimi_k2", "kimi_k3", "minimax_m2", "minimax_m3", "mistral", "nemotron_v3",
    "olmo3", "openai_gptoss", "qwen3", "seed_oss", "step3", "step3p5",
)  # fmt: skip
_TOOL_CALLS = (
    "apertus", "cohere_command3", "cohere_command4", "deepseek_v3", "deepseek_v31", "deepseek_v32", "deepseek_v4",
    "ernie45", "gemma4", "glm45", "glm47", "granite", "granite4", "hermes", "hunyuan_a13b", "internlm", "jamba",
    "kimi_k2", "kimi_k3", "llama3_json", "llama4_json", "llama4_pythonic", "minimax_m2", "minimax_m3", "mistral",
    "olmo3", "openai", "phi4_mini_json", "pythonic", "qwen3_coder", "qwen3_json", "qwen3_xml", "seed_oss", "step3",
    "step3p5", "xlam",
)  # fmt: skip

FLAGS: Mapping[str, Kind] = {
    # answers
    "chat-template-content-format": OneOf(("auto", "string", "openai")),
    "enable-auto-tool-choice": SWITCH,
    "enable-force-include-usage": SWITCH,
    "enable-prompt-tokens-details": SWITCH,
    "generation-config": OneOf(("auto", "vllm")),
    "logprobs-mode": OneOf(("raw_logits", "raw_logprobs", "processed_logits", "processed_logprobs")),
    "max-logprobs": Whole(0, 1000),
    "reasoning-parser": OneOf(_REASONING),
    "seed": Whole(0, 2**31 - 1),
    "sse-keep-alive-interval": Whole(0, 3600),
    "stream-interval": Whole(1, 1000),
    "tool-call-parser": OneOf(_TOOL_CALLS),
    # queue and batch
    "long-prefill-token-threshold": Whole(0, MODEL_LENGTH.most),
    "max-num-active-seqs": SEQUENCES,
    "max-num-queued-reqs": Whole(1, 1_000_000),
    "max-num-queued-tokens": Whole(1, 2**31 - 1),
    "performance-mode": OneOf(("balanced", "interactivity", "throughput")),
    # execution
    "disable-custom-all-reduce": SWITCH,
    "disable-hybrid-kv-cache-manager": SWITCH,
    "disable-sliding-window": SWITCH,
    "enable-expert-parallel": SWITCH,
    "max-cudagraph-capture-size": Whole(1, 8192),
    "optimization-level": Whole(0, 3),
    "safetensors-load-strategy": OneOf(("lazy", "eager", "prefetch")),
    # multimodal models
    "language-model-only": SWITCH,
    "mm-processor-cache-gb": Whole(0, 256),
    # metrics
    "cudagraph-metrics": SWITCH,
    "enable-mfu-metrics": SWITCH,
    "kv-cache-metrics": SWITCH,
    "per-request-spec-decode-metrics": OneOf(("summary", "detailed")),
}


def flags_refused(flags: Mapping[str, object]) -> Iterator[str]:
    """A sentence for each flag that is not on the list, or whose value is outside its range."""
    for name in sorted(flags):
        if name not in FLAGS:
            yield f"{name!r} is not a flag that may be set (allowed: {', '.join(FLAGS)})"
        elif not FLAGS[name].allows(flags[name]):
            yield f"{name} (is {flags[name]!r}): must be {FLAGS[name]}"


@dataclasses.dataclass(frozen=True, kw_only=True)
class EngineSettings:
    """What is set; None and a missing flag leave it to the engine. Ranges: the constants of this module."""

    data_type: DataType | None = None
    max_model_length: int | None = None
    kv_cache_dtype: KVCacheDtype | None = None
    quantization: OnlineQuantization | None = None
    attention_backend: AttentionBackend | None = None
    compilation: Compilation | None = None
    block_tokens: int | None = None
    memory_percent: int | None = None
    max_sequences: int | None = None
    max_batched_tokens: int | None = None
    chunked_prefill: Switch | None = None
    scheduling_policy: SchedulingPolicy | None = None
    prefix_caching: Switch | None = None
    prefix_hash: PrefixHash | None = None
    flags: Mapping[str, int | str] = dataclasses.field(default_factory=dict)

    def given(self) -> dict[str, object]:
        """What is set, by field, as plain values."""
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return {name: value for name, value in values.items() if value is not None and value != {}}

    def refused(self) -> Iterator[tuple[str, object, str]]:
        """Field, value and range of each setting that is outside its range."""
        for name, kind in _RANGES.items():
            value = getattr(self, name)
            if value is not None and not kind.allows(value):
                yield name, value, str(kind)
        if self.block_tokens is not None and self.block_tokens % BLOCK_TOKENS_MULTIPLE:
            yield "block_tokens", self.block_tokens, f"a multiple of {BLOCK_TOKENS_MULTIPLE}"


_RANGES: Mapping[str, Whole] = {
    "max_model_length": MODEL_LENGTH,
    "block_tokens": BLOCK_TOKENS,
    "memory_percent": MEMORY_PERCENT,
    "max_sequences": SEQUENCES,
    "max_batched_tokens": BATCHED_TOKENS,
}
