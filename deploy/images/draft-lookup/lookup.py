"""A draft server of one's own, for `draft.engine.type: Custom`: it drafts what followed the last tokens before.

This is prompt lookup: good where an answer repeats its prompt, as in edits of code and in summaries. Of the model it
reads only what a verifier checks: tokenizer, vocabulary, context length.
"""

from __future__ import annotations

import json
import sys
from array import array
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from tandem_contracts.draft_container import DraftContainer
from tandem_runtime.draft_server.engines import Ask, Key
from tandem_runtime.launch.custom import serve
from tandem_runtime.launch.model_folder import read_model_folder

LONGEST_MATCH = 4
SEARCHED_TOKENS = 8192
"""From the end of a context: a search takes some tens of microseconds at most."""


class LookupEngine:
    """A `tandem_runtime.draft_server.engines.DraftEngine`. Keeps nothing: a context comes whole with each ask."""

    name = "prompt lookup"
    goes_on = True

    def __init__(self, container: DraftContainer) -> None:
        """Raises ModelNotFoundError or ModelInvalidError for a folder without a model."""
        folder = read_model_folder(Path(container.model))
        configuration = json.loads((folder.path / "config.json").read_text())
        self.tokenizer_hash = folder.tokenizer_hash
        self.vocabulary: int = configuration["vocab_size"]
        self.context_limit: int = configuration["max_position_embeddings"]

    def draft(self, asks: Sequence[Ask], *, is_due: Callable[[], bool]) -> list[list[int]]:
        """See `DraftEngine`."""
        return [[] if is_due() else continuation(ask.tokens[-SEARCHED_TOKENS:], ask.depth) for ask in asks]

    def forget(self, keys: Iterable[Key]) -> None:
        """See `DraftEngine`."""


def continuation(context: array[int], depth: int) -> list[int]:
    """Up to `depth` tokens: those after the newest place that has the same last tokens, as many as LONGEST_MATCH.

    A last token that was never there before is guessed to come again: no draft at all would be no answer.
    """
    data, width = context.tobytes(), context.itemsize
    for length in range(min(LONGEST_MATCH, len(context) - 1), 0, -1):
        end = len(data) - width  # a match may overlap the last tokens, and is not they themselves
        while (at := data.rfind(data[-length * width :], 0, end)) >= 0:
            if at % width == 0:
                first = at // width + length
                return context[first : first + depth].tolist()
            end = at + length * width - 1
    return context[-1:].tolist()


if __name__ == "__main__":
    sys.exit(serve(LookupEngine))
