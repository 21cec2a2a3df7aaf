"""Drafts from vLLM: for drafts that are large, or that only vLLM can run. Its prefix cache keeps the contexts.

vLLM's engine core runs in this process and is stepped from here: behind `AsyncLLM` each token of a draft went through
three processes, which for a small draft took several times longer than computing it. Written against vLLM 0.32.
"""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from vllm import SamplingParams
from vllm.engine.arg_utils import EngineArgs
from vllm.entrypoints.launchers.cli_args import make_arg_parser
from vllm.utils.argparse_utils import FlexibleArgumentParser
from vllm.v1.engine import EngineCoreRequest
from vllm.v1.engine.core_client import InprocClient
from vllm.v1.executor.abstract import Executor

from tandem_runtime.draft_server.engines import Ask, Key

_OWN_FLAGS = ("--skip-tokenizer-init", "--disable-log-stats")


class VllmEngine:
    """A `DraftEngine`. Raises what vLLM raises for a model that it cannot load."""

    name = "vllm"
    goes_on = False

    def __init__(self, flags: Sequence[str], *, tokenizer_hash: str = "") -> None:
        """`flags`: the command line that vLLM's own server would get."""
        # vLLM for CPUs puts its worker into another process otherwise.
        os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
        given = make_arg_parser(FlexibleArgumentParser()).parse_args([*flags, *_OWN_FLAGS])
        config = EngineArgs.from_cli_args(given).create_engine_config()
        self._core: Any = InprocClient(config, Executor.get_class(config), log_stats=False)
        self._numbers = itertools.count()
        self.tokenizer_hash = tokenizer_hash
        self.vocabulary: int = config.model_config.get_vocab_size()
        self.context_limit: int = config.model_config.max_model_len

    def draft(self, asks: Sequence[Ask], *, is_due: Callable[[], bool]) -> list[list[int]]:
        """See `DraftEngine`."""
        requests = [str(next(self._numbers)) for _ in asks]
        drafts: dict[str, list[int]] = {request: [] for request in requests}
        unfinished = set()
        try:
            for request, ask in zip(requests, asks, strict=True):
                if len(ask.tokens) < self.context_limit:
                    unfinished.add(request)
                    self._core.add_request(_request(request, ask))
            while unfinished:
                for output in self._core.get_output().outputs:
                    if output.request_id in unfinished:
                        drafts[output.request_id] += output.new_token_ids
                        if output.finish_reason is not None:
                            unfinished.remove(output.request_id)
                if is_due():
                    break
        finally:
            self._core.abort_requests(list(unfinished))
        return [drafts[request][: ask.depth] for request, ask in zip(requests, asks, strict=True)]

    def forget(self, keys: Iterable[Key]) -> None:
        """See `DraftEngine`; vLLM evicts by itself."""

    def close(self) -> None:
        """End vLLM."""
        self._core.shutdown()


def _request(request: str, ask: Ask) -> EngineCoreRequest:
    sampling = SamplingParams(
        temperature=0.0,
        max_tokens=max(ask.depth, 1),  # one, so that the context is computed at all
        ignore_eos=True,
        detokenize=False,
    )
    return EngineCoreRequest(
        request_id=request,
        prompt_token_ids=ask.tokens.tolist(),
        mm_features=None,
        sampling_params=sampling,
        pooling_params=None,
        arrival_time=time.time(),
        lora_request=None,
        cache_salt=None,
        data_parallel_rank=None,
    )
