"""Runs a quantized model and its source on the same text, and says how far apart they are."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean
from typing import Any

import torch
from torch.nn.functional import cross_entropy, kl_div, log_softmax

from tandem_contracts.quality import Quality, quality_of
from tandem_contracts.reference import WINDOW_TOKENS as RECORDED_TOKENS
from tandem_contracts.reference import WINDOWS as RECORDED_WINDOWS
from tandem_contracts.reference import Reference, Window
from tandem_contracts.termination import Phase
from tandem_runtime.artifacts.models import Models
from tandem_runtime.artifacts.progress import Progress
from tandem_runtime.artifacts.texts import Texts, encode_of, windows_of

WINDOWS = 40
WINDOW_TOKENS = 512
"""Together 20,480: with so many the 95 % interval of the paired increase is ±0.04 to 0.5 %."""


def windows_in(texts: Texts, tokenizer: Any) -> list[list[int]]:
    """What is compared on, in tokens of the source's tokenizer. Raises InvalidTextsError for too little text."""
    return windows_of(texts, encode_of(tokenizer), windows=WINDOWS, tokens=WINDOW_TOKENS)


def compare(models: Models, windows: Sequence[Sequence[int]], *, evaluation: str, progress: Progress) -> Quality:
    """Figures of both on the same windows, without tasks and long context. `evaluation`: the digest of the texts."""
    both = (models.source, models.quantized)
    losses: tuple[list[float], list[float]] = ([], [])
    divergence = agreeing = 0.0
    progress.show(Phase.EVALUATE, lambda: float(len(losses[0])), len(windows))
    with torch.inference_mode():
        for window in windows:
            tokens = torch.tensor([list(window)], device=models.source.device)
            logits = [model(tokens, use_cache=False).logits[0, :-1].float() for model in both]
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
        evaluation=evaluation,
    )


def reference_of(models: Models, windows: Sequence[Sequence[int]], tokenizer: Any, *, manifest: str) -> Reference:
    """What the quantized model says of the beginnings of a few windows, spread over all. `manifest`: its SHA-256.

    A token that the tokenizer puts before every text is put before each: some models say nothing sensible without it.
    """
    start = [token for token in tokenizer("", verbose=False)["input_ids"] if token == tokenizer.bos_token_id]
    recorded, spreads = [], []
    for window in windows[:: -(-len(windows) // RECORDED_WINDOWS)]:
        tokens = [*start, *window][:RECORDED_TOKENS]
        source, quantized = (_losses(model, tokens) for model in (models.source, models.quantized))
        recorded.append(Window(tuple(tokens), tuple(quantized.tolist())))
        spreads.append(float((source - quantized).abs().mean()))
    return Reference(manifest=manifest, spread=fmean(spreads), windows=tuple(recorded))


def _losses(model: Any, tokens: Sequence[int]) -> torch.Tensor:
    """Of each token but the first."""
    row = torch.tensor([list(tokens)], device=model.device)
    with torch.inference_mode():
        logits = model(row, use_cache=False).logits[0, :-1].float()
    return cross_entropy(logits, row[0, 1:], reduction="none").clamp(min=0)


def _divergence(source: torch.Tensor, quantized: torch.Tensor) -> torch.Tensor:
    """KL(source || quantized) of each row, in nats."""
    logs: Sequence[torch.Tensor] = [log_softmax(each, dim=-1) for each in (quantized, source)]
    return kl_div(logs[0], logs[1], reduction="none", log_target=True).sum(-1)
