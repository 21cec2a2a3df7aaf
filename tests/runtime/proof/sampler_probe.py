"""Runs inside the engine environment: what vLLM's rejection sampler makes of drafts that come through our adapter.

A draft server over gRPC, the proposer that asks it, the worker that takes placeholders out, and vLLM's sampler: only
the model is replaced, by one whose next token depends on the last one alone, so that its distribution is known exactly.
Prints, as JSON, how often each token came after each other one.
"""

from __future__ import annotations

import json
import random
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from deep_proposer import AlwaysDeep
from vllm.platforms import current_platform
from vllm.v1.sample.logits_processor import LogitsProcessors
from vllm.v1.sample.metadata import SamplingMetadata
from vllm.v1.sample.rejection_sampler import RejectionSampler
from vllm.v1.sample.sampler import Sampler
from vllm.v1.spec_decode.metadata import SpecDecodeMetadata

from tandem_runtime.draft_server.engines import Ask, Key
from tandem_runtime.draft_server.server import DraftServer
from tandem_runtime.drafting.counters import Counted, Counters
from tandem_runtime.drafting.proposing import RemoteDrafts
from tandem_runtime.drafting.protocol import VERSION, VerifierFrame
from tandem_runtime.drafting.protocol.draft_pb2 import Hello
from tandem_runtime.drafting.stream import DraftStream
from tandem_runtime.drafting.vllm_adapter import DraftingWorker, RemoteProposer

SEED = 20261126
VOCABULARY = 8
DEPTH = 4
ROWS = 64
LONGEST = 96
DEADLINE_SECONDS = 0.05
PADDED = 0.3
"""Of the rows, where vLLM's own placeholders take the place of drafts."""
PLANTED = 0.02
"""Of the draws, in which a rejected draft is taken all the same."""

Rule = Callable[[Sequence[int], random.Random], int]
"""The next token of a draft after a context."""


class RuledEngine:
    """A draft engine that drafts by a rule."""

    name, tokenizer_hash, vocabulary, context_limit = "ruled", "", VOCABULARY, 2 * LONGEST

    def __init__(self, rule: Rule) -> None:
        self._rule, self._chance = rule, random.Random(SEED)

    def draft(self, asks: Sequence[Ask], *, is_due: Callable[[], bool]) -> list[list[int]]:
        drafts = []
        for ask in asks:
            tokens = list(ask.tokens)
            for _ in range(ask.depth):
                tokens.append(self._rule(tokens, self._chance))
            drafts.append(tokens[len(ask.tokens) :])
        return drafts

    def forget(self, keys: Iterable[Key]) -> None:
        """Nothing is kept."""


class Model:
    """Logits by the last token, and how they are sampled."""

    def __init__(self, *, temperature: float = 1.0, top_k: int = VOCABULARY, top_p: float = 1.0) -> None:
        self.logits = torch.from_numpy(np.random.default_rng(SEED).normal(0, 1.5, (VOCABULARY, VOCABULARY))).float()
        self.temperature, self.top_k, self.top_p = temperature, top_k, top_p

    def probabilities(self) -> list[list[float]]:
        """Computed by the definitions, and not by what samples."""
        found = []
        for row in self.logits.double().numpy() / self.temperature:
            kept = np.argsort(-row)[: self.top_k]
            shares = np.exp(row[kept]) / np.exp(row[kept]).sum()
            enough = int(np.searchsorted(np.cumsum(shares), self.top_p - 1e-9)) + 1
            found.append(np.zeros(VOCABULARY))
            found[-1][kept[:enough]] = shares[:enough] / shares[:enough].sum()
        return [row.tolist() for row in found]

    def sampling(self) -> SamplingMetadata:
        unused = torch.zeros(ROWS)
        return SamplingMetadata(
            temperature=torch.full((ROWS,), self.temperature),
            all_greedy=False,
            all_random=True,
            top_p=torch.full((ROWS,), self.top_p) if self.top_p < 1 else None,
            top_k=torch.full((ROWS,), self.top_k) if self.top_k < VOCABULARY else None,
            generators={},
            max_num_logprobs=None,
            no_penalties=True,
            prompt_token_ids=None,
            frequency_penalties=unused,
            presence_penalties=unused,
            repetition_penalties=unused,
            output_token_ids=[[] for _ in range(ROWS)],
            allowed_token_ids_mask=None,
            bad_words_token_ids={},
            logitsprocs=LogitsProcessors(),
        )


