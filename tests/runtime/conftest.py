"""Engines for the tests of this folder: real ones, started once where tests can share them."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from deploy.fixtures.environment import engine_environment, triton_environment
from deploy.fixtures.pair import ModelPair, model_pair
from tandem_contracts.launch import DraftEngine, LaunchOptions, Role, Speculation
from tests.runtime.collector import Collector
from tests.runtime.engines import LOOPBACK, NO_VARIABLES, Engine, free_port
from tests.runtime.serving_pair import CONTINUATION_TOKENS, DEPTH, PROMPTS, ServingPair
from tests.runtime.traced import variables_of


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "engine: needs the engine environment and starts a real vLLM")


@pytest.fixture(scope="session")
def models() -> ModelPair:
    return model_pair()


@pytest.fixture(scope="session")
def prompts(models: ModelPair) -> list[str]:
    found = models.prompts()[:PROMPTS]
    assert len(found) == PROMPTS
    return found


@pytest.fixture(scope="package")
def start(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Engine]]:
    """Starts an engine on loopback with the given launch options; none outlives the tests of this folder: the memory is
    for pods then."""
    started: list[Engine] = []

    def start_engine(*, environment: Mapping[str, str] = NO_VARIABLES, **changes: object) -> Engine:
        folder = tmp_path_factory.mktemp("engine")
        options = {
            "served_name": "tried",
            "host": LOOPBACK,
            "http_port": free_port(),
            "grpc_port": free_port(),
            "metrics_port": free_port(),
            "termination_log": str(folder / "termination-log"),
            **changes,
        }
        python = triton_environment if changes.get("draft_engine") is DraftEngine.TRITON else engine_environment
        told = LaunchOptions(**options)  # type: ignore[arg-type]
        engine = Engine(told, python=python(), log=folder / "log", environment=environment)
        started.append(engine)
        return engine

    yield start_engine
    for engine in started:
        engine.end()


@pytest.fixture(scope="package")
def collector() -> Iterator[Collector]:
    """Where the shared verifiers send their traces."""
    made = Collector()
    made.open()
    yield made
    made.close()


@pytest.fixture(scope="package")
def shared_pair(start: Callable[..., Engine], models: ModelPair, collector: Collector) -> ServingPair:
    draft_port = free_port()
    draft_address = f"{LOOPBACK}:{draft_port}"

    def start_draft() -> Engine:
        return start(
            role=Role.DRAFT, draft_engine=DraftEngine.TRANSFORMERS, model=str(models.draft), grpc_port=draft_port
        )

    pair = ServingPair(
        plain=start(
            role=Role.VERIFIER,
            model=str(models.verifier),
            traces_endpoint=collector.grpc_address,
            environment=variables_of(collector.grpc_address, "grpc"),
        ),
        verifier=start(
            role=Role.VERIFIER,
            traces_endpoint=f"{collector.http_address}/v1/traces",
            environment=variables_of(collector.http_address, "http/protobuf"),
            model=str(models.verifier),
            speculation=Speculation.REMOTE,
            max_depth=DEPTH,
            draft_address=draft_address,
        ),
        draft=start_draft(),
        draft_address=draft_address,
        start_draft=start_draft,
    )
    for engine in (pair.plain, pair.verifier, pair.draft):
        engine.wait_until_ready()
    return pair


@pytest.fixture
def pair(shared_pair: ServingPair, prompts: list[str]) -> ServingPair:
    """The shared engines, with a draft that is up and in use, whatever an earlier test did to it."""
    if shared_pair.draft.process.poll() is not None:
        shared_pair.restart_draft()
    shared_pair.wait_until_drafting(prompts[0])
    return shared_pair


@pytest.fixture(scope="package")
def plain_texts(shared_pair: ServingPair, prompts: list[str]) -> list[str]:
    """What vLLM says without any speculation."""
    return shared_pair.plain.greedy_all(prompts, CONTINUATION_TOKENS)


@pytest.fixture
def broken_model(tmp_path: Path, models: ModelPair) -> Path:
    """A model folder whose weights are cut off."""
    folder = tmp_path / "broken"
    folder.mkdir()
    for file in models.draft.iterdir():
        content = file.read_bytes()
        kept = content[: len(content) // 2] if file.suffix == ".safetensors" else content
        (folder / file.name).write_bytes(kept)
    return folder
