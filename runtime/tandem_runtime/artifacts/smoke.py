"""`python -m tandem_runtime.artifacts.smoke`: asks a model of the very engine that is to serve it, before others do.

That a checkpoint loads does not say that it serves: some kernels fail at the first request only, and others answer
nonsense, which shows beside what was recorded when the model was measured. Runs in the image, on the hardware and with
the settings of the pods to come, and publishes what the engine has compiled, so that they need not. Its last word is
`Smoked`.
"""

from __future__ import annotations

import argparse
import json
import math
import re
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from tandem_contracts.artifact_job import SMOKE_MODULE, Smoked
from tandem_contracts.launch import LAUNCH_MODULE, LaunchOptions
from tandem_contracts.ports import METRICS_PORT
from tandem_contracts.reference import Reference
from tandem_contracts.termination import ExitCode, Phase, Reason, TerminationMessage
from tandem_runtime.artifacts.compile_cache import publish_compile_cache
from tandem_runtime.artifacts.last_word import RefusedError, ended
from tandem_runtime.artifacts.options import parser_of
from tandem_runtime.artifacts.progress import Progress
from tandem_runtime.artifacts.reference import UncomparableError, read_reference, required_deviation
from tandem_runtime.artifacts.volume import Volume
from tandem_runtime.launch.engine import cache_folder

PROMPTS = ("def add(a, b):", "The capital of France is", "1, 2, 3, 4,", "import os\n\n")
FIRST_TOKENS = 8
TIMED_TOKENS = 64
ANSWER_LIMIT_SECONDS = 120.0
STOP_LIMIT_SECONDS = 60.0
LAST_WORD_LIMIT_SECONDS = 20.0
_POLL_SECONDS = 0.25
_KERNEL = re.compile(r"(?:Selected|Using) (\w*Kernel)\b")


def main(arguments: list[str]) -> ExitCode:
    """Ask one model."""
    parser = parser_of(SMOKE_MODULE, __doc__)
    parser.add_argument("--deadline-seconds", type=int, required=True, help="most time until the engine answers")
    parser.add_argument("--owner", required=True, help="what tells this try from others, such as the pod's uid")
    parser.add_argument(
        "--reference", type=read_reference, default=None, help="Reference as JSON; omitted: nothing is compared"
    )
    parser.add_argument("launch", nargs="+", help="arguments of the launcher, behind --")
    options = parser.parse_args(arguments)
    return ended(Phase.SMOKE, partial(_smoked, options), termination_log=options.termination_log)


def _smoked(options: argparse.Namespace) -> str:
    progress = Progress(port=options.metrics_port)
    progress.begin(Phase.SMOKE, len(PROMPTS) + 1)
    begun = time.monotonic()
    launch = LaunchOptions.parse(options.launch)
    if not Path(launch.model).is_dir():
        raise RefusedError(Reason.ARTIFACT_MISSING, f"{launch.model} does not exist")
    with _engine(launch) as engine:
        engine.wait_until_ready(options.deadline_seconds)
        ready_seconds = time.monotonic() - begun
        # First: it has figures of an engine whose text is empty, too.
        deviation, uncompared = _compared(engine, options.reference)
        for done, prompt in enumerate(PROMPTS):
            require_answer(engine.ask(prompt, FIRST_TOKENS), prompt)
            progress.show(Phase.SMOKE, partial(float, done + 1), len(PROMPTS) + 1)
        asked = time.monotonic()
        require_answer(engine.ask(PROMPTS[0], TIMED_TOKENS), PROMPTS[0])
        seconds = time.monotonic() - asked
        engine.require_alive()
    return Smoked(
        ready_seconds=ready_seconds,
        tokens_per_second=TIMED_TOKENS / seconds,
        kernel=engine.kernel,
        deviation=deviation,
        uncompared=uncompared,
        compile_cache_bytes=_published(options, launch.compile_cache),
    ).encode()


def _compared(engine: Engine, reference: Reference | None) -> tuple[float | None, str]:
    """How far the engine is from the record; else why that is not known. Raises RefusedError where it is too far."""
    if reference is None:
        return None, ""
    try:
        found = required_deviation(reference, engine.options, engine.complete)
    except UncomparableError as error:
        sys.stdout.write(f"nothing is compared with the record: {error}\n")
        return None, str(error)
    except urllib.error.HTTPError as error:
        raise engine.silence("what was recorded", f"HTTP {error.code}") from error
    sys.stdout.write(f"compared with the record: {found}\n")
    return found.mean, ""


def _published(options: argparse.Namespace, compile_cache: str) -> int:
    """Bytes of the compile cache; 0 where engines look for none."""
    if not compile_cache:
        return 0
    volume, name = Volume(options.volume), Path(compile_cache).name
    return publish_compile_cache(cache_folder(), volume, name, artifact=options.key, owner=options.owner)


