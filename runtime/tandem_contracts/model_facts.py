"""What a model is, as far as placing and pairing it needs: read from its folder once, by the inspect Job.

The Job writes `ModelFacts` as its termination message, the operator reads it from the pod's status and sizes by it.
`model_facts_of` parses a Hugging Face config.json. Must not read files: it is given what they hold.
"""

import dataclasses
import json
import re
from collections.abc import Iterable, Mapping
from typing import Any, Self, TypeVar

from tandem_contracts.termination import MESSAGE_LIMIT_BYTES

LARGEST = 2**53
"""JSON readers agree on whole numbers up to here."""
ADDED = "added"
"""Metadata of a field that what was written before it was there does not have; its default stands for that."""
_WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.\-]{0,127}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_Facts = TypeVar("_Facts", bound="ModelFacts")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelFacts:
    """One model in one form. Figures are of the text part of a model that also sees or hears."""

    architecture: str
    """The class that config.json names first, as in LlamaForCausalLM."""
    layers: int
    """Transformer layers. All of them are counted as keeping keys and values: no estimate from it is too small."""
    hidden_size: int
    attention_heads: int
    kv_heads: int
    """Heads of keys and values a layer; as many as attention heads unless the model shares them."""
    head_dim: int
    """Values a head, of keys and of values each."""
    vocabulary_size: int
    """Rows of the embedding: ids are below it. May be padded, so that it differs where the tokenizer is the same."""
    tokenizer_hash: str
    """SHA-256 in hex of which id stands for which text (tokenizer.py); empty where the folder has no tokenizer."""
    data_type: str
    """Of the values that are computed with and of the KV cache, as in bfloat16; empty where nothing says it."""
    weights_bytes: int
    """Sum of the sizes of the weight files (*.safetensors)."""
    parameters: int = 0
    """Values in the weight files; 0 where it is unknown, as for packed quantized weights."""
    max_positions: int = 0
    """Longest context in tokens, extension of the positions (YaRN) included; 0 where it is unknown."""
    sliding_window: int = 0
    """Tokens that *every* layer looks back at most; 0 where one layer or more sees the whole context."""
    latent_kv_rank: int = 0
    """With multi-head latent attention: values kept a token and layer, kv_lora_rank + qk_rope_head_dim. Else 0."""
    quantization: str = ""
    """quant_method of config.json, as in fp8, awq, compressed-tensors; empty where the weights are as trained."""
    generation_min_p: float = 0.0
    """min_p that generation_config.json makes the default of every request; 0 where it makes none."""
    experts: int = 0
    """Routed experts a layer; 0 unless it is a mixture of experts."""
    active_experts: int = 0
    """Routed experts that a token goes through; 0 unless it is a mixture of experts."""
    linear_parameters: int = dataclasses.field(default=0, metadata={ADDED: True})
    """Values in the matrices of linear layers, without the embedding, the output's own matrix and routed experts; 0
    where it is unknown."""

    def to_data(self) -> dict[str, Any]:
        """Plain JSON values under their names on the wire (camelCase), in the order of the fields."""
        return {_wire(name): value for name, value in dataclasses.asdict(self).items()}

    @classmethod
    def from_data(cls, data: object) -> Self:
        """The inverse of `to_data`: exactly its names, but for those that were added.

        Raises ValueError that names path, value and what is allowed.
        """
        if not isinstance(data, Mapping):
            raise ValueError(f"model facts (is {_shown(data)}): must be an object")  # noqa: TRY004 - see above
        fields = {_wire(field.name): field for field in dataclasses.fields(cls)}
        for name in data:
            if name not in fields:
                raise ValueError(f"{_shown(name)}: is no model fact, allowed are {', '.join(fields)}")
        given: dict[str, Any] = {}
        for name, field in fields.items():
            if name not in data and ADDED in field.metadata:
                continue
            if name not in data:
                raise ValueError(f"{name} (is missing): must be given")
            value = data[name]
            given[field.name] = float(value) if field.type is float and _is_number(value) else value
        return _checked(cls(**given))

    def encode(self) -> str:
        """Compact JSON, at most MESSAGE_LIMIT_BYTES. Raises ValueError for values that `decode` would refuse."""
        text = json.dumps(_checked(self).to_data(), separators=(",", ":"))
        if len(text) > MESSAGE_LIMIT_BYTES:  # the limits of the fields leave no room for it
            raise ValueError(f"model facts (are {len(text)} bytes): must be at most {MESSAGE_LIMIT_BYTES}")
        return text

    @classmethod
    def decode(cls, text: str) -> Self:
        """The inverse of `encode`. Raises ValueError that names path, value and what is allowed."""
        if len(text.encode(errors="replace")) > MESSAGE_LIMIT_BYTES:
            raise ValueError(f"model facts (are {len(text)} characters): must be at most {MESSAGE_LIMIT_BYTES} bytes")
        try:
            data = json.loads(text)
        except (ValueError, RecursionError):
            raise ValueError(f"model facts (are {_shown(text)}): must be JSON") from None
        return cls.from_data(data)


