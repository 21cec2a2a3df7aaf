"""How a model is quantized: what operator, Jobs, launchers and the key of an artifact mean by scheme and recipe. Pure.

The words of a recipe are those of llm-compressor and compressed-tensors. What hardware has a kernel for is not known
here: that changes with each engine, and is data of the operator's accelerator classes.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Self

GROUP_SIZE = 128
"""Weights that share a scale, in the integer schemes of 4 bits and fewer."""
DEFAULT_IGNORED = ("lm_head",)
TOOLCHAIN = {"llmcompressor": "0.14.0.1", "compressed-tensors": "0.19.0"}
"""What writes the files, as locked in requirements/artifacts.txt: part of the key of what it has made."""
DEFAULT_SAMPLES = 256
DEFAULT_SEQUENCE_TOKENS = 2048
DEFAULT_SEED = 42


class Algorithm(StrEnum):
    """How the quantized weights are found. All but RTN run the model on calibration data."""

    RTN = "RTN"
    """Rounding to the nearest value."""
    GPTQ = "GPTQ"
    AWQ = "AWQ"
    SMOOTH_QUANT_GPTQ = "SmoothQuantGPTQ"


class Scheme(StrEnum):
    """What weights and activations become."""

    FP8_DYNAMIC = "FP8_DYNAMIC"
    FP8_BLOCK = "FP8_BLOCK"
    W8A8 = "W8A8"
    W4A16 = "W4A16"
    W4A16_ASYM = "W4A16_ASYM"
    W2A16 = "W2A16"
    NVFP4 = "NVFP4"
    MXFP4 = "MXFP4"
    MXFP8 = "MXFP8"

    @property
    def algorithms(self) -> tuple[Algorithm, ...]:
        """Those that there are for it; the first one is the default."""
        return _TRAITS[self].algorithms

    @property
    def weight_bits(self) -> int:
        """Bits of a weight without its share of scales: what the gate's defaults go by."""
        return _TRAITS[self].weight_bits

    def stored_bytes(self, rows: int, columns: int, *, scale_bytes: int = 2) -> int:
        """Of a matrix in the files, its scales and zero points included; `scale_bytes`: of one in the model's type."""
        return _TRAITS[self].stored_bytes(rows, columns, scale_bytes)

    @property
    def has_static_activations(self) -> bool:
        """Whether scales of activations are measured beforehand, so that even RTN needs calibration data."""
        return self is Scheme.NVFP4


class DraftScheme(StrEnum):
    """What bitsandbytes makes of a draft model's linear layers as they are loaded: no file is ever written in it.

    The embedding and the output's matrix stay as they are. The words are bitsandbytes' own, in capitals.
    """

    NF4 = "NF4"
    """4 bits a weight, of a normal distribution; 64 share a scale."""
    INT8 = "INT8"
    """8 bits a weight, and activations of 8 bits; a row shares a scale."""

    def loaded_bytes(self, values: int, *, row: int) -> float:
        """Of `values` weights in memory with their scales, in float32; `row`: weights in a row of a matrix."""
        bits, block = (4, 64) if self is DraftScheme.NF4 else (8, row)
        return values * (bits / 8 + 4 / block)


AnyScheme = Scheme | DraftScheme


class KVCache(StrEnum):
    """What the cache of keys and values is kept in. `FP8`: with scales that calibration has found."""

    AS_COMPUTED = "auto"
    FP8 = "fp8"


@dataclasses.dataclass(frozen=True)
class _Traits:
    algorithms: tuple[Algorithm, ...]
    weight_bits: int
    block: tuple[int, int]
    """Rows and columns that share a scale; 0 columns: a whole row."""
    scale_bytes: int | None = None
    """None: as the model's own values."""
    has_zero_points: bool = False

    def stored_bytes(self, rows: int, columns: int, scale_bytes: int) -> int:
        high, wide = self.block
        blocks = math.ceil(rows / high) * (math.ceil(columns / wide) if wide else 1)
        size = scale_bytes if self.scale_bytes is None else self.scale_bytes
        zero_points = blocks * self.weight_bits // 8 if self.has_zero_points else 0
        return rows * columns * self.weight_bits // 8 + blocks * size + zero_points


