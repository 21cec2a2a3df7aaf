"""Runs inside the engine environment: drafts of our engines beside what Transformers itself generates, as JSON.

Contexts of several lengths grow by a part of their draft and another token, as a verifier makes them grow; there are
fewer caches than contexts.
"""

import json
import random
import sys
from array import array
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM

from tandem_runtime.draft_server.engines import Ask, DraftEngine
from tandem_runtime.draft_server.graph_engine import GraphEngine
from tandem_runtime.draft_server.llama_engine import LlamaEngine
from tandem_runtime.draft_server.transformers_engine import TransformersEngine

DEPTH = 6
LENGTHS = (1, 5, 40, 129, 300)
STEPS = 5
CACHES = 4
RANDOM_SHARE = 0.5
"""Of the steps: the token after the accepted ones is not what the draft model expects. The others go on as drafted."""


def generated(model: Any, context: Sequence[int]) -> list[int]:
    """The reference."""
    prompt = torch.tensor([list(context)])
    whole = model.generate(prompt, max_new_tokens=DEPTH, do_sample=False, eos_token_id=None)
    tokens: list[int] = whole[0, len(context) :].tolist()
    return tokens


def compared(engine: DraftEngine, model: Any) -> dict[str, int]:
    """How many drafts there were, and how many of them are the reference's."""
    chance = random.Random(7)
    contexts = [array("i", (chance.randrange(engine.vocabulary) for _ in range(length))) for length in LENGTHS]
    drafts = same = 0
    for _ in range(STEPS):
        asks = [Ask((0, number), context, DEPTH) for number, context in enumerate(contexts)]
        for context, draft in zip(contexts, engine.draft(asks, is_due=lambda: False), strict=True):
            drafts += 1
            same += draft == generated(model, context)
            context.extend(draft[: chance.randrange(DEPTH + 1)])
            if chance.random() < RANDOM_SHARE or not draft:
                context.append(chance.randrange(engine.vocabulary))
    return {"drafts": drafts, "same": same}


def main(folder: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(folder, local_files_only=True).eval()
    engines = [
        LlamaEngine(folder, caches=CACHES),
        TransformersEngine(folder, caches=CACHES),
        GraphEngine.of_folder(folder, caches=CACHES, depth=2 * DEPTH, tokenizer_hash="", device="cpu"),
    ]
    sys.stdout.write(json.dumps({engine.name: compared(engine, model) for engine in engines}) + "\n")


main(Path(sys.argv[1]))
