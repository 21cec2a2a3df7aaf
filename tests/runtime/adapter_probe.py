"""Runs inside the engine environment: asks the vLLM adapter what it does with what an engine hands it.

Prints JSON for `test_adapter`. The engine around the adapter is left out here; `test_pair` has it.
"""

import inspect
import json
import sys
from types import SimpleNamespace

import torch
import vllm
from vllm.platforms import current_platform
from vllm.v1.core.sched.output import SchedulerOutput
from vllm.v1.core.sched.scheduler import Scheduler
from vllm.v1.sample import rejection_sampler
from vllm.v1.sample.rejection_sampler import expand_batch_to_tokens
from vllm.v1.worker import gpu_input_batch, gpu_model_runner
from vllm.v1.worker.cpu_model_runner import CPUModelRunner

from tandem_runtime.drafting import vllm_adapter
from tandem_runtime.drafting.vllm_adapter import DraftingWorker, RemoteProposer


def placeholders() -> dict[str, list[int]]:
    """What is left of scheduled drafts, placeholders among them, when vLLM's own worker gets them."""
    seen: list[dict[str, list[int]]] = []
    base = DraftingWorker.__mro__[1]
    base.execute_model = lambda _worker, output: seen.append(dict(output.scheduled_spec_decode_tokens))
    scheduled = {"padded": [-1, -1], "mixed": [5, -1], "drafted": [7, 8], "empty": []}
    output = SimpleNamespace(scheduled_spec_decode_tokens=scheduled)
    DraftingWorker.execute_model(object.__new__(DraftingWorker), output)
    return seen[0]


def as_in_a_worker() -> None:
    """Put kernels in place as vLLM does before it makes a worker, and then as ours does."""
    current_platform.import_kernels()
    current_platform.register_triton_kernel_overrides()
    base = DraftingWorker.__mro__[1]
    base.__init__ = lambda _worker, *_options: None
    DraftingWorker()


def expanded() -> dict[str, list[float]]:
    """Temperatures and top-k of three requests at the positions of their drafts: two, none and three tokens."""
    ends = torch.tensor([2, 2, 5], dtype=torch.int32)
    kept = torch.empty(5).fill_(9.0)  # so that what is not written is not right by chance
    del kept
    temperatures = expand_batch_to_tokens(torch.tensor([0.5, 2.0, 0.0]), ends, 5, replace_from=0, replace_to=1)
    top_k = expand_batch_to_tokens(torch.tensor([7, 8, 3], dtype=torch.int32), ends, 5)
    return {"temperatures": temperatures.tolist(), "top_k": top_k.tolist()}


def without_drafts() -> list[int]:
    """The shape of the logits at the positions of drafts where there are none, of a request with top-k."""
    asked = SimpleNamespace(all_greedy=False, temperature=torch.ones(1), top_k=torch.tensor([5]), top_p=None)
    ends = torch.zeros(1, dtype=torch.int32)
    return list(rejection_sampler.apply_sampling_constraints(torch.empty(0, 8), ends, asked).shape)


def proposer(**attributes: object) -> RemoteProposer:
    """A proposer as another constructor would have made it."""
    made = object.__new__(RemoteProposer)
    vars(made).update(attributes)
    return made


def of_another_rank() -> list[list[int]]:
    """What a proposer says that was made on a rank which the scheduler does not listen to. It opens no stream."""
    vllm_adapter.get_tensor_model_parallel_rank = lambda: 1
    made = RemoteProposer(Raises())
    made.bind(Raises())
    return made.propose([[1], [2]], None, None)


CUT = "min( num_new_tokens, self.max_model_len - request.num_computed_tokens"


def what_is_relied_on() -> dict[str, bool]:
    """Of vLLM's source: what the adapter needs and nobody promises."""
    runner = inspect.getsource(gpu_model_runner)
    proposing = runner[runner.index('elif spec_config.method == "custom_class":') :][:1200]
    scheduling = inspect.getsource(Scheduler.schedule)
    return {
        "0.32": vllm.__version__.split("+")[0].startswith("0.32."),
        "it hands over what was sampled, the lengths and the tokens": all(
            word in proposing
            for word in ("self.drafter.propose(", "sampled_token_ids", "num_tokens_no_spec", "token_ids_cpu")
        ),
        "it skips drafters whose length limit is near": "<= self.effective_drafter_max_model_len" in runner,
        "it proposes after bookkeeping": "draft_after_bookkeeping = True" in runner,
        "it keeps the batch's requests in order": "req_ids" in inspect.getsource(gpu_input_batch.InputBatch),
        "it schedules no draft beyond the length limit": CUT in " ".join(scheduling.split()),
        "the worker is given the scheduled drafts": "scheduled_spec_decode_tokens"
        in inspect.getsource(SchedulerOutput),
        "the CPU's runner is the same one": issubclass(CPUModelRunner, gpu_model_runner.GPUModelRunner),
    }


class Raises:
    """Stands for any part that fails."""

    def __getattr__(self, name: str) -> object:
        raise RuntimeError(name)


as_in_a_worker()
counted: list[object] = []
counters = SimpleNamespace(add=counted.append)
answers = {
    "placeholders": placeholders(),
    "expanded": expanded(),
    "without_drafts": without_drafts(),
    "another_rank": of_another_rank(),
    "relied_on": what_is_relied_on(),
    "failing": proposer(_drafts=Raises(), _runner=Raises(), _counters=counters).propose([[1], []], None, None),
    "errors_counted": len(counted),
}
sys.stdout.write(json.dumps(answers) + "\n")
