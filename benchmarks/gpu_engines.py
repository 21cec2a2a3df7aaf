"""End to end where vLLM is installed: tokens a second by its runners alone, with drafts inside, and with remote ones.

Models have random weights, so what is accepted is set by vLLM's synthetic rejection: token i of a draft with the
probability of `ACCEPTANCE` to the power of i. One engine at a time, and a draft server beside the one that needs it.
"""

from __future__ import annotations

import json
import os
import random
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.pairs import Acceptance
from benchmarks.synthetic_launch import VARIABLE
from deploy.local.layout import REPOSITORY
from tandem_contracts.engine_settings import EngineSettings
from tandem_contracts.launch import LAUNCH_MODULE, DraftEngine, InEngineKind, LaunchOptions, Role, Speculation
from tests.runtime.engines import LOOPBACK, Engine, free_port

ACCEPTANCE = 0.75
DEPTH = 4
ROUNDS = 5
TOKENS = 256
PROMPT_TOKENS = 256
CONTEXT_TOKENS = 1024
MEMORY_PERCENT = 60
"""Of the GPU, for an engine; a draft server takes of the rest."""
OLDER_RUNNER = {"VLLM_USE_V2_MODEL_RUNNER": "0"}

Shape = Mapping[str, int]


def rejection(depth: int) -> dict[str, object]:
    """What a speculative configuration of vLLM is told besides."""
    rates = [ACCEPTANCE**position for position in range(1, depth + 1)]
    return {"rejection_sample_method": "synthetic", "synthetic_acceptance_rates": rates}


def end_to_end(verifier: Shape, draft: Shape, *, batches: tuple[int, ...]) -> dict[str, Any]:
    """Tokens a second of each way by batch, what was accepted, and the ratios to plain decoding."""
    with tempfile.TemporaryDirectory(prefix="gpu-engines-") as scratch:
        folder = Path(scratch)
        models = {name: _random_model(folder / name, shape) for name, shape in (("v", verifier), ("d", draft))}
        speeds: dict[str, dict[int, float]] = {}
        accepted: dict[str, float] = {}
        for name, options, environment in _ways(models):
            with _running(folder, options, environment) as engine:
                speeds[name] = {batch: _speed(engine, batch, verifier["vocab_size"]) for batch in batches}
                accepted[name] = round(Acceptance.of(engine).share, 3)
            told = ", ".join(f"batch {batch}: {speed:.0f} tok/s" for batch, speed in speeds[name].items())
            print(f"{name}: {told}", flush=True)
    return {
        "depth": DEPTH,
        "acceptance": ACCEPTANCE,
        "tok_s": speeds,
        "accepted": accepted,
        "over_plain": {
            name: {batch: round(speed / speeds["plain"][batch], 2) for batch, speed in row.items()}
            for name, row in speeds.items()
        },
    }


def _ways(models: Mapping[str, Path]) -> Iterator[tuple[str, dict[str, Any], dict[str, str]]]:
    synthetic = {VARIABLE: json.dumps(rejection(DEPTH))}
    yield "plain", {}, {}
    yield "plain, older runner", {}, OLDER_RUNNER
    inside = {"in_engine": InEngineKind.DRAFT_MODEL, "in_engine_model": str(models["d"])}
    yield "in engine", {"speculation": Speculation.IN_ENGINE, "max_depth": DEPTH, **inside}, synthetic
    yield "remote", {"speculation": Speculation.REMOTE, "max_depth": DEPTH, "draft_model": models["d"]}, synthetic


@contextmanager
def _running(folder: Path, options: dict[str, Any], environment: Mapping[str, str]) -> Iterator[Engine]:
    """A verifier that is Ready, with the draft server that it asks where it has one; both end with the block."""
    started: list[Engine] = []

    def start(module: str, given: Mapping[str, str], **more: Any) -> Engine:
        ports = {name: free_port() for name in ("http_port", "grpc_port", "metrics_port")}
        log, last_word = folder / f"{time.monotonic_ns()}.log", str(folder / "termination-log")
        settings = EngineSettings(max_model_length=CONTEXT_TOKENS, memory_percent=MEMORY_PERCENT)
        wanted = LaunchOptions(
            **{"served_name": "v", "host": LOOPBACK, "termination_log": last_word, "engine": settings, **ports, **more}
        )
        paths = {"PYTHONPATH": f"{REPOSITORY / 'runtime'}{os.pathsep}{REPOSITORY}", **given}
        started.append(Engine(wanted, python=Path(sys.executable), log=log, module=module, environment=paths))
        started[-1].wait_until_ready()
        return started[-1]

    draft_model = options.pop("draft_model", None)
    try:
        if draft_model is not None:
            kind = {"role": Role.DRAFT, "draft_engine": DraftEngine.TRANSFORMERS, "engine": EngineSettings()}
            drafts = start(LAUNCH_MODULE, {}, model=str(draft_model), **kind)
            options["draft_address"] = f"{LOOPBACK}:{drafts.options.grpc_port}"
        yield start("benchmarks.synthetic_launch", environment, role=Role.VERIFIER, model=str(folder / "v"), **options)
    finally:
        for engine in reversed(started):
            engine.end()


def _speed(engine: Engine, batch: int, vocabulary: int) -> float:
    """Tokens a second over all rows, the median of `ROUNDS` after one that does not count."""
    chance = random.Random(batch)  # noqa: S311 -- prompts
    speeds = []
    for _ in range(ROUNDS + 1):
        prompts = [[chance.randrange(vocabulary) for _ in range(PROMPT_TOKENS)] for _ in range(batch)]
        question: dict[str, object] = {"prompt": prompts, "max_tokens": TOKENS, "temperature": 0, "ignore_eos": True}
        begun = time.monotonic()
        engine.post("/v1/completions", question)
        speeds.append(batch * TOKENS / (time.monotonic() - begun))
    return median(speeds[1:])


def _random_model(folder: Path, shape: Shape) -> Path:
    """Weights at random, and a tokenizer with a word for each id, which no benchmark reads."""
    import torch
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    device = "cuda" if torch.cuda.is_available() else "cpu"
    config = LlamaConfig(**shape, max_position_embeddings=CONTEXT_TOKENS, dtype=torch.bfloat16)
    with torch.device(device):
        model = LlamaForCausalLM(config).to(torch.bfloat16)
    model.save_pretrained(folder)
    del model
    words = {f"w{number}": number for number in range(shape["vocab_size"])}
    special = {"unk_token": "w0", "bos_token": "w1", "eos_token": "w2"}
    made = Tokenizer(WordLevel(words, unk_token=special["unk_token"]))
    PreTrainedTokenizerFast(tokenizer_object=made, **special).save_pretrained(folder)
    return folder
