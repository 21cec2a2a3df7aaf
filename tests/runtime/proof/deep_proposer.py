"""Runs inside the engine environment: our proposer, with every draft as deep as can be. See `strained_launch`."""

from typing import Any

from tandem_runtime.drafting.breaker import Worth
from tandem_runtime.drafting.depth import Depths
from tandem_runtime.drafting.vllm_adapter import RemoteProposer

STEP_SECONDS = 1.0
"""So long that a draft is worth any wait within the deadline."""


def _always(_worth: Worth, _length: int) -> bool:
    return True


Worth.is_drafted_for = _always  # type: ignore[method-assign]  # useless drafts are what is to be proved harmless


class AlwaysDeep(Depths):
    """Asks for as much as there can be, and waits for it, whatever comes of it."""

    def choose(self, rows: int) -> int:
        return self._most

    def tokens(self, depth: int) -> float:
        return depth + 1.0

    def step_seconds(self, rows: int) -> float:
        return STEP_SECONDS


class DeepProposer(RemoteProposer):
    def __init__(self, vllm_config: Any) -> None:
        super().__init__(vllm_config)
        if self._drafts is not None:
            self._drafts._depths = AlwaysDeep(vllm_config.speculative_config.num_speculative_tokens)
