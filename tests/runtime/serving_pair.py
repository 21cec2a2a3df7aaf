"""The engines that the tests of the pair share."""

import dataclasses
import time
from collections.abc import Callable

from tests.runtime.engines import Engine

DEPTH = 4
PROMPTS = 50
CONTINUATION_TOKENS = 48
DRAFTING_LIMIT_SECONDS = 120.0


@dataclasses.dataclass(kw_only=True)
class ServingPair:
    """A plain verifier, one with remote drafts, and the draft engine that is at the draft address now."""

    plain: Engine
    verifier: Engine
    draft: Engine
    draft_address: str
    start_draft: Callable[[], Engine]

    def restart_draft(self) -> None:
        """Another draft engine takes the place of the one that ended."""
        self.draft = self.start_draft()
        self.draft.wait_until_ready()

    def wait_until_drafting(self, prompt: str) -> None:
        """Has the verifier decode until it accepts drafts."""
        before = self.verifier.metric("vllm:spec_decode_num_accepted_tokens_total")
        self.decode_until(
            lambda: self.verifier.metric("vllm:spec_decode_num_accepted_tokens_total") > before,
            prompt,
            "a draft accepted",
        )

    def decode_until(self, condition: Callable[[], bool], prompt: str, what: str) -> None:
        """Has the verifier decode until something is so: what it knows of its drafts it tells with each step."""
        deadline = time.monotonic() + DRAFTING_LIMIT_SECONDS
        while not condition():
            if time.monotonic() > deadline:
                logs = f"logs: {self.verifier.log}, {self.draft.log}"
                raise AssertionError(f"waited {DRAFTING_LIMIT_SECONDS:.0f} s for {what}; {logs}")
            self.verifier.greedy(prompt, CONTINUATION_TOKENS)
