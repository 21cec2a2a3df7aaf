"""Models in one form as vLLM serves them: how soon, how fast, and how surprised by text that it has not seen."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deploy.fixtures.environment import engine_environment
from deploy.fixtures.pair import model_pair
from tandem_contracts.engine_settings import DataType, EngineSettings
from tandem_contracts.launch import LaunchOptions, Role
from tests.runtime.engines import Engine, free_port

TOKENS, BEST_OF = 128, 3
TEXTS = 12
_KERNEL = re.compile(r"(?:Selected|Using) (\w*Kernel)\b")


@dataclass(frozen=True)
class Served:
    """`ready_seconds`: from the start of all replicas at once until all answered, by their number."""

    weights_bytes: int
    tokens_per_second: float
    perplexity: float
    ready_seconds: Mapping[int, float]
    kernel: str


def served(model: Path, replicas: Sequence[int], folder: Path) -> Served:
    """One form; the last number of replicas is not asked, only waited for."""
    folder.mkdir(parents=True, exist_ok=True)
    ready, speed, perplexity, kernel = {}, 0.0, 0.0, ""
    for count in replicas:
        with ExitStack() as ending:
            begun = time.monotonic()
            engines = [_started(model, folder / f"log-{number}", ending) for number in range(count)]
            for engine in engines:
                engine.wait_until_ready()
            ready[count] = time.monotonic() - begun
            if count == 1:
                (engine,) = engines
                speed, perplexity = _speed(engine), _perplexity(engine)
                kernel = _kernel(engine)
    size = sum(path.stat().st_size for path in model.glob("*.safetensors"))
    return Served(size, speed, perplexity, ready, kernel)


def _started(model: Path, log: Path, ending: ExitStack) -> Engine:
    options = LaunchOptions(
        role=Role.VERIFIER,
        model=str(model),
        served_name="model",
        host="127.0.0.1",
        http_port=free_port(),
        metrics_port=free_port(),
        termination_log=str(log.with_suffix(".word")),
        engine=EngineSettings(data_type=DataType.BFLOAT16, max_model_length=1024),
    )
    engine = Engine(options, python=engine_environment(), log=log)
    ending.callback(engine.end)
    return engine


def _speed(engine: Engine) -> float:
    """Of one greedy request, the best of a few: what else runs can only make it slower."""
    found = []
    for _ in range(BEST_OF + 1):
        begun = time.monotonic()
        engine.greedy("def read_lines(path):", TOKENS)
        found.append(TOKENS / (time.monotonic() - begun))
    return max(found[1:])


def _perplexity(engine: Engine) -> float:
    """Of held-out code, by the engine's own probabilities of each token of a prompt."""
    total = count = 0.0
    for prompt in model_pair().prompts()[:TEXTS]:
        question: dict[str, object] = {"prompt": prompt, "max_tokens": 1, "echo": True, "logprobs": 0}
        answer: Any = engine.post("/v1/completions", question)
        found = [value for value in answer["choices"][0]["logprobs"]["token_logprobs"][:-1] if value is not None]
        total, count = total - sum(found), count + len(found)
    return math.exp(total / count)


def _kernel(engine: Engine) -> str:
    found = _KERNEL.search(engine.log.read_text(errors="replace"))
    return found[1] if found else ""
