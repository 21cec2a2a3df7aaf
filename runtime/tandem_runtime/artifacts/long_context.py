"""Measures how well a quantized model, and its source, find in a long text what was said far back in it.

Each model takes two passes of a whole context: seconds on a GPU, on a CPU an hour and more where the model is large.
Memory grows with the length, but with its square where a model's attention has no fused form.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from tandem_contracts.quality import LongContext
from tandem_contracts.termination import Phase
from tandem_runtime.artifacts.models import Models
from tandem_runtime.artifacts.needles import CONTEXTS, NEEDLES, Find, contexts_of, recalled
from tandem_runtime.artifacts.progress import Progress
from tandem_runtime.artifacts.texts import Texts, encode_of


def long_context_of(
    models: Models, texts: Texts, *, tokenizer: Any, tokens: int, wanted_tokens: int, progress: Progress
) -> LongContext:
    """Both models' recall from contexts of `tokens`, see `needles.tokens_within`. `tokenizer`: the source's."""
    contexts = contexts_of(texts, encode_of(tokenizer), tokens=tokens, first=_first_of(tokenizer))
    done = 0
    progress.begin(Phase.EVALUATE, 0)
    progress.show(Phase.EVALUATE, lambda: float(done), 2 * len(contexts))
    shares = []
    for model in (models.source, models.quantized):
        found = 0
        for context in contexts:
            found += recalled(context, finder_of(model))
            done += 1
        shares.append(found / (CONTEXTS * NEEDLES))
    return LongContext(tokens=tokens, wanted_tokens=wanted_tokens, recall_source=shares[0], recall=shares[1])


def finder_of(model: Any) -> Find:
    """Of a model of transformers."""

    def find(tokens: list[int], last: int) -> list[int]:
        row = torch.tensor([tokens], device=model.device)
        with torch.inference_mode():
            # Logits of a whole long context would be larger than the model.
            logits = model(row, use_cache=False, logits_to_keep=last).logits
        return [int(token) for token in logits[0, -last:].argmax(-1)]

    return find


def _first_of(tokenizer: Any) -> Sequence[int]:
    """What the tokenizer puts in front of a text: without it some models say nothing of sense."""
    with_it, without = (tokenizer("a", add_special_tokens=added)["input_ids"] for added in (True, False))
    return with_it[:1] if with_it[0] != without[0] and with_it[0] == tokenizer.bos_token_id else []