def model_facts_of(
    config: Mapping[str, Any],
    *,
    weights_bytes: int,
    tokenizer_hash: str,
    generation_config: Mapping[str, Any],
    parameters: int = 0,
    linear_parameters: int = 0,
    stored_data_type: str = "",
) -> ModelFacts:
    """The facts in a Hugging Face `config.json` and, where there is one, `generation_config.json` (else empty).

    `parameters`, `linear_parameters` and `stored_data_type` are what the weight files themselves say; the last counts
    only where the configuration is silent.
    Raises ValueError that names the configuration's key, its value and what is allowed.
    """
    at, text = _text_part(config)
    read = _Reader(at, {**_OMITTED_DEFAULTS.get(_word_of(text.get("model_type")), {}), **text})
    heads = read.required("num_attention_heads", "n_head", "n_heads")
    hidden = read.required("hidden_size", "n_embd", "d_model")
    rotary = read.number("qk_rope_head_dim")
    latent = read.number("kv_lora_rank")
    return _checked(
        ModelFacts(
            architecture=_architecture(config),
            layers=read.required("num_hidden_layers", "n_layer", "num_layers", "n_layers"),
            hidden_size=hidden,
            attention_heads=heads,
            kv_heads=read.number("num_key_value_heads", "num_kv_heads", "n_head_kv", "multi_query_group_num")
            or (1 if text.get("multi_query") is True else heads),
            head_dim=read.number("head_dim", "v_head_dim") or max(1, hidden // heads),
            vocabulary_size=read.required("vocab_size", "padded_vocab_size"),
            tokenizer_hash=tokenizer_hash,
            data_type=_data_type(text, config) or stored_data_type,
            weights_bytes=weights_bytes,
            parameters=parameters,
            max_positions=_max_positions(read, text),
            sliding_window=_sliding_window(read, text),
            latent_kv_rank=latent + rotary if latent else 0,
            quantization=_quantization(config, text),
            generation_min_p=_min_p(generation_config),
            experts=read.number("num_local_experts", "num_experts", "n_routed_experts", "moe_num_experts"),
            active_experts=read.number("num_experts_per_tok", "experts_per_token", "num_experts_per_token", "moe_topk"),
            linear_parameters=linear_parameters,
        )
    )


_OMITTED_DEFAULTS: Mapping[str, Mapping[str, Any]] = {
    "gemma3_text": {
        "num_attention_heads": 8,
        "num_key_value_heads": 4,
        "head_dim": 256,
        "vocab_size": 262208,
        "max_position_embeddings": 131072,
    },
}
"""Published configurations of these types leave out what equals the default of their class in Transformers."""
_TEXT_PARTS = ("text_config", "llm_config", "language_config")
_POSITIONS = ("max_position_embeddings", "n_positions", "seq_length", "max_seq_len", "max_sequence_length")
_ALTERNATING = ("gemma2", "gemma3_text", "gemma3", "cohere2")
"""Types whose layers take turns in seeing the whole context, also where the configuration does not say so."""


class _Reader:
    """Whole numbers of a configuration under any of the names that its authors use."""

    def __init__(self, at: str, values: Mapping[str, Any]) -> None:
        self._at, self._values = at, values

    def number(self, *keys: str) -> int:
        """The first that is given; 0 where none is."""
        for key in keys:
            value = self._values.get(key)
            if value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= LARGEST:
                raise ValueError(f"{self._at}{key} (is {_shown(value)}): must be a whole number from 0 to {LARGEST}")
            return value
        return 0

    def required(self, *keys: str) -> int:
        """The first that is given, at least 1."""
        value = self.number(*keys)
        if value == 0:
            shown = "0" if any(self._values.get(key) == 0 for key in keys) else "missing"
            raise ValueError(f"{self._at}{keys[0]} (is {shown}): must be a whole number from 1 to {LARGEST}")
        return value


def _text_part(config: Mapping[str, Any]) -> tuple[str, Mapping[str, Any]]:
    """The part of the configuration that describes the language model, and its path."""
    for key in _TEXT_PARTS:
        part = config.get(key)
        if isinstance(part, Mapping) and part:
            return f"{key}.", {**{k: v for k, v in config.items() if k not in _TEXT_PARTS}, **part}
    return "", config


def _architecture(config: Mapping[str, Any]) -> str:
    named = config.get("architectures")
    first = named[0] if isinstance(named, list) and named else config.get("model_type")
    if not isinstance(first, str) or not _WORD.fullmatch(first):
        raise ValueError(f"architectures (is {_shown(named)}): must name a class, as in LlamaForCausalLM")
    return first


def _data_type(*parts: Mapping[str, Any]) -> str:
    for part in parts:
        for key in ("dtype", "torch_dtype"):  # newer configurations say dtype, older ones torch_dtype
            value = part.get(key)
            if value is not None:
                if not isinstance(value, str) or not _WORD.fullmatch(value):
                    raise ValueError(f"{key} (is {_shown(value)}): must be a data type, as in bfloat16")
                return value.removeprefix("torch.")
    return ""


def _max_positions(read: _Reader, text: Mapping[str, Any]) -> int:
    """As vLLM derives it: YaRN counts from the original length, llama3 and longrope are counted in already."""
    positions = read.number(*_POSITIONS)
    scaling = text.get("rope_scaling") or text.get("rope_parameters")
    if not isinstance(scaling, Mapping) or _word_of(text.get("model_type")).startswith("gemma3"):
        return positions
    kind, factor = scaling.get("rope_type", scaling.get("type")), scaling.get("factor", 1.0)
    if kind not in {"linear", "dynamic", "yarn"}:
        return positions
    if not _is_number(factor) or not 0 < factor <= LARGEST:
        raise ValueError(f"rope_scaling.factor (is {_shown(factor)}): must be above 0, at most {LARGEST}")
    original = scaling.get("original_max_position_embeddings") if kind == "yarn" else None
    base = positions if original is None else original
    if isinstance(base, bool) or not isinstance(base, int) or not 0 <= base <= LARGEST:
        where = "rope_scaling.original_max_position_embeddings"
        raise ValueError(f"{where} (is {_shown(base)}): must be a whole number from 0 to {LARGEST}")
    return min(LARGEST, int(base * factor))


def _sliding_window(read: _Reader, text: Mapping[str, Any]) -> int:
    if text.get("use_sliding_window") is False or _word_of(text.get("model_type")) in _ALTERNATING:
        return 0
    kinds = text.get("layer_types")
    if isinstance(kinds, Iterable) and any(kind != "sliding_attention" for kind in kinds):
        return 0
    if text.get("use_sliding_window") is True and read.number("max_window_layers") > 0:
        return 0  # Qwen: the first max_window_layers layers see everything
    if any(read.number(key) > 1 for key in ("sliding_window_pattern", "_sliding_window_pattern")):
        return 0
    return read.number("sliding_window")


def _quantization(*parts: Mapping[str, Any]) -> str:
    for part in parts:
        described = part.get("quantization_config") or part.get("compression_config")
        if described:
            method = described.get("quant_method", "") if isinstance(described, Mapping) else described
            if not isinstance(method, str) or not _WORD.fullmatch(method):
                raise ValueError(f"quantization_config.quant_method (is {_shown(method)}): must name a method")
            return method
    return ""


def _min_p(generation_config: Mapping[str, Any]) -> float:
    value = generation_config.get("min_p")
    if value is None:
        return 0.0
    if not _is_number(value) or not 0 <= value <= 1:
        raise ValueError(f"generation_config.json min_p (is {_shown(value)}): must be from 0 to 1")
    return float(value)


_AT_LEAST_ONE = {"layers", "hidden_size", "attention_heads", "kv_heads", "head_dim", "vocabulary_size"}
_WORDS = {"architecture", "data_type", "quantization"}


def _checked(facts: _Facts) -> _Facts:
    """The same facts. Raises ValueError for the first that is of a wrong type or outside its range."""
    for field in dataclasses.fields(facts):
        name, value = field.name, getattr(facts, field.name)
        if field.type is int:
            least = 1 if name in _AT_LEAST_ONE else 0
            fits = isinstance(value, int) and not isinstance(value, bool) and least <= value <= LARGEST
            allowed = f"a whole number from {least} to {LARGEST}"
        elif field.type is float:
            fits, allowed = _is_number(value) and 0 <= value <= 1, "a number from 0 to 1"
        elif name in _WORDS:
            is_empty = value == "" and name != "architecture"
            fits = is_empty or (isinstance(value, str) and _WORD.fullmatch(value) is not None)
            allowed = "1 to 128 of letters, digits, '.', '_' and '-'"
        else:
            fits = value == "" or (isinstance(value, str) and _SHA256.fullmatch(value) is not None)
            allowed = "empty or 64 hex digits"
        if not fits:
            raise ValueError(f"{_wire(name)} (is {_shown(value)}): must be {allowed}")
    return facts


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _wire(name: str) -> str:
    head, *rest = name.split("_")
    return head + "".join(part.capitalize() for part in rest)


def _word_of(value: object) -> str:
    return value if isinstance(value, str) else ""


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:79] + "…"
