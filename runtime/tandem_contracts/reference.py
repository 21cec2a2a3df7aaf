"""What a quantized model says of a few tokens: recorded where it was measured, asked again of the engine that is to
serve it. Pure.

A kernel that reads scales or groups in another order than they were written answers with finite probabilities of wrong
tokens. Nothing but the same model's own figures shows that.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from statistics import fmean
from typing import Any, Self

WINDOWS = 8
WINDOW_TOKENS = 24
"""Together 184 log probabilities, 2.3 kB: a container's last word has room for 4 kB in all."""
DECIMALS = 3
KERNEL_NOISE = 0.25
"""What a healthy engine may be away from the record, the mean over tokens in nats: three times the most ever seen.

vLLM 0.32 on CPUs, the 26 M parameter verifier of `deploy/fixtures` over 40 windows: W4A16 0.001 in float16, 0.010 in
bfloat16; W8A8 0.006 in float16 and float32, 0.012 in bfloat16; FP8_DYNAMIC 0.017; with the cache in FP8 0.028 to
0.033. The 1 M parameter draft in bfloat16: 0.011 and 0.021, with the cache in FP8 0.086. Published of GPUs in
bfloat16, two engines with the same weights: 0.011 for Qwen3 4B (vllm-project/vime#64), a root mean square of 0.03 for
Qwen2.5 0.5B (ServiceNow/Fast-LLM#525), 0.041 to 0.067 with routed experts (radixark/miles#2722,
verl-project/verl-omni#637).

The same files in a wrong layout, verifier and draft: the eight values of a word from its other end 3.7 and 7.4,
scales of all channels in another order 0.30 and 0.89, of one layer 0.012 and 0.45. Their mean loss may be as before
(the draft's falls by 0.06), which is why differences are judged token by token. Not found: one layer of 24, which
that model hardly needs, and groups of 128 in another order (0.14 and 0.07).
"""
SPREADS = 2.0
"""The same as a multiple of what quantizing has changed, where that is more.

Two kernels that round values on the way (NVFP4, MXFP4, W8A8, FP8) do not round them to the same ones, so what they are
away from each other is up to √2 of what each is away from the source; a kernel that rounds weights alone is nearer.
By hand in PyTorch, rounding to 4 bits on the way makes 0.06 to 0.25 of it.
"""


@dataclasses.dataclass(frozen=True)
class Window:
    """Token ids in a row, and of each but the first its negative log probability after those before it, in nats.

    Raises ValueError for what cannot be one.
    """

    tokens: tuple[int, ...]
    losses: tuple[float, ...]

    def __post_init__(self) -> None:
        if len(self.tokens) < 2 or len(self.losses) != len(self.tokens) - 1:
            raise ValueError(f"a window of {len(self.tokens)} tokens and {len(self.losses)} losses: must be one more")
        if min(self.tokens) < 0 or not all(0 <= loss < math.inf for loss in self.losses):
            raise ValueError("a window: token ids must be 0 or more, losses 0 or more and finite")

    def to_data(self) -> dict[str, str]:
        """JSON values, a text each: a status is read by people, too, and a number a line would be 400 lines."""
        return {
            "tokens": " ".join(map(str, self.tokens)),
            "losses": " ".join(f"{loss:.{DECIMALS}f}" for loss in self.losses),
        }

    @classmethod
    def from_data(cls, data: object) -> Self:
        """The reverse. Raises ValueError."""
        match data:
            case {"tokens": str(tokens), "losses": str(losses), **others} if not others:
                return cls(tuple(map(int, tokens.split())), tuple(map(float, losses.split())))
        raise ValueError(f"window (is {str(data)[:100]}): must be an object with tokens and losses")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Reference:
    """The record. Raises ValueError for one without windows, or with a spread that is no number."""

    manifest: str
    """SHA-256 in hex of the manifest of the artifact that was measured: it holds for no other files."""
    spread: float
    """Mean absolute difference from the source's log probabilities of the same tokens, in nats."""
    windows: tuple[Window, ...]

    def __post_init__(self) -> None:
        if not self.windows or not 0 <= self.spread < math.inf:
            raise ValueError(f"a reference must have windows, and a spread (is {self.spread}) of 0 or more")

    @property
    def allowed(self) -> float:
        """Most that an engine's log probabilities may differ on average, in nats."""
        return max(KERNEL_NOISE, SPREADS * self.spread)

    def to_data(self) -> dict[str, Any]:
        """JSON values."""
        windows = [window.to_data() for window in self.windows]
        return {"manifest": self.manifest, "spread": round(self.spread, DECIMALS), "windows": windows}

    @classmethod
    def from_data(cls, data: object) -> Self:
        """The reverse. Raises ValueError."""
        match data:
            case {"manifest": str(manifest), "spread": int() | float() as spread, "windows": [*windows]}:
                return cls(manifest=manifest, spread=float(spread), windows=tuple(map(Window.from_data, windows)))
        raise ValueError(f"reference (is {str(data)[:100]}): must be an object with manifest, spread and windows")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Deviation:
    """How far an engine is from a reference."""

    tokens: int
    """That were compared."""
    mean: float
    """Of the absolute differences of log probabilities, in nats."""
    loss: float
    """Mean loss that the engine says, in nats."""
    recorded_loss: float
    allowed: float
    """Most, of `mean`."""

    @property
    def is_allowed(self) -> bool:
        """False for NaN, too."""
        return self.mean <= self.allowed

    def __str__(self) -> str:
        return (
            f"over {self.tokens} tokens its log probabilities are {self.mean:.3f} nats from the recorded ones on "
            f"average (allowed: {self.allowed:g}), the mean loss is {self.loss:.3f} (recorded: "
            f"{self.recorded_loss:.3f})"
        )


def deviation_of(reference: Reference, losses: Sequence[Sequence[float]]) -> Deviation:
    """`losses`: what the engine says, for each window. Raises ValueError where they are not of the same tokens."""
    recorded = [window.losses for window in reference.windows]
    if [len(each) for each in losses] != [len(each) for each in recorded]:
        raise ValueError(f"log probabilities of {[len(each) for each in losses]} tokens: asked for other windows")
    said, kept = [x for each in losses for x in each], [x for each in recorded for x in each]
    return Deviation(
        tokens=len(kept),
        mean=fmean(abs(one - other) for one, other in zip(said, kept, strict=True)),
        loss=fmean(said),
        recorded_loss=fmean(kept),
        allowed=reference.allowed,
    )
