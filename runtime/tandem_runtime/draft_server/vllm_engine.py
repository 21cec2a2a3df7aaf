"""Drafts from vLLM: for drafts that are large, or that only vLLM can run. Its prefix cache keeps the contexts.

The engine runs in processes of its own and speaks asyncio, so a loop in a thread of its own waits for it. Written
against vLLM 0.32 (`AsyncLLM`).
"""

from __future__ import annotations

import asyncio
import itertools
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from typing import Any

from vllm import SamplingParams
from vllm.engine.arg_utils import AsyncEngineArgs
from vllm.entrypoints.openai.cli_args import make_arg_parser
from vllm.sampling_params import RequestOutputKind
from vllm.utils.argparse_utils import FlexibleArgumentParser
from vllm.v1.engine.async_llm import AsyncLLM

from tandem_runtime.draft_server.engines import Ask, Key

POLL_SECONDS = 0.001
_OWN_FLAGS = ("--skip-tokenizer-init", "--disable-log-stats")
STOP_LIMIT_SECONDS = 10.0


class VllmEngine:
    """A `DraftEngine`. Raises what vLLM raises for a model that it cannot load."""

    name = "vllm"

    def __init__(self, flags: Sequence[str], *, tokenizer_hash: str = "") -> None:
        """`flags`: the command line that vLLM's own server would get."""
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, name="vllm", daemon=True).start()
        self._numbers = itertools.count()
        given = make_arg_parser(FlexibleArgumentParser()).parse_args([*flags, *_OWN_FLAGS])
        arguments = AsyncEngineArgs.from_cli_args(given)
        self._engine: Any = asyncio.run_coroutine_threadsafe(_started(arguments), self._loop).result()
        model = self._engine.vllm_config.model_config
        self.tokenizer_hash = tokenizer_hash
        self.vocabulary: int = model.get_vocab_size()
        self.context_limit: int = model.max_model_len

    def draft(self, asks: Sequence[Ask], *, is_due: Callable[[], bool]) -> list[list[int]]:
        """See `DraftEngine`."""
        drafts: list[list[int]] = [[] for _ in asks]
        working = asyncio.run_coroutine_threadsafe(self._draft_all(asks, drafts), self._loop)
        while not _is_done(working):
            if is_due():
                working.cancel()
                break
        return [draft[: ask.depth] for ask, draft in zip(asks, drafts, strict=True)]

    def forget(self, keys: Iterable[Key]) -> None:
        """See `DraftEngine`; vLLM evicts by itself."""

    def close(self) -> None:
        """End vLLM's processes."""
        self._engine.shutdown(timeout=STOP_LIMIT_SECONDS)
        self._loop.call_soon_threadsafe(self._loop.stop)

    async def _draft_all(self, asks: Sequence[Ask], drafts: Sequence[list[int]]) -> None:
        await asyncio.gather(*(self._draft(ask, draft) for ask, draft in zip(asks, drafts, strict=True)))

    async def _draft(self, ask: Ask, draft: list[int]) -> None:
        """Fills `draft` as tokens come. A task that is cancelled aborts its request in the engine."""
        sampling = SamplingParams(
            temperature=0.0,
            max_tokens=max(ask.depth, 1),  # one, so that the context is computed at all
            ignore_eos=True,
            detokenize=False,
            output_kind=RequestOutputKind.DELTA,
        )
        prompt = {"prompt_token_ids": ask.tokens.tolist()}
        async for output in self._engine.generate(prompt, sampling, str(next(self._numbers))):
            draft += output.outputs[0].token_ids


async def _started(arguments: AsyncEngineArgs) -> AsyncLLM:
    """Made on the loop that it is used on."""
    return AsyncLLM.from_engine_args(arguments)


def _is_done(working: Future[None]) -> bool:
    """Whether it is, after a moment. Raises what it raised."""
    try:
        working.result(POLL_SECONDS)
    except TimeoutError:
        return working.done()
    return True
