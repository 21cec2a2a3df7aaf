"""A real verifier and a real draft pod's process that talk over TLS: drafts come for the right token, and only then."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from deploy.fixtures.pair import ModelPair
from deploy.local.processes import wait_until
from tandem_contracts import metrics
from tandem_contracts.launch import DraftEngine, Role, Speculation
from tests.draft_mounts import IDENTITY, Mounts, Signer
from tests.runtime.engines import LOOPBACK, Engine, free_port

pytestmark = [pytest.mark.engine, pytest.mark.timeout(600)]

LIMIT_SECONDS = 60
TOKENS = 32


def test_drafts_come_over_tls_as_soon_as_the_token_is_the_right_one(
    start: Callable[..., Engine], models: ModelPair, prompts: list[str], tmp_path: Path
) -> None:
    mounts, signer = Mounts(tmp_path), Signer("first")
    mounts.publish(signer)
    mounts.give(signer.token(sub="system:serviceaccount:chat:another-verifier"))
    draft = start(
        role=Role.DRAFT,
        draft_engine=DraftEngine.TRANSFORMERS,
        model=str(models.draft),
        health_port=free_port(),
        draft_identity=str(IDENTITY),
        certificates_folder=str(mounts.draft.certificates),
        credentials_folder=str(mounts.draft.credentials),
    )
    verifier = start(
        role=Role.VERIFIER,
        model=str(models.verifier),
        speculation=Speculation.REMOTE,
        max_depth=4,
        draft_address=f"{LOOPBACK}:{draft.options.grpc_port}",
        draft_identity=str(IDENTITY),
        certificates_folder=str(mounts.verifier.certificates),
        credentials_folder=str(mounts.verifier.credentials),
    )
    for engine in (draft, verifier):
        engine.wait_until_ready()
    text = verifier.greedy(prompts[0], TOKENS)
    assert verifier.own_metric(metrics.DRAFT_ROWS, 'outcome="drafted"') == 0
    assert "PERMISSION_DENIED: the token's sub is 'system:serviceaccount:chat:another-verifier'" in (
        verifier.log.read_text()
    )
    token = signer.token()
    mounts.give(token)

    def is_drafting() -> bool:
        assert verifier.greedy(prompts[0], TOKENS) == text
        return verifier.own_metric(metrics.DRAFT_ROWS, 'outcome="drafted"') > 0

    wait_until(is_drafting, "drafts over TLS", limit_seconds=LIMIT_SECONDS, log=verifier.log, poll_seconds=0.1)
    assert not [log for log in (verifier.log, draft.log) if token.rpartition(".")[2] in log.read_text()]