class Batch:
    """The rows of an engine: requests that go on until they are full, and are followed by others."""

    def __init__(self) -> None:
        self.tokens = np.zeros((ROWS, LONGEST + DEPTH + 1), dtype=np.int32)
        self.lengths = np.ones(ROWS, dtype=np.int32)
        self.input_batch = SimpleNamespace(req_ids=[f"0-{row}" for row in range(ROWS)])
        self._begun = 0

    def extend(self, row: int, tokens: Sequence[int]) -> None:
        length = self.lengths[row]
        self.tokens[row, length : length + len(tokens)] = tokens
        self.lengths[row] += len(tokens)

    def replace_full(self) -> None:
        for row in np.flatnonzero(self.lengths > LONGEST - DEPTH):
            self._begun += 1
            self.input_batch.req_ids[row] = f"{self._begun}-{row}"
            self.tokens[row, 0], self.lengths[row] = self.tokens[row, self.lengths[row] - 1], 1


def as_scheduled(drafts: Mapping[str, list[int]]) -> dict[str, list[int]]:
    """The drafts that vLLM's own worker gets to see of those that were scheduled."""
    seen: list[dict[str, list[int]]] = []
    base = DraftingWorker.__mro__[1]
    base.execute_model = lambda _worker, output: seen.append(dict(output.scheduled_spec_decode_tokens))
    output = SimpleNamespace(scheduled_spec_decode_tokens=dict(drafts))
    DraftingWorker.execute_model(object.__new__(DraftingWorker), output)
    return seen[0]


def metadata_of(drafts: Sequence[Sequence[int]]) -> SpecDecodeMetadata:
    """As vLLM's runner makes it: the logits of a row are those after its last token, and after each of its draft."""
    counts = [len(draft) for draft in drafts]
    ends = np.cumsum([count + 1 for count in counts])
    targets = [int(end) - count - 1 + at for end, count in zip(ends, counts, strict=True) for at in range(count)]
    return SpecDecodeMetadata(
        draft_token_ids=torch.tensor([token for draft in drafts for token in draft], dtype=torch.int32),
        num_draft_tokens=counts,
        cu_num_draft_tokens=torch.from_numpy(np.cumsum(counts, dtype=np.int32)),
        cu_num_sampled_tokens=torch.from_numpy(ends.astype(np.int32)),
        target_logits_indices=torch.tensor(targets, dtype=torch.int32),
        bonus_logits_indices=torch.from_numpy((ends - 1).astype(np.int32)),
        logits_indices=torch.arange(int(ends[-1]), dtype=torch.int32),
    )


def sampled(
    model: Model, sampler: RejectionSampler, last: Sequence[int], drafts: Sequence[list[int]]
) -> list[list[int]]:
    """One step of an engine after its forward pass."""
    before = [token for end, draft in zip(last, drafts, strict=True) for token in (end, *draft)]
    output = sampler(metadata_of(drafts), None, model.logits[before], model.sampling())
    return list(RejectionSampler.parse_output(output.sampled_token_ids, VOCABULARY)[0])


