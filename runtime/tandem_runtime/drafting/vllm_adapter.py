"""All contact with vLLM: the proposer that its older model runner loads, and the worker that ties both together.

Written against vLLM 0.32 (`custom_class` and `--worker-cls`); another runner gets another adapter. Named on the
command line by `PROPOSER` and `WORKER` of `tandem_runtime.launch.engine`.
"""

import logging
import os
import secrets
import socket
from pathlib import Path
from typing import Any

import torch
from vllm.distributed.parallel_state import get_tensor_model_parallel_rank
from vllm.platforms import current_platform
from vllm.triton_utils import HAS_TRITON
from vllm.triton_utils.dispatcher import register_kernels
from vllm.v1.sample import rejection_sampler

from tandem_runtime.drafting.counters import Counted, Counters
from tandem_runtime.drafting.pods import DraftPods
from tandem_runtime.drafting.prefix import without_placeholders
from tandem_runtime.drafting.proposing import EngineHook, RemoteDrafts
from tandem_runtime.drafting.protocol import VERSION, VerifierFrame
from tandem_runtime.drafting.protocol.draft_pb2 import Hello
from tandem_runtime.drafting.settings import DraftSettings
from tandem_runtime.drafting.stream import DraftStream
from tandem_runtime.drafting.vllm_memory import count_without_idle_pages

if current_platform.is_cpu():
    from vllm.utils import cpu_resource_utils
    from vllm.v1.worker.cpu_worker import CPUWorker as _EngineWorker

    count_without_idle_pages(cpu_resource_utils)
else:
    from vllm.v1.worker.gpu_worker import Worker as _EngineWorker

EXPAND_KERNEL = "vllm.v1.sample.rejection_sampler.expand_kernel"
_constrain = rejection_sampler.apply_sampling_constraints

logger = logging.getLogger(__name__)


class RemoteProposer:
    """vLLM's `custom_class` proposer. An exception out of `propose` would end the engine, so none gets out."""

    def __init__(self, vllm_config: Any) -> None:
        self._runner: Any = None
        self._drafts: EngineHook | None = None
        # Every rank is asked to propose, but the scheduler listens to rank 0 alone.
        if get_tensor_model_parallel_rank() == 0:
            settings = DraftSettings.from_environment(os.environ)
            depth = vllm_config.speculative_config.num_speculative_tokens
            vocabulary = vllm_config.model_config.get_vocab_size()
            hello = VerifierFrame(
                hello=Hello(
                    protocol=VERSION,
                    verifier=socket.gethostname(),
                    incarnation=secrets.randbits(64),
                    tokenizer_hash=settings.tokenizer_hash,
                    vocabulary=vocabulary,
                    max_depth=depth,
                )
            )
            pods = DraftPods(settings.address, lambda address: DraftStream(address, hello, access=settings.access))
            self._counters = Counters(Path(settings.counters))
            self._drafts = RemoteDrafts(
                pods.streams,
                self._counters,
                depth=depth,
                vocabulary=vocabulary,
                deadline_seconds=settings.deadline_seconds,
                longest=vllm_config.model_config.max_model_len,
            )

    def load_model(self, target_model: object) -> None:
        """Nothing to load here; the CPU runner insists on being able to call it."""

    def bind(self, runner: object) -> None:
        """Makes the requests behind the batch's rows known; the arguments of `propose` do not name them."""
        self._runner = runner

    def propose(
        self,
        sampled_token_ids: list[list[int]],
        num_tokens_no_spec: Any,
        token_ids_cpu: Any,
        slot_mappings: object = None,
    ) -> list[list[int]]:
        """One draft a row of the batch, [] for rows that are still in prefill."""
        nothing: list[list[int]] = [[] for _ in sampled_token_ids]
        if self._drafts is None or self._runner is None:
            return nothing
        try:
            requests = self._runner.input_batch.req_ids
            # Beyond the committed length lie drafts of earlier steps.
            contexts = {
                requests[index]: token_ids_cpu[index, : num_tokens_no_spec[index]]
                for index, sampled in enumerate(sampled_token_ids)
                if sampled
            }
            drafts = self._drafts.propose(contexts)
            return [drafts[request] if request in contexts else [] for request in requests[: len(nothing)]]
        except Exception:
            self._counters.add(Counted.ERRORS)
            logger.exception("proposing failed, this step goes on without drafts")
            return nothing


def expand(
    output: Any,
    values: Any,
    ends: Any,
    replace_from: float,
    replace_to: float,
    MAX_NUM_TOKENS: object = None,  # noqa: N803
) -> None:
    """Writes the value of each request to the positions of its draft, which end at `ends`; in place of vLLM's kernel.

    vLLM 0.32 has it for CPUs without Triton, too, where it writes into a copy: temperature, top-k and top-p of each
    draft position are then whatever was in memory, and sampled text follows another distribution than the request's.
    """
    replaced = torch.where(values == replace_from, replace_to, values)
    output.copy_(replaced.repeat_interleave(torch.diff(ends, prepend=ends.new_zeros(1))))


def constrain(logits: Any, ends: Any, sampling: Any) -> Any:
    """vLLM's own, but where there is no draft position.

    With speculation vLLM 0.32 comes here in every step, also without drafts, and on CPUs the first request with top-k
    and without top-p ended the engine: it takes the maximum of nothing.
    """
    return _constrain(logits, ends, sampling) if len(logits) else logits


def _ask_for_rows_of_every_length(runner: Any) -> None:
    """Have vLLM ask for drafts also while a row has no room for a whole one.

    It takes a drafter's model to be as long as the verifier's, and asks nobody in a step in which one row comes near
    that length: it schedules a full draft of zeros for every row then. Ours has no positions, and cuts drafts itself.
    """
    runner.effective_drafter_max_model_len = runner.max_model_len + runner.num_spec_tokens


class DraftingWorker(_EngineWorker):  # type: ignore[misc]
    """vLLM's own worker; it also binds the proposer, and keeps three errors of the CPU's sampler away from requests."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        # Here, since vLLM puts its own kernels in place just before it makes a worker.
        if current_platform.is_cpu() and not HAS_TRITON:
            register_kernels({EXPAND_KERNEL: expand})
            rejection_sampler.apply_sampling_constraints = constrain

    def load_model(self, **options: Any) -> None:
        """As vLLM's own."""
        super().load_model(**options)
        drafter = getattr(self.model_runner, "drafter", None)
        if isinstance(drafter, RemoteProposer):
            drafter.bind(self.model_runner)
            _ask_for_rows_of_every_length(self.model_runner)

    def execute_model(self, scheduler_output: Any) -> Any:
        """As vLLM's own, with valid ids in the place of every placeholder."""
        scheduled = scheduler_output.scheduled_spec_decode_tokens
        for request, tokens in scheduled.items():
            if tokens and min(tokens) < 0:
                scheduled[request] = without_placeholders(tokens)
        return super().execute_model(scheduler_output)
