"""Contexts that grow as a verifier makes them grow, asked of one draft engine; the same in every environment.

Part of what was drafted is kept and another token follows, so that caches are cut back; there are more contexts than
CACHES, and prompts longer than an engine takes in at once. Imported by probes only.
"""

from __future__ import annotations

import random
from array import array
from collections.abc import Callable, Sequence

DEPTH = 6
LENGTHS = (1, 5, 40, 129, 300)
STEPS = 5
CACHES = 4


def transcript_of(draft: Callable[[Sequence[array[int]]], list[list[int]]], vocabulary: int) -> list[list[list[int]]]:
    """What is drafted in each step: DEPTH tokens for some of the contexts, all of them in the last step."""
    chance = random.Random(7)
    contexts = [array("i", (chance.randrange(vocabulary) for _ in range(length))) for length in LENGTHS]
    transcript = []
    for step in range(STEPS):
        asked = [context for number, context in enumerate(contexts) if step + 1 == STEPS or number != step]
        drafts = draft(asked)
        transcript.append(drafts)
        for context, tokens in zip(asked, drafts, strict=True):
            context.extend([*tokens[: chance.randrange(DEPTH)], chance.randrange(vocabulary)])
    return transcript