def counted(
    draws: int, model: Model, rule: Rule | None, *, padded: float = 0.0, planted: float = 0.0
) -> dict[str, Any]:
    """Draw so many tokens: how often each came after each other one, and what the probabilities are."""
    chance = random.Random(SEED)
    torch.manual_seed(SEED)
    counts = np.zeros((VOCABULARY, VOCABULARY), dtype=np.int64)
    batch, sampler = Batch(), RejectionSampler(Sampler())
    server = DraftServer(
        RuledEngine(rule or (lambda _tokens, _chance: 0)), name="ruled", max_depth=DEPTH, max_sessions=2 * ROWS
    )
    port = server.start("127.0.0.1:0")
    hello = Hello(protocol=VERSION, verifier="probe", vocabulary=VOCABULARY, max_depth=DEPTH)
    stream = DraftStream(f"127.0.0.1:{port}", VerifierFrame(hello=hello))
    with tempfile.TemporaryDirectory() as folder:
        counters = Counters(Path(folder) / "counters")
        proposer = object.__new__(RemoteProposer)
        proposer._runner, proposer._counters = batch, counters
        proposer._drafts = RemoteDrafts(
            lambda: {"pod": stream}, counters, depth=DEPTH, depths=AlwaysDeep(DEPTH), vocabulary=VOCABULARY,
            deadline_seconds=DEADLINE_SECONDS,
        )  # fmt: skip
        new: list[list[int]] = [[0] for _ in range(ROWS)]
        drafted = accepted = 0
        while counts.sum() < draws:
            drafts = proposer.propose(new, batch.lengths, batch.tokens) if rule else [[] for _ in range(ROWS)]
            drafts = [[-1] * DEPTH if chance.random() < padded else draft for draft in drafts]
            drafts = list(as_scheduled(dict(zip(batch.input_batch.req_ids, drafts, strict=True))).values())
            last = [int(batch.tokens[row, batch.lengths[row] - 1]) for row in range(ROWS)]
            new = sampled(model, sampler, last, drafts)
            for row, tokens in enumerate(new):
                if drafts[row] and tokens[0] != drafts[row][0] and chance.random() < planted:
                    tokens[0] = drafts[row][0]
                np.add.at(counts, ([last[row], *tokens[:-1]], tokens), 1)
                batch.extend(row, tokens)
                drafted += len(drafts[row])
                accepted += len(tokens) - 1
            batch.replace_full()
        errors = counters.value(Counted.ERRORS)
    stream.close()
    server.stop(grace_seconds=0)
    found = {"counts": counts.tolist(), "probabilities": model.probabilities(), "errors": errors}
    return {**found, "drafted": drafted, "accepted": accepted}


def main(draws: int) -> None:
    current_platform.import_kernels()
    current_platform.register_triton_kernel_overrides()
    base = DraftingWorker.__mro__[1]
    base.__init__ = lambda _worker: None
    DraftingWorker()  # puts its own kernels in place, as in an engine
    model, narrow, few = Model(), Model(temperature=0.7, top_k=5, top_p=0.9), Model(temperature=1.5, top_k=3)
    best, worst = model.logits.argmax(dim=1).tolist(), model.logits.argmin(dim=1).tolist()

    def honest(tokens: Sequence[int], _chance: random.Random) -> int:
        return int(best[tokens[-1]])

    def at_random(_tokens: Sequence[int], chance: random.Random) -> int:
        return chance.randrange(VOCABULARY)

    def adversarial(tokens: Sequence[int], _chance: random.Random) -> int:
        return int(worst[tokens[-1]])

    def by_the_past(tokens: Sequence[int], _chance: random.Random) -> int:
        return (sum(tokens) * 5 + len(tokens)) % VOCABULARY

    answers = {
        "plain": counted(draws, model, None),
        "honest": counted(draws, model, honest),
        "random": counted(draws, model, at_random),
        "adversarial": counted(draws, model, adversarial),
        "by the past": counted(draws, model, by_the_past),
        "honest, narrow sampling": counted(draws, narrow, honest),
        "random, top-k": counted(draws, few, at_random),
        "placeholders": counted(draws, model, honest, padded=PADDED),
        "random placeholders": counted(draws, model, at_random, padded=PADDED),
        "planted bias": counted(draws, model, adversarial, planted=PLANTED),
    }
    sys.stdout.write(json.dumps(answers) + "\n")


main(int(sys.argv[1]))
