"""For which quantized weights there is a kernel, by family of accelerators: data with its sources, no logic. Pure.

The order is that of preference: the first one is chosen where nobody names a scheme. A scheme that falls back to
weight-only kernels comes after those that compute in its type. CPU: each was served (`python -m benchmarks.quantize`).
GPUs: `get_min_capability` and the lists of kernels in vLLM 0.32, and llm-compressor's "Choosing the scheme"; not run.
For drafts on Transformers bitsandbytes 0.50 has its own, by the table "Accelerator support" of its README: on CPUs with
AVX2 (run), on GPUs of NVIDIA from compute capability 6.0 on, and of AMD (gfx90a, gfx942, gfx950 and others; not run).
It changes with both: look at it again when the engine images are of another version.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from tandem_contracts.recipe import AnyScheme, DraftScheme, Scheme

_S = Scheme
_INTEGER_4 = (_S.W4A16, _S.W4A16_ASYM)
_NO_2_BITS: Mapping[AnyScheme, str] = {_S.W2A16: "no kernel for weights of 2 bits"}


@dataclass(frozen=True)
class Kernels:
    """Schemes with a kernel, and why there is none for the others."""

    schemes: tuple[AnyScheme, ...]
    notes: Mapping[AnyScheme, str]


_CPU = Kernels(
    (_S.W8A8, *_INTEGER_4),
    {
        _S.FP8_DYNAMIC: "FP8 is only emulated there (ChannelWiseTorchFP8ScaledMM), at a twentieth of the speed of BF16",
        _S.FP8_BLOCK: "every kernel for FP8 in blocks requires AMX tiles",
        _S.NVFP4: "no kernel is registered",
        _S.MXFP4: "no kernel is registered",
        _S.MXFP8: "no kernel is registered",
        _S.W2A16: "CPUWNA16LinearKernel takes 4 bits only",
    },
)
_AMPERE = Kernels(
    (*_INTEGER_4, _S.W8A8, _S.FP8_DYNAMIC, _S.FP8_BLOCK, _S.MXFP8, _S.NVFP4, _S.MXFP4),
    _NO_2_BITS,
)
_ADA = Kernels(
    (_S.FP8_DYNAMIC, _S.W8A8, *_INTEGER_4, _S.FP8_BLOCK, _S.MXFP8, _S.NVFP4, _S.MXFP4),
    _NO_2_BITS,
)
_HOPPER = Kernels(
    (_S.FP8_DYNAMIC, _S.FP8_BLOCK, _S.W8A8, *_INTEGER_4, _S.MXFP8, _S.NVFP4, _S.MXFP4),
    _NO_2_BITS,
)
_BLACKWELL = Kernels(
    (_S.FP8_DYNAMIC, _S.NVFP4, _S.MXFP4, _S.MXFP8, _S.FP8_BLOCK, *_INTEGER_4),
    {**_NO_2_BITS, _S.W8A8: "the INT8 kernels are not for compute capability 10.0 and above: FP8 is"},
)
_NO_FP4: Mapping[AnyScheme, str] = {
    _S.NVFP4: "only emulated there",
    _S.MXFP4: "its kernel is for gfx95x",
    _S.MXFP8: "its kernel is for gfx95x",
}
_MI300 = Kernels((_S.FP8_DYNAMIC, _S.FP8_BLOCK, _S.W8A8, *_INTEGER_4), {**_NO_2_BITS, **_NO_FP4})
_MI350 = Kernels(
    (_S.FP8_DYNAMIC, _S.MXFP4, _S.MXFP8, _S.FP8_BLOCK, _S.W8A8, *_INTEGER_4),
    {**_NO_2_BITS, _S.NVFP4: "only emulated there"},
)
_MI200 = Kernels(
    (*_INTEGER_4, _S.W8A8),
    {**_NO_2_BITS, **_NO_FP4, _S.FP8_DYNAMIC: "it has no FP8", _S.FP8_BLOCK: "it has no FP8"},
)
UNKNOWN = Kernels((), dict.fromkeys(DraftScheme, "drafts on Transformers run on CPUs and on GPUs of NVIDIA and AMD"))
"""Of hardware whose engine reads other formats, or that nobody has looked into."""

_FAMILIES = {
    "cpu": _CPU,
    "nvidia-b": _BLACKWELL,
    "nvidia-rtx-pro-6000": _BLACKWELL,
    "nvidia-h": _HOPPER,
    "nvidia-l4": _ADA,
    "nvidia-a": _AMPERE,
    "amd-mi35": _MI350,
    "amd-mi3": _MI300,
    "amd-mi2": _MI200,
}


def kernels_of(name: str) -> Kernels:
    """Of a class that Tandem ships."""
    found = next((kernels for family, kernels in _FAMILIES.items() if name.startswith(family)), UNKNOWN)
    return found if found is UNKNOWN else replace(found, schemes=(*found.schemes, *DraftScheme))
