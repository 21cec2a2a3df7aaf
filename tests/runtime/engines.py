"""Starts real engines through the launcher, on loopback, and talks to them."""

import dataclasses
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import MappingProxyType
from typing import Any

from deploy.local.layout import REPOSITORY
from tandem_contracts.launch import LAUNCH_MODULE, LaunchOptions

LOOPBACK = "127.0.0.1"
START_LIMIT_SECONDS = 240.0
ANSWER_LIMIT_SECONDS = 180.0
END_LIMIT_SECONDS = 60.0
REQUESTS_AT_ONCE = 8
NO_VARIABLES: Mapping[str, str] = MappingProxyType({})


def free_port() -> int:
    """A port that nobody listens at now."""
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        return int(probe.getsockname()[1])


class Engine:
    """One launcher with its engine, in a session of its own, so that every process of it can be found."""

    def __init__(
        self,
        options: LaunchOptions,
        *,
        python: Path,
        log: Path,
        module: str = LAUNCH_MODULE,
        environment: Mapping[str, str] = NO_VARIABLES,
    ) -> None:
        """`module`: the launcher, or one that does more; `environment`: variables that it gets besides."""
        self.options = options
        self.log = log
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                [str(python), "-m", module, *options.to_arguments()],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                cwd=log.parent,
                env={
                    **os.environ,
                    "PYTHONPATH": str(REPOSITORY / "runtime"),
                    # Two cores serve two engines: with more threads each they wait for each other.
                    "OMP_NUM_THREADS": "1",
                    "VLLM_CPU_KVCACHE_SPACE": "1",
                    **environment,
                },
            )

    @property
    def address(self) -> str:
        """`host:port` of the engine's HTTP server."""
        return f"{LOOPBACK}:{self.options.http_port}"

    def wait_until_ready(self) -> None:
        """Waits for the launcher to say so on its metrics port."""
        deadline = time.monotonic() + START_LIMIT_SECONDS
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise AssertionError(f"the engine ended with {self.process.returncode}; log: {self.log}")
            try:
                if self.own_metric("tandem_engine_ready") == 1:
                    return
            except OSError:
                pass
            time.sleep(0.2)
        raise AssertionError(f"the engine is not ready after {START_LIMIT_SECONDS:.0f} s; log: {self.log}")

    def wait_for_end(self) -> int:
        """The launcher's exit code."""
        try:
            return self.process.wait(timeout=START_LIMIT_SECONDS)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"no end after {START_LIMIT_SECONDS:.0f} s; log: {self.log}") from None

    def signal_all(self, number: signal.Signals) -> None:
        """Sends a signal to the launcher and to every process below it."""
        for process in _session_members(self.process.pid):
            try:
                os.kill(process, number)
            except ProcessLookupError:
                continue

    def signal_below(self, number: signal.Signals) -> None:
        """Sends a signal to the engine's processes, not to the launcher."""
        for process in _session_members(self.process.pid):
            if process != self.process.pid:
                os.kill(process, number)

    def is_gone(self) -> bool:
        """Whether no process of it is left."""
        return not _session_members(self.process.pid)

    def end(self) -> None:
        """Kills what is left of it."""
        self.signal_all(signal.SIGKILL)
        self.process.wait(timeout=END_LIMIT_SECONDS)

    def post(self, path: str, question: dict[str, object]) -> dict[str, object]:
        """The decoded answer of the engine's OpenAI API."""
        answer = _exchange(self.options.http_port, "POST", path, json.dumps(question))
        return dict(json.loads(answer))

    def greedy(self, prompt: str, tokens: int) -> str:
        """The greedy continuation of a prompt."""
        question = {"prompt": prompt, "max_tokens": tokens, "temperature": 0, "ignore_eos": True}
        answer = self.post("/v1/completions", question)
        return str(answer["choices"][0]["text"])  # type: ignore[index]

    def completions(self, prompt: Sequence[int], **sampling: object) -> list[list[int]]:
        """The token ids of each continuation of a prompt."""
        question = {"prompt": list(prompt), "ignore_eos": True, "return_token_ids": True, **sampling}
        choices: Any = self.post("/v1/completions", question)["choices"]
        return [list(choice["token_ids"]) for choice in choices]

    def likeliest(self, prompt: Sequence[int], count: int) -> dict[int, float]:
        """Log-probabilities of the tokens that are likeliest next, those first."""
        question = {"prompt": list(prompt), "max_tokens": 1, "temperature": 0, "logprobs": count}
        answer: Any = self.post("/v1/completions", {**question, "return_tokens_as_token_ids": True})
        (found,) = answer["choices"][0]["logprobs"]["top_logprobs"]
        ordered = sorted(found.items(), key=lambda entry: -entry[1])
        return {int(name.removeprefix("token_id:")): value for name, value in ordered[:count]}

    def greedy_all(self, prompts: list[str], tokens: int) -> list[str]:
        """The greedy continuations of all prompts, several at a time."""
        with ThreadPoolExecutor(REQUESTS_AT_ONCE) as pool:
            return list(pool.map(lambda prompt: self.greedy(prompt, tokens), prompts))

    def metric(self, name: str) -> float:
        """The sum of one of vLLM's metrics over its labels."""
        return _metric(self.metrics_page(), name)

    def metrics_page(self) -> str:
        """All of vLLM's metrics."""
        return _exchange(self.options.http_port, "GET", "/metrics")

    def own_metric(self, name: str, labels: str = "") -> float:
        """The sum of one of the launcher's metrics over the series that contain `labels`."""
        return _metric(_exchange(self.options.metrics_port, "GET", "/metrics"), name, labels)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Accepted:
    """How many draft tokens an engine has been given, and has accepted, so far."""

    drafted: float
    accepted: float

    @classmethod
    def of(cls, engine: Engine) -> "Accepted":
        """Reads vLLM's own counters."""
        return cls(
            drafted=engine.metric("vllm:spec_decode_num_draft_tokens_total"),
            accepted=engine.metric("vllm:spec_decode_num_accepted_tokens_total"),
        )


def _exchange(port: int, method: str, path: str, body: str | None = None) -> str:
    connection = http.client.HTTPConnection(LOOPBACK, port, timeout=ANSWER_LIMIT_SECONDS)
    try:
        connection.request(method, path, body=body, headers={"Content-Type": "application/json"})
        response = connection.getresponse()
        text = response.read().decode()
    finally:
        connection.close()
    assert response.status == http.HTTPStatus.OK, f"{path}: {response.status}: {text}"
    return text


def _metric(text: str, name: str, labels: str = "") -> float:
    pattern = re.compile(rf"^{re.escape(name)}(?:\{{(.*)\}})? (\S+)$", re.MULTILINE)
    values = [float(value) for found, value in pattern.findall(text) if labels in found]
    assert values, f"no metric {name} with {labels!r}"
    return sum(values)


def _session_members(leader: int) -> list[int]:
    """The processes of a session; those that have ended and only wait to be reaped are left out."""
    members = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue  # it ended meanwhile
            state, session = fields[0], int(fields[3])
            if session == leader and state != "Z":
                members.append(int(entry.name))
    return members
