"""Drafts by a real Triton server: what Transformers drafts, and what is said when the server is gone."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from deploy.fixtures.environment import triton_environment
from deploy.fixtures.pair import ModelPair
from tandem_contracts.launch import DraftEngine, Role
from tandem_contracts.termination import ExitCode, TerminationMessage
from tandem_runtime import conformance
from tests.runtime.engines import LOOPBACK, Engine
from tests.runtime.probes import answers_of

pytestmark = [pytest.mark.engine, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def kinds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("kinds")


@pytest.fixture(scope="module")
def expected(models: ModelPair, kinds: Path) -> dict[str, Any]:
    return answers_of("transformers_probe.py", str(models.draft), str(kinds))


@pytest.fixture(scope="module")
def found(
    expected: dict[str, Any], models: ModelPair, kinds: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Any]:
    """After `expected`, which has written the models of all kinds."""
    scratch = str(tmp_path_factory.mktemp("scratch"))
    return answers_of("triton_probe.py", str(models.draft), str(kinds), scratch, python=triton_environment())


def test_a_draft_by_triton_is_token_by_token_the_one_by_transformers(
    expected: dict[str, Any], found: dict[str, Any]
) -> None:
    assert [len(step) for step in found["triton"]] == [4, 4, 4, 4, 5]
    assert found["triton"] == expected["engine"] == expected["generate"]


@pytest.mark.parametrize("kind", ["llama", "mistral", "qwen2", "qwen3"])
def test_an_exported_graph_computes_what_the_model_does(
    kind: str, expected: dict[str, Any], found: dict[str, Any]
) -> None:
    assert found[kind] == expected[kind]
    tokens = [token for step in found[kind] for draft in step for token in draft]
    assert len(set(tokens)) > 20  # a model that says always the same would show no difference


def test_a_draft_that_is_due_is_cut_and_its_context_is_as_it_was(found: dict[str, Any]) -> None:
    assert 1 <= found["cut"]["tokens"] < found["cut"]["wanted"]
    assert found["cut"]["again"] == found["cut"]["anew"]


def test_a_server_that_was_killed_is_named_with_its_address_and_the_cause(found: dict[str, Any]) -> None:
    told = found["lost"]
    assert told["draft"].startswith(f"Triton at {told['address']}: ")
    assert told["check"].startswith("Triton's server is gone: the engine was ended by SIGKILL")


def triton_of(engine: Engine) -> int:
    """The process of the server that a launcher has started."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal() and _parent_and_name(entry) == (engine.process.pid, "tritonserver"):
            return int(entry.name)
    raise AssertionError(f"no tritonserver; log: {engine.log}")


def _parent_and_name(entry: Path) -> tuple[int, str]:
    try:
        before, _, after = (entry / "stat").read_text().rpartition(")")
    except OSError:
        return 0, ""  # it ended meanwhile
    return int(after.split()[1]), before.partition("(")[2]


def leftovers(engine: Engine) -> list[Path]:
    """Shared memory of this launcher's server."""
    return list(Path("/dev/shm").glob(f"tandem-{engine.process.pid}-*"))


def test_a_draft_server_with_triton_conforms_and_ends_cleanly(start: Callable[..., Engine], models: ModelPair) -> None:
    engine = start(role=Role.DRAFT, draft_engine=DraftEngine.TRITON, model=str(models.draft))
    engine.wait_until_ready()
    assert leftovers(engine)
    assert conformance.main([f"{LOOPBACK}:{engine.options.grpc_port}"]) == 0
    engine.process.send_signal(signal.SIGTERM)
    assert engine.wait_for_end() == ExitCode.OK
    assert engine.is_gone()
    assert leftovers(engine) == []


def test_a_draft_server_whose_triton_is_gone_ends_and_says_so(start: Callable[..., Engine], models: ModelPair) -> None:
    engine = start(role=Role.DRAFT, draft_engine=DraftEngine.TRITON, model=str(models.draft))
    engine.wait_until_ready()
    os.kill(triton_of(engine), signal.SIGKILL)
    assert engine.wait_for_end() == ExitCode.ENGINE_FAILED
    message = TerminationMessage.decode(Path(engine.options.termination_log).read_text()).message
    assert message.startswith("TritonEndedError: Triton's server is gone: the engine was ended by SIGKILL")
    assert engine.is_gone()
    assert leftovers(engine) == []


def test_a_model_that_cannot_be_exported_is_refused_at_the_start_by_what_it_is(
    start: Callable[..., Engine], models: ModelPair, tmp_path: Path
) -> None:
    for file in models.draft.iterdir():
        (tmp_path / file.name).write_bytes(
            file.read_bytes().replace(b'"model_type": "llama"', b'"model_type": "gemma"')
        )
    engine = start(role=Role.DRAFT, draft_engine=DraftEngine.TRITON, model=str(tmp_path))
    assert engine.wait_for_end() == ExitCode.ENGINE_START_FAILED
    message = TerminationMessage.decode(Path(engine.options.termination_log).read_text()).message
    assert message.startswith("UnservedModelError: model_type gemma is not exported to ONNX, only llama, mistral")