class Engine:
    """A launcher and its engine, and what they say."""

    def __init__(self, launch: LaunchOptions, scratch: Path) -> None:
        # The container's own termination log is for our last word, its metrics port for our progress.
        self._log = scratch / "last-word"
        self.options = replace(launch, termination_log=str(self._log), metrics_port=METRICS_PORT + 100)
        self.kernel = ""
        self._process = subprocess.Popen(
            [sys.executable, "-m", LAUNCH_MODULE, *self.options.to_arguments()],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
        self._reader = threading.Thread(target=self._read, name="engine-output", daemon=True)
        self._reader.start()

    def wait_until_ready(self, limit_seconds: float) -> None:
        """Raises RefusedError with the root cause of an engine that ends, or does not answer in time."""
        deadline = time.monotonic() + limit_seconds
        while not self._is_ready():
            self.require_alive()
            if time.monotonic() > deadline:
                raise RefusedError(Reason.SMOKE_FAILED, f"the engine does not answer after {limit_seconds:.0f} s")
            time.sleep(_POLL_SECONDS)

    def require_alive(self) -> None:
        """Raises RefusedError."""
        code = self._process.poll()
        if code is not None:
            raise RefusedError(Reason.SMOKE_FAILED, f"the engine ended with exit code {code}: {self._cause()}")

    def ask(self, prompt: str, tokens: int) -> dict[str, Any]:
        """The answer to one greedy request of exactly so many tokens. Raises RefusedError."""
        body = {"prompt": prompt, "max_tokens": tokens, "temperature": 0, "ignore_eos": True, "logprobs": 1}
        try:
            return self.complete(body)
        except urllib.error.HTTPError as error:
            raise self.silence(prompt, f"HTTP {error.code}") from error

    def complete(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """The answer to one completion. Raises HTTPError for an error that is told, RefusedError for any other one."""
        data = json.dumps({"model": self.options.served_name, **body}).encode()
        request = urllib.request.Request(  # noqa: S310 -- our own engine
            f"{self._address}/v1/completions", data, {"Content-Type": "application/json"}
        )
        try:
            with urllib.request.urlopen(request, timeout=ANSWER_LIMIT_SECONDS) as answer:  # noqa: S310
                found: dict[str, Any] = json.load(answer)
                return found
        except urllib.error.HTTPError:
            raise
        except (OSError, ValueError) as error:
            raise self.silence(body["prompt"], type(error).__name__) from error

    def silence(self, prompt: object, told: str) -> RefusedError:
        """What to raise where an engine that is healthy does not answer, with the root cause."""
        with suppress(subprocess.TimeoutExpired):  # the launcher has the root cause once it has seen the engine die
            self._process.wait(LAST_WORD_LIMIT_SECONDS)
        return RefusedError(
            Reason.SMOKE_FAILED, f"the engine is healthy, and does not answer {prompt!r}: {told}: {self._cause()}"
        )

    def stop(self) -> None:
        """End the launcher, and with it the engine."""
        self._process.terminate()
        try:
            self._process.wait(STOP_LIMIT_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._reader.join(STOP_LIMIT_SECONDS)

    @property
    def _address(self) -> str:
        return f"http://127.0.0.1:{self.options.http_port}"

    def _is_ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self._address}/health", timeout=2.0) as answer:  # noqa: S310
                return bool(answer.status == 200)
        except OSError:
            return False

    def _cause(self) -> str:
        """The root cause as the launcher has it; else the last error that was printed."""
        try:
            return TerminationMessage.decode(self._log.read_text(encoding="utf-8")).message
        except (OSError, ValueError):
            return self._last_error or "nothing was said"

    _last_error = ""

    def _read(self) -> None:
        """Pass on what is printed, and keep the name of the kernel and the last error."""
        assert self._process.stdout is not None  # noqa: S101 -- narrows the type
        for line in self._process.stdout:
            sys.stdout.write(line)
            kernel = _KERNEL.search(line)
            if kernel and not self.kernel:
                self.kernel = kernel[1]
            error = _ERROR.search(line)
            if error:
                self._last_error = error[0].strip()[:300]


_ERROR = re.compile(r"\b\w*(?:Error|Exception): .+")


@contextmanager
def _engine(launch: LaunchOptions) -> Iterator[Engine]:
    with tempfile.TemporaryDirectory(prefix="tandem-smoke-") as scratch:
        engine = Engine(launch, Path(scratch))
        try:
            yield engine
        finally:
            engine.stop()


def require_answer(answer: dict[str, Any], prompt: str) -> None:
    """Raise RefusedError for an answer without text, or with probabilities that are no numbers."""
    choice = (answer.get("choices") or [{}])[0]
    if not choice.get("text"):
        raise RefusedError(Reason.SMOKE_FAILED, f"the answer to {prompt!r} has no text")
    probabilities = (choice.get("logprobs") or {}).get("token_logprobs") or []
    if not probabilities or not all(value is not None and math.isfinite(value) for value in probabilities):
        raise RefusedError(
            Reason.SMOKE_FAILED, f"the answer to {prompt!r} has probabilities that are no numbers: {probabilities[:4]}"
        )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
