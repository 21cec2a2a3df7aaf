"""Models in one form as vLLM serves them: how soon, how fast, and how surprised by text that it has not seen.

Every engine has a folder of its own for what it compiles, as every pod has.
"""

from __future__ import annotations

import math
import os
import re
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from deploy.fixtures.environment import engine_environment
from deploy.fixtures.pair import model_pair
from deploy.local.layout import REPOSITORY
from tandem_contracts.artifact_job import SMOKE_MODULE, Smoked, smoke_arguments
from tandem_contracts.engine_settings import Compilation, DataType, EngineSettings
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


@dataclass(frozen=True)
class Compiled:
    """An engine that compiles: seconds until all replicas answered, by their number, and bytes of the cache."""

    cold: Mapping[int, float]
    warm: Mapping[int, float]
    cache_bytes: int


def compiled(model: Path, replicas: Sequence[int], folder: Path) -> Compiled:
    """Without a compile cache, and with the one that the smoke test's program publishes."""
    cache = folder / ".compiled" / "smoke"
    cache.parent.mkdir(parents=True)
    cold, warm = {}, {}
    for count in replicas:
        cold[count] = _ready_seconds(_options(model, folder, compilation=Compilation.COMPILED), count, folder)
    told = _smoked(_options(model, folder, compilation=Compilation.COMPILED, compile_cache=str(cache)), folder)
    for count in replicas:
        options = _options(model, folder, compilation=Compilation.COMPILED, compile_cache=str(cache))
        warm[count] = _ready_seconds(options, count, folder)
    return Compiled(cold, warm, told.compile_cache_bytes)


def _smoked(options: LaunchOptions, folder: Path) -> Smoked:
    """The last word of the smoke test's program. Raises CalledProcessError where it does not succeed."""
    word = folder / "smoke-word"
    arguments = smoke_arguments(key="smoke", owner="benchmark", deadline_seconds=600, launch=options.to_arguments())
    own = [f"--volume={folder / '.compiled'}", f"--termination-log={word}", "--metrics-port=0"]
    with tempfile.TemporaryDirectory(prefix="t-") as scratch:
        environment = {**os.environ, "PYTHONPATH": str(REPOSITORY / "runtime"), "TMPDIR": scratch}
        subprocess.run(
            [str(engine_environment()), "-m", SMOKE_MODULE, *own, *arguments],
            check=True,
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
    return Smoked.decode(word.read_text(encoding="utf-8"))


def _ready_seconds(options: LaunchOptions, count: int, folder: Path) -> float:
    with ExitStack() as ending:
        begun = time.monotonic()
        engines = [_started(options, folder / f"compiled-{number}", ending) for number in range(count)]
        for engine in engines:
            engine.wait_until_ready()
        return time.monotonic() - begun


def served(model: Path, replicas: Sequence[int], folder: Path) -> Served:
    """One form; the last number of replicas is not asked, only waited for."""
    folder.mkdir(parents=True, exist_ok=True)
    ready, speed, perplexity, kernel = {}, 0.0, 0.0, ""
    for count in replicas:
        with ExitStack() as ending:
            begun = time.monotonic()
            engines = [_started(_options(model, folder), folder / f"log-{number}", ending) for number in range(count)]
            for engine in engines:
                engine.wait_until_ready()
            ready[count] = time.monotonic() - begun
            if count == 1:
                (engine,) = engines
                speed, perplexity = _speed(engine), _perplexity(engine)
                kernel = _kernel(engine)
    size = sum(path.stat().st_size for path in model.glob("*.safetensors"))
    return Served(size, speed, perplexity, ready, kernel)


def _options(
    model: Path, folder: Path, *, compilation: Compilation | None = None, compile_cache: str = ""
) -> LaunchOptions:
    return LaunchOptions(
        role=Role.VERIFIER,
        model=str(model),
        served_name="model",
        host="127.0.0.1",
        http_port=free_port(),
        metrics_port=free_port(),
        termination_log=str(folder / "word"),
        compile_cache=compile_cache,
        engine=EngineSettings(data_type=DataType.BFLOAT16, max_model_length=1024, compilation=compilation),
    )


def _started(options: LaunchOptions, log: Path, ending: ExitStack) -> Engine:
    own = replace(
        options, http_port=free_port(), metrics_port=free_port(), termination_log=str(log.with_suffix(".word"))
    )
    # A short path: the engine's sockets are there, too.
    scratch = ending.enter_context(tempfile.TemporaryDirectory(prefix="t-", ignore_cleanup_errors=True))
    engine = Engine(own, python=engine_environment(), log=log, environment={"TMPDIR": scratch})
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
