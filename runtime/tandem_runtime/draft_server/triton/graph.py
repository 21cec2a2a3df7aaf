"""Writes a Llama-shaped model as an ONNX graph, straight from its files: neither torch nor Transformers is needed.

One pass of the graph takes a batch of rows, padded to the longest. B rows, T new tokens, P tokens that came before:

    tokens      int64 [B, T]
    positions   int64 [B, T]
    mask        bool [B, 1, T, P + T]            what each new token sees
    ends        int64 [B]                        which of the B * T is the last new token of each row
    keys.L      float32 [B, heads, P, size]      of each layer, and values.L: what earlier passes gave
    next        int64 [B]                        the most likely token after each row
    new_keys.L  float32 [B, T, heads * size]     and new_values.L
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper
from safetensors import safe_open

from tandem_runtime.draft_server.triton.onnx_builder import Builder
from tandem_runtime.draft_server.triton.served_model import GRAPH_FILE, Shape

WEIGHTS_FILE = "model.weights"
OPSET, IR_VERSION = 23, 11
SERVED = ("llama", "mistral", "qwen2", "qwen3")
"""`model_type`s that differ from Llama's in nothing but biases, and norms of queries and keys."""
_WINDOW_OF_MISTRAL = 4096
"""Where its configuration is silent."""

Weights = dict[str, Any]


class UnservedModelError(ValueError):
    """The graph would not compute what this model does; the message says why."""


def export_graph(model: Path, folder: Path) -> Shape:
    """Write `GRAPH_FILE` and `WEIGHTS_FILE`, as float32, into `folder`.

    Raises UnservedModelError for a model that this is not made for, OSError for files that cannot be read.
    """
    config = json.loads((model / "config.json").read_text())
    _check(config)
    with _weights_of(model) as weights, (folder / WEIGHTS_FILE).open("wb") as file:
        try:
            builder = Builder(file, WEIGHTS_FILE)
            shape = _Llama(config, weights, builder).build()
        except KeyError as missing:
            raise UnservedModelError(f"{model}: there is no {missing} in its weights or its config.json") from None
        left = [name for name in weights if not name.endswith("rotary_emb.inv_freq")]
    if left:
        raise UnservedModelError(f"{model}: {min(left)} is no weight of a Llama-shaped model")
    graph = helper.make_graph(builder.nodes, "draft", builder.inputs, builder.outputs, builder.initializers)
    whole = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    (folder / GRAPH_FILE).write_bytes(whole.SerializeToString())
    onnx.checker.check_model(str(folder / GRAPH_FILE))
    return shape


def _check(config: Mapping[str, Any]) -> None:
    kind = config.get("model_type")
    if kind not in SERVED:
        raise UnservedModelError(f"model_type {kind} is not exported to ONNX, only {', '.join(SERVED)} are")
    if config.get("hidden_act", "silu") != "silu":
        raise UnservedModelError(f"hidden_act {config['hidden_act']} is not exported to ONNX, only silu is")
    if config.get("quantization_config"):
        raise UnservedModelError("quantized weights are not exported to ONNX")
    if kind == "mistral":
        window = config.get("sliding_window", _WINDOW_OF_MISTRAL)
    else:
        window = config.get("sliding_window") if config.get("use_sliding_window") else None
    if window is not None and window < config["max_position_embeddings"]:
        raise UnservedModelError(f"sliding_window {window} is not exported to ONNX")


