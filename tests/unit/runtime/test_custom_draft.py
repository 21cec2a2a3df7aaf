"""A draft server of one's own: what its container is told, and the one that comes as an example."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import socket
import subprocess
import sys
from array import array
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from deploy.local.layout import REPOSITORY
from deploy.local.processes import wait_until
from tandem_contracts.draft_container import DraftContainer, InvalidContainerError
from tandem_contracts.termination import ExitCode, Reason, TerminationMessage
from tandem_runtime import conformance
from tandem_runtime.launch.custom import serve
from tests.runtime.engines import LOOPBACK, free_port

EXAMPLE = REPOSITORY / "deploy/images/draft-lookup/lookup.py"
LIMIT_SECONDS = 30.0
TOLD = {"TANDEM_MODEL": "/models/draft/tiny", "TANDEM_MAX_SESSIONS": "64", "TANDEM_GRPC_PORT": "8002"}


def test_a_container_is_told_everything_that_it_needs_to_know() -> None:
    plain = DraftContainer(model="/models/draft/tiny")
    assert plain.to_environment() == {**TOLD, "TANDEM_METRICS_PORT": "8001"}
    assert DraftContainer(model="/m", identity="chat/pair", max_sessions=9).to_environment() == {
        "TANDEM_MODEL": "/m",
        "TANDEM_MAX_SESSIONS": "9",
        "TANDEM_IDENTITY": "chat/pair",
        "TANDEM_CERTIFICATES_FOLDER": "/run/tandem/certificates",
        "TANDEM_CREDENTIALS_FOLDER": "/run/tandem/credentials",
        "TANDEM_GRPC_PORT": "8002",
        "TANDEM_METRICS_PORT": "8001",
        "TANDEM_HEALTH_PORT": "8003",
    }


@pytest.mark.parametrize(
    "container",
    [
        DraftContainer(model="/m"),
        DraftContainer(model="/m", host="127.0.0.1", grpc_port=1, metrics_port=65535, max_sessions=1),
        DraftContainer(model="/m", identity="chat/pair", certificates_folder="/c", credentials_folder="/d"),
    ],
)
def test_what_is_told_is_what_is_understood(container: DraftContainer) -> None:
    assert DraftContainer.of({**container.to_environment(), "PATH": "/bin"}) == container


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"TANDEM_MODEL": ""}, r"TANDEM_MODEL: '' is not allowed here \(allowed: the path of a model's folder\)"),
        ({"TANDEM_GRPC_PORT": "0"}, r"TANDEM_GRPC_PORT: '0' .*a whole number from 1 to 65535"),
        ({"TANDEM_METRICS_PORT": "٣"}, "TANDEM_METRICS_PORT"),
        ({"TANDEM_MAX_SESSIONS": "-1"}, "TANDEM_MAX_SESSIONS: '-1'"),
        ({"TANDEM_IDENTITY": "pair"}, r"TANDEM_IDENTITY: 'pair' .*NAMESPACE/NAME"),
    ],
)
def test_what_cannot_be_is_named_with_what_is_allowed(wrong: dict[str, str], message: str) -> None:
    with pytest.raises(InvalidContainerError, match=message):
        DraftContainer.of({**TOLD, **wrong})


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """What there is of a model but its weights' content."""
    made = tmp_path / "model"
    made.mkdir()
    configuration = {"model_type": "llama", "vocab_size": 4096, "max_position_embeddings": 512}
    (made / "config.json").write_text(json.dumps(configuration))
    (made / "tokenizer.json").write_text(json.dumps({"model": {"type": "BPE", "vocab": {"a": 0}, "merges": []}}))
    (made / "model.safetensors").touch()
    return made


@pytest.fixture
def container(model: Path) -> DraftContainer:
    return DraftContainer(model=str(model), host=LOOPBACK, grpc_port=free_port(), metrics_port=free_port())


@pytest.fixture
def example(container: DraftContainer, tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """The example as its image starts it."""
    paths = {"PYTHONPATH": str(REPOSITORY / "runtime")}
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, str(EXAMPLE)], env={**os.environ, **paths, **container.to_environment()}, stdout=log
        )
    try:
        yield process
    finally:
        process.kill()
        process.wait(LIMIT_SECONDS)


def test_the_example_conforms_and_ends_when_it_is_told_to(
    example: subprocess.Popen[bytes], container: DraftContainer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    address = f"{LOOPBACK}:{container.grpc_port}"

    def listens() -> bool:
        assert example.poll() is None, (tmp_path / "log").read_text()
        with socket.socket() as tried:
            return tried.connect_ex((LOOPBACK, container.grpc_port)) == 0

    wait_until(listens, "the example", limit_seconds=LIMIT_SECONDS, log=tmp_path / "log")
    assert conformance.main([address]) == 0, capsys.readouterr().out
    example.send_signal(signal.SIGTERM)
    assert example.wait(LIMIT_SECONDS) == ExitCode.OK


@pytest.fixture
def signals() -> Iterator[None]:
    """Handlers as they were before."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.usefixtures("signals")
def test_what_keeps_a_server_of_ones_own_from_its_start_is_its_last_word(model: Path, tmp_path: Path) -> None:
    log = tmp_path / "termination-log"

    def broken(_container: DraftContainer) -> Any:
        raise ValueError("no such card")

    told = DraftContainer(model=str(model), host=LOOPBACK, metrics_port=free_port()).to_environment()
    assert serve(broken, environment=told, termination_log=str(log)) == ExitCode.ENGINE_START_FAILED
    assert TerminationMessage.decode(log.read_text()).message == "ValueError: no such card"
    assert serve(broken, environment={}, termination_log=str(log)) == ExitCode.INVALID_OPTIONS
    assert TerminationMessage.decode(log.read_text()).reason == Reason.INVALID_OPTIONS


@pytest.fixture(scope="module")
def continuation() -> Callable[[array[int], int], list[int]]:
    spec = importlib.util.spec_from_file_location("lookup", EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    found: Callable[[array[int], int], list[int]] = module.continuation
    return found


@pytest.mark.parametrize(
    ("context", "depth", "expected"),
    [
        ([1, 2, 3, 4, 9, 1, 2, 3, 4], 3, [9, 1, 2]),
        ([7, 8, 1, 7, 8, 2, 7, 8], 1, [2]),
        ([5, 6, 7, 8, 1, 6, 7, 8, 2, 5, 6, 7, 8], 2, [1, 6]),
        ([3, 3, 3], 4, [3]),
        ([256, 1, 65536, 256], 2, [1, 65536]),
        ([0, 1, 256, 4], 2, [4]),
        ([4], 2, [4]),
    ],
)
def test_the_example_drafts_what_followed_the_longest_newest_match(
    continuation: Callable[[array[int], int], list[int]], context: list[int], depth: int, expected: list[int]
) -> None:
    assert continuation(array("i", context), depth) == expected