_RTN = (Algorithm.RTN,)
_OF_4_BITS = (Algorithm.GPTQ, Algorithm.RTN, Algorithm.AWQ)
_OF_INT8 = (Algorithm.RTN, Algorithm.GPTQ, Algorithm.SMOOTH_QUANT_GPTQ)
_ROW, _GROUP = (1, 0), (1, GROUP_SIZE)
_TRAITS = {
    Scheme.FP8_DYNAMIC: _Traits(_RTN, 8, _ROW),
    Scheme.FP8_BLOCK: _Traits(_RTN, 8, (128, 128)),
    Scheme.W8A8: _Traits(_OF_INT8, 8, _ROW),
    Scheme.W4A16: _Traits(_OF_4_BITS, 4, _GROUP),
    Scheme.W4A16_ASYM: _Traits(_OF_4_BITS, 4, _GROUP, has_zero_points=True),
    Scheme.W2A16: _Traits(_RTN, 2, _GROUP),
    Scheme.NVFP4: _Traits(_RTN, 4, (1, 16), scale_bytes=1),
    Scheme.MXFP4: _Traits(_RTN, 4, (1, 32), scale_bytes=1),
    Scheme.MXFP8: _Traits(_RTN, 8, (1, 32), scale_bytes=1),
}


class InvalidRecipeError(ValueError):
    """Parts of a recipe do not go together; the message names value and what is allowed."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recipe:
    """All that decides what the quantized files say, but for the data of calibration.

    Raises InvalidRecipeError for an algorithm that the scheme has not.
    """

    scheme: Scheme
    algorithm: Algorithm
    kv_cache: KVCache = KVCache.AS_COMPUTED
    ignore: tuple[str, ...] = DEFAULT_IGNORED
    """Modules that stay as they are, by name or by `re:` and a pattern."""

    def __post_init__(self) -> None:
        if self.algorithm not in self.scheme.algorithms:
            allowed = ", ".join(self.scheme.algorithms)
            raise InvalidRecipeError(f"algorithm (is {self.algorithm}): {self.scheme} is made by one of {allowed}")

    @property
    def needs_calibration(self) -> bool:
        """Whether the model is run on data; the others go through the files shard by shard."""
        return (
            self.algorithm is not Algorithm.RTN
            or self.scheme.has_static_activations
            or self.kv_cache is not KVCache.AS_COMPUTED
        )

    def to_data(self) -> dict[str, Any]:
        """JSON values, each written out: what is a default today stays what it was."""
        return {
            "scheme": self.scheme.value,
            "algorithm": self.algorithm.value,
            "kvCache": self.kv_cache.value,
            "ignore": list(self.ignore),
        }

    @classmethod
    def from_data(cls, data: object) -> Self:
        """The reverse. Raises InvalidRecipeError."""
        if not isinstance(data, Mapping):
            raise InvalidRecipeError(f"recipe (is {data!r}): must be an object")
        try:
            return cls(
                scheme=Scheme(data["scheme"]),
                algorithm=Algorithm(data["algorithm"]),
                kv_cache=KVCache(data["kvCache"]),
                ignore=tuple(str(name) for name in data["ignore"]),
            )
        except (KeyError, TypeError) as error:
            raise InvalidRecipeError(f"recipe (is {data!r}): {error} is missing or of another type") from error
        except InvalidRecipeError:
            raise
        except ValueError as error:
            raise InvalidRecipeError(f"recipe (is {data!r}): {error}") from error


@dataclasses.dataclass(frozen=True, kw_only=True)
class CalibrationSettings:
    """How calibration data are used. `seed`: of which samples are taken and in which order."""

    samples: int = DEFAULT_SAMPLES
    sequence_tokens: int = DEFAULT_SEQUENCE_TOKENS
    seed: int = DEFAULT_SEED

    def to_data(self) -> dict[str, int]:
        """JSON values."""
        return {"samples": self.samples, "sequenceTokens": self.sequence_tokens, "seed": self.seed}

    @classmethod
    def from_data(cls, data: object) -> Self:
        """The reverse; what is missing is as by default. Raises InvalidRecipeError."""
        try:
            given = {name: int(value) for name, value in dict(data).items()}  # type: ignore[call-overload]
            return cls(
                samples=given.pop("samples", DEFAULT_SAMPLES),
                sequence_tokens=given.pop("sequenceTokens", DEFAULT_SEQUENCE_TOKENS),
                seed=given.pop("seed", DEFAULT_SEED),
            )
        except (TypeError, ValueError) as error:
            raise InvalidRecipeError(f"calibration (is {data!r}): {error}") from error
