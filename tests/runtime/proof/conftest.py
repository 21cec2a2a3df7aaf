"""What the proofs share: a verifier under strain, whose drafts come through a relay, and where results are kept."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from deploy.fixtures.environment import engine_environment
from deploy.fixtures.pair import ModelPair
from deploy.local.layout import REPOSITORY
from tandem_contracts.engine_settings import EngineSettings
from tandem_contracts.launch import LaunchOptions, Role, Speculation
from tests.results import commit, write
from tests.runtime.engines import LOOPBACK, Engine, free_port
from tests.runtime.proof.strained import BATCHED_TOKENS, BLOCK_TOKENS, BLOCKS, CONTEXT_TOKENS, DEPTH, Strained
from tests.runtime.relay import Relay
from tests.runtime.serving_pair import ServingPair

RESULTS = "drafting_proof.json"
PARTS = {"greedy", "hostile", "network", "sampler", "end to end"}
"""Of the results, which are written when a run has them all."""
_RESULTS = pytest.StashKey[dict[str, Any]]()


def pytest_configure(config: pytest.Config) -> None:
    """Make a place for the results."""
    begun = datetime.now(UTC).isoformat(timespec="seconds")
    config.stash[_RESULTS] = {"begun": begun, "commit": commit()}


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """The results of a campaign, as JSON."""
    found = session.config.stash[_RESULTS]
    if session.config.getoption("--campaign") and exitstatus == pytest.ExitCode.OK and found.keys() >= PARTS:
        write(RESULTS, found)


@pytest.fixture(scope="session")
def results(pytestconfig: pytest.Config) -> dict[str, Any]:
    """Where tests leave what they have found, each under a name of `PARTS`."""
    return pytestconfig.stash[_RESULTS]


@pytest.fixture(scope="package")
def shared_strained(
    models: ModelPair, shared_pair: ServingPair, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Strained]:
    folder = tmp_path_factory.mktemp("strained")
    with Relay(shared_pair.draft_address) as relay:
        options = LaunchOptions(
            role=Role.VERIFIER,
            model=str(models.verifier),
            served_name="strained",
            host=LOOPBACK,
            http_port=free_port(),
            metrics_port=free_port(),
            termination_log=str(folder / "termination-log"),
            speculation=Speculation.REMOTE,
            max_depth=DEPTH,
            draft_address=relay.address,
            engine=EngineSettings(
                max_model_length=CONTEXT_TOKENS, block_tokens=BLOCK_TOKENS, max_batched_tokens=BATCHED_TOKENS
            ),
        )
        modules = f"{REPOSITORY / 'runtime'}:{Path(__file__).parent}"
        verifier = Engine(
            options,
            python=engine_environment(),
            log=folder / "log",
            module="strained_launch",
            environment={"PYTHONPATH": modules, "PROOF_BLOCKS": str(BLOCKS)},
        )
        try:
            verifier.wait_until_ready()
            yield Strained(plain=shared_pair.plain, verifier=verifier, relay=relay, honest=shared_pair.draft_address)
        finally:
            verifier.end()


@pytest.fixture(scope="package")
def text(shared_pair: ServingPair, models: ModelPair) -> list[int]:
    """Code that neither model was trained on, as one row of token ids."""
    answer = shared_pair.plain.post("/tokenize", {"prompt": "".join(models.prompts())})
    return list(answer["tokens"])  # type: ignore[call-overload,no-any-return]


@pytest.fixture
def strained(shared_strained: Strained, pair: ServingPair, text: list[int]) -> Iterator[Strained]:
    """The verifier under strain with an honest draft server in use, before a test and after it."""
    assert pair.draft.process.poll() is None
    shared_strained.restore()
    shared_strained.wait_until_drafting(text[:64])
    yield shared_strained
    shared_strained.restore()