@contextmanager
def _weights_of(model: Path) -> Iterator[Weights]:
    """Handles of all tensors by name; each is read when it is asked for."""
    with ExitStack() as stack:
        weights: Weights = {}
        for path in sorted(model.glob("*.safetensors")):
            file = stack.enter_context(safe_open(path, framework="numpy"))
            weights |= {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118 -- no mapping
        yield weights


def frequencies_of(config: Mapping[str, Any], size: int) -> Any:
    """How fast each pair of a head turns with the position, [size / 2] in radians a token.

    As `modeling_rope_utils` of Transformers has it. Raises UnservedModelError for a kind that is not computed here.
    """
    rope = config.get("rope_parameters") or {**(config.get("rope_scaling") or {})}
    base = rope.get("rope_theta") or config.get("rope_theta", 10_000.0)
    frequencies = 1.0 / base ** (np.arange(0, size, 2) / size)
    kind = rope.get("rope_type") or rope.get("type", "default")
    if rope.get("partial_rotary_factor", 1.0) != 1.0 or kind not in ("default", "linear", "llama3"):
        raise UnservedModelError(f"rotary embeddings of type {kind} are not exported to ONNX")
    if kind == "default":
        return frequencies
    if kind == "linear":
        return frequencies / rope["factor"]
    before = rope["original_max_position_embeddings"]
    low, high = rope["low_freq_factor"], rope["high_freq_factor"]
    waves = 2 * math.pi / frequencies
    smooth = np.clip((before / waves - low) / (high - low), 0.0, 1.0)
    return frequencies * (smooth + (1 - smooth) / rope["factor"])


class _Llama:
    """Adds the nodes of one model to a builder, and takes the weights that it uses out of `weights`."""

    def __init__(self, config: Mapping[str, Any], weights: Weights, builder: Builder) -> None:
        self._config, self._weights, self._b = config, weights, builder
        self._query_heads: int = config["num_attention_heads"]
        queries, hidden = weights["model.layers.0.self_attn.q_proj.weight"].get_shape()
        size = queries // self._query_heads
        vocabulary, _ = weights["model.embed_tokens.weight"].get_shape()
        self._hidden = hidden
        self.shape = Shape(
            layers=1 + max(int(name.split(".")[2]) for name in weights if name.startswith("model.layers.")),
            heads=weights["model.layers.0.self_attn.k_proj.weight"].get_shape()[0] // size,
            size=size,
            vocabulary=vocabulary,
            context_limit=config["max_position_embeddings"],
        )

    def build(self) -> Shape:
        b, shape = self._b, self.shape
        for name, dimensions in (("tokens", ["B", "T"]), ("positions", ["B", "T"]), ("ends", ["B"])):
            b.input(name, TensorProto.INT64, dimensions)
        b.input("mask", TensorProto.BOOL, ["B", 1, "T", "S"])
        angles = np.outer(np.arange(shape.context_limit), frequencies_of(self._config, shape.size))
        b.initializer("cosines", np.cos(angles))
        b.initializer("sines", np.sin(angles))
        embeddings = self._weight("model.embed_tokens.weight")
        hidden = b.node("Gather", embeddings, "tokens")
        for layer in range(shape.layers):
            at = f"model.layers.{layer}"
            hidden = b.node("Add", hidden, self._attention(layer, self._norm(f"{at}.input_layernorm", hidden)))
            hidden = b.node("Add", hidden, self._mlp(f"{at}.mlp", self._norm(f"{at}.post_attention_layernorm", hidden)))
        flat = b.node("Reshape", hidden, b.integers(-1, self._hidden))
        last = self._norm("model.norm", b.node("Gather", flat, "ends"))
        head = self._weight("lm_head.weight") if "lm_head.weight" in self._weights else embeddings
        b.node("ArgMax", b.node("Gemm", last, head, transB=1), axis=-1, keepdims=0, output="next")
        b.output("next", TensorProto.INT64, ["B"])
        return shape

    def _attention(self, layer: int, hidden: str) -> str:
        b, shape, at = self._b, self.shape, f"model.layers.{layer}.self_attn"
        queries = self._turned(at, "q", hidden, heads=self._query_heads)
        keys = self._turned(at, "k", hidden, heads=shape.heads, output=f"new_keys.{layer}")
        values = self._linear(f"{at}.v_proj", hidden, output=f"new_values.{layer}")
        for name in ("keys", "values"):
            b.input(f"{name}.{layer}", TensorProto.FLOAT, ["B", shape.heads, "P", shape.size])
            b.output(f"new_{name}.{layer}", TensorProto.FLOAT, ["B", "T", shape.heads * shape.size])
        seen = b.node(
            "Attention",
            *(queries, keys, values, "mask", f"keys.{layer}", f"values.{layer}"),
            q_num_heads=self._query_heads,
            kv_num_heads=shape.heads,
            unused=2,
        )
        return self._linear(f"{at}.o_proj", seen)

    def _turned(self, at: str, which: str, hidden: str, *, heads: int, output: str = "") -> str:
        """Queries or keys, turned by their positions."""
        b = self._b
        found = self._linear(f"{at}.{which}_proj", hidden)
        if f"{at}.{which}_norm.weight" in self._weights:
            by_head = b.node("Reshape", found, b.integers(0, 0, heads, self.shape.size))
            normed = self._norm(f"{at}.{which}_norm", by_head)
            found = b.node("Reshape", normed, b.integers(0, 0, heads * self.shape.size))
        return b.node("RotaryEmbedding", found, "cosines", "sines", "positions", num_heads=heads, output=output)

    def _mlp(self, at: str, hidden: str) -> str:
        b = self._b
        gate = self._linear(f"{at}.gate_proj", hidden)
        gate = b.node("Mul", gate, b.node("Sigmoid", gate))
        return self._linear(f"{at}.down_proj", b.node("Mul", gate, self._linear(f"{at}.up_proj", hidden)))

    def _norm(self, at: str, hidden: str) -> str:
        epsilon = self._config.get("rms_norm_eps", 1e-6)
        return self._b.node("RMSNormalization", hidden, self._weight(f"{at}.weight"), axis=-1, epsilon=epsilon)

    def _linear(self, at: str, hidden: str, *, output: str = "") -> str:
        name = f"{at}.weight"
        weight = self._b.initializer(name, self._weights.pop(name)[:].T)
        if f"{at}.bias" not in self._weights:
            return self._b.node("MatMul", hidden, weight, output=output)
        product = self._b.node("MatMul", hidden, weight)
        return self._b.node("Add", product, self._weight(f"{at}.bias"), output=output)

    def _weight(self, name: str) -> str:
        return self._b.initializer(name, self._weights.pop(name)[:])
