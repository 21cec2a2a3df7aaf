"""The wake gate as a program: its options, its ports, and how it ends."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tandem_contracts import metrics
from tandem_contracts.gate import GATE_MODULE, GateOptions, InvalidGateOptionsError, Upstream
from tandem_contracts.launch import API_KEY_VARIABLE, Access
from tandem_contracts.termination import ExitCode, Reason, TerminationMessage
from tandem_runtime.gateway.__main__ import main
from tests.unit.runtime.gates import HOST, LIMIT_SECONDS, PATH, Engine

# -- options ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        GateOptions(served_name="llama", upstream="chat-wake"),
        GateOptions(served_name="llama", upstream="chat-wake:80", hold_seconds=30, most_held=5, access=Access.API_KEY),
    ],
)
def test_options_are_parsed_as_they_were_spelled(options: GateOptions) -> None:
    assert GateOptions.parse(options.to_arguments()) == options


def test_an_option_that_equals_its_default_is_not_spelled() -> None:
    options = GateOptions(served_name="llama", upstream="chat-wake", most_held=1000)
    assert options.to_arguments() == ["--served-name=llama", "--upstream=chat-wake"]


@pytest.mark.parametrize(
    ("upstream", "read"),
    [
        ("chat-wake", [("chat-wake", 8000)]),
        ("chat-wake:80", [("chat-wake", 80)]),
        ("http://chat-wake:80/", [("chat-wake", 80)]),
        ("[::1]:80, 10.0.0.1", [("::1", 80), ("10.0.0.1", 8000)]),
    ],
)
def test_an_upstream_is_a_host_with_or_without_a_port(upstream: str, read: list[tuple[str, int]]) -> None:
    assert GateOptions(served_name="l", upstream=upstream).upstreams == tuple(Upstream(*pair) for pair in read)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--served-name=l"], "the following arguments are required: --upstream"),
        (["--served-name=", "--upstream=a"], "--served-name: '' is not allowed here"),
        (["--served-name=l", "--upstream="], "--upstream: '' is not allowed here (allowed: HOST or HOST:PORT)"),
        (["--served-name=l", "--upstream=a:b"], "--upstream: 'a:b' is not allowed here"),
        (["--served-name=l", "--upstream=https://a"], "--upstream: 'https://a' is not allowed here"),
        (["--served-name=l", "--upstream=a..b"], "--upstream: 'a..b' is not allowed here"),
        (["--served-name=l", f"--upstream={'a' * 64}"], "is not allowed here"),
        (["--served-name=l", "--upstream=a:0"], "--upstream: 'a:0' is not allowed here"),
        (["--served-name=l", "--upstream=a/b"], "--upstream: 'a/b' is not allowed here"),
        (["--served-name=l", "--upstream=a", "--hold-seconds=0"], "--hold-seconds: 0 is not allowed here"),
        (["--served-name=l", "--upstream=a", "--most-held=20001"], "(allowed: 1 to 20000)"),
        (["--served-name=l", "--upstream=a", "--most-held-bytes=1000"], "--most-held-bytes: 1000 is not allowed here"),
        (["--served-name=l", "--upstream=a", "--access=Open!"], "'Open!' is not allowed (allowed: Open, ApiKey)"),
        (["--served-name=l", "--upstream=a", "--access=ApiKey"], f"{API_KEY_VARIABLE}: '' is not allowed here"),
    ],
)
def test_options_that_do_not_hold_are_its_last_word(
    arguments: list[str], told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(API_KEY_VARIABLE, raising=False)
    monkeypatch.setattr("tandem_runtime.gateway.__main__.TERMINATION_LOG", str(tmp_path / "log"))
    log = tmp_path / "log"
    is_parsed = "ApiKey" in arguments[-1]
    assert main([*arguments, f"--termination-log={log}"] if is_parsed else arguments) is ExitCode.INVALID_OPTIONS
    assert told in TerminationMessage.decode(log.read_text()).message


def test_options_are_refused_where_they_are_made() -> None:
    with pytest.raises(InvalidGateOptionsError, match="--retry-after-seconds: 0 is not allowed here"):
        GateOptions(served_name="l", upstream="a", retry_after_seconds=0)


# -- the process -----------------------------------------------------------------------------------------------------


class Program:
    """A gate in a process of its own."""

    def __init__(self, folder: Path, upstream: str, *flags: str) -> None:
        self.port, self.metrics_port = free_ports(2)
        self.log = folder / "termination-log"
        self.process = subprocess.Popen(
            [
                *(sys.executable, "-m", GATE_MODULE, "--served-name=llama", f"--upstream={upstream}", f"--host={HOST}"),
                *(f"--http-port={self.port}", f"--metrics-port={self.metrics_port}"),
                *(f"--termination-log={self.log}", *flags),
            ],
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def ask(self) -> tuple[int, str, str | None]:
        """Status, body and Retry-After of a request for inference."""
        request = urllib.request.Request(f"http://{HOST}:{self.port}{PATH}", data=b"hello")
        try:
            with urllib.request.urlopen(request, timeout=LIMIT_SECONDS) as answer:  # noqa: S310
                return answer.status, answer.read().decode(), None
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode(), error.headers["Retry-After"]

    def is_up(self) -> bool:
        with contextlib.suppress(OSError), socket.create_connection((HOST, self.port), timeout=1):
            return True
        return False

    def figure(self, name: str) -> float:
        """A metric without labels, as it is scraped."""
        connection = http.client.HTTPConnection(HOST, self.metrics_port, timeout=LIMIT_SECONDS)
        connection.request("GET", "/metrics")
        page = connection.getresponse().read().decode()
        connection.close()
        (value,) = [line.split()[1] for line in page.splitlines() if line.startswith(f"{name} ")]
        return float(value)

    def end(self) -> tuple[int, str]:
        """Its exit code and its log, once it has ended."""
        output, _ = self.process.communicate(timeout=LIMIT_SECONDS)
        return self.process.returncode, output


def free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(contextlib.closing(socket.socket())) for _ in range(count)]
        for each in sockets:
            each.bind((HOST, 0))
        return [each.getsockname()[1] for each in sockets]


def wait_until(condition: Callable[[], bool], what: str) -> None:
    limit = time.monotonic() + LIMIT_SECONDS
    while not condition():
        if time.monotonic() > limit:
            raise TimeoutError(what)
        time.sleep(0.01)


@pytest.fixture
def clients() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(4) as pool:
        yield pool


@contextlib.contextmanager
def running(folder: Path, upstream: str, *flags: str) -> Iterator[Program]:
    program = Program(folder, upstream, *flags)
    try:
        wait_until(lambda: program.is_up() or program.process.poll() is not None, "the gate listens")
        yield program
    finally:
        program.process.kill()
        program.process.communicate()


def test_what_is_held_at_sigterm_is_answered_before_the_end(tmp_path: Path, clients: ThreadPoolExecutor) -> None:
    async def script() -> None:
        engine = Engine()
        with running(tmp_path, engine.address) as gate:
            held = clients.submit(gate.ask)
            await asyncio.to_thread(wait_until, lambda: gate.figure(metrics.GATE_HELD) == 1, "the request is held")
            gate.process.send_signal(signal.SIGTERM)
            await asyncio.to_thread(wait_until, lambda: not gate.is_up(), "no new connection is taken")
            await engine.start()
            assert await asyncio.wrap_future(held) == (200, "answer to hello", None)
            code, output = await asyncio.to_thread(gate.end)
            assert (code, "stopped as asked" in output) == (0, True)
            assert not gate.log.exists()
        await engine.stop()

    asyncio.run(script())


def test_what_is_held_longer_than_it_may_drain_is_told_to_come_again(
    tmp_path: Path, clients: ThreadPoolExecutor
) -> None:
    with running(tmp_path, f"{HOST}:1", "--drain-seconds=1") as gate:
        held = clients.submit(gate.ask)
        wait_until(lambda: gate.figure(metrics.GATE_HELD) == 1, "the request is held")
        gate.process.send_signal(signal.SIGTERM)
        status, body, retry_after = held.result(LIMIT_SECONDS)
        assert (status, retry_after) == (503, "10")
        assert json.loads(body)["error"]["message"].startswith("the gate that held the request stopped")
        assert gate.end()[0] == 0


def test_a_gate_that_holds_nothing_ends_at_once(tmp_path: Path) -> None:
    with running(tmp_path, f"{HOST}:1", "--drain-seconds=3600") as gate:
        idle = socket.create_connection((HOST, gate.port))
        gate.process.send_signal(signal.SIGTERM)
        assert gate.end()[0] == 0
        idle.close()


def test_a_port_that_is_taken_is_its_last_word(tmp_path: Path) -> None:
    with contextlib.closing(socket.socket()) as taken:
        taken.bind((HOST, 0))
        taken.listen()
        with running(tmp_path, f"{HOST}:1", f"--http-port={taken.getsockname()[1]}") as gate:
            assert gate.end()[0] == ExitCode.GATE_FAILED
            last_word = TerminationMessage.decode(gate.log.read_text())
            assert (last_word.reason, "address already in use" in last_word.message) == (Reason.GATE_FAILED, True)
