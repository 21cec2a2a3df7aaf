"""Runs a quantized model and its source on the same text, and says how far apart they are.

By transformers on the machine that it is started on, the quantized weights as their own format decodes them.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch.nn.functional import cross_entropy, kl_div, log_softmax
from transformers import AutoModelForCausalLM, AutoTokenizer, CompressedTensorsConfig

from tandem_contracts.quality import Quality, quality_of
from tandem_contracts.termination import Phase
from tandem_runtime.artifacts.progress import Progress
from tandem_runtime.artifacts.texts import Texts, windows_of

WINDOWS = 40
WINDOW_TOKENS = 512
"""Together 20,480: with so many the 95 % interval of the paired increase is ±0.04 to 0.5 %."""


def tokenizer_of(folder: Path) -> Any:
    """Of the model in `folder`."""
    return AutoTokenizer.from_pretrained(folder, local_files_only=True)


def compare(source: Path, artifact: Path, texts: Texts, *, tokenizer: Any, progress: Progress) -> Quality:
    """`tokenizer`: the source's. Raises InvalidTextsError for too little text, OSError, ValueError for no model."""
    windows = windows_of(
        texts,
        lambda text: list(tokenizer(text, verbose=False, add_special_tokens=False)["input_ids"]),
        windows=WINDOWS,
        tokens=WINDOW_TOKENS,
    )
    device = "cuda" if torch.cuda.is_available() else "cpu"
    original = AutoModelForCausalLM.from_pretrained(source, dtype="auto", local_files_only=True).to(device).eval()
    # Decoded at once: left compressed, some formats are decoded at the first pass, into a type that the rest is not in.
    decoded = AutoModelForCausalLM.from_pretrained(
        artifact, dtype="auto", local_files_only=True, quantization_config=CompressedTensorsConfig(dequantize=True)
    )
    models = (original, decoded.to(device, original.dtype).eval())
    losses: tuple[list[float], list[float]] = ([], [])
    divergence = agreeing = 0.0
    progress.show(Phase.EVALUATE, lambda: float(len(losses[0])), len(windows))
    with torch.inference_mode():
        for window in windows:
            tokens = torch.tensor([window], device=device)
            logits = [model(tokens, use_cache=False).logits[0, :-1].float() for model in models]
            for found, each in zip(losses, logits, strict=True):
                found.append(float(cross_entropy(each, tokens[0, 1:])))
            divergence += float(_divergence(*logits).sum())
            agreeing += int((logits[0].argmax(-1) == logits[1].argmax(-1)).sum())
    count = sum(len(window) - 1 for window in windows)
    return quality_of(
        *losses,
        tokens=count,
        kl_divergence=divergence / count,
        top1_agreement=agreeing / count,
        evaluation=texts.digest,
    )


def _divergence(source: torch.Tensor, quantized: torch.Tensor) -> torch.Tensor:
    """KL(source || quantized) of each row, in nats."""
    logs: Sequence[torch.Tensor] = [log_softmax(each, dim=-1) for each in (quantized, source)]
    return kl_div(logs[0], logs[1], reduction="none", log_target=True).sum(-1)
