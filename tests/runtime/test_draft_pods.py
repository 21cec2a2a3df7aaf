"""Each kind of draft pod as the launcher starts it: it keeps to the protocol, and all of them draft the same."""

from collections.abc import Callable, Sequence

import pytest

from deploy.fixtures.pair import ModelPair
from tandem_contracts.launch import DraftEngine, Role
from tandem_runtime.conformance import Asked, verdicts
from tandem_runtime.drafting.protocol.draft_pb2 import Row
from tandem_runtime.drafting.sessions import Sessions
from tests.runtime.engines import LOOPBACK, Engine, free_port

pytestmark = [pytest.mark.engine, pytest.mark.timeout(900)]

DEPTH = 4
LENGTHS = (1, 5, 40, 129, 300)


@pytest.fixture(scope="module")
def pods(start: Callable[..., Engine], models: ModelPair) -> dict[DraftEngine, str]:
    """Address by kind."""
    ports = {kind: free_port() for kind in DraftEngine}
    started = [
        start(role=Role.DRAFT, draft_engine=kind, model=str(models.draft), grpc_port=port)
        for kind, port in ports.items()
    ]
    for engine in started:
        engine.wait_until_ready()
    return {kind: f"{LOOPBACK}:{port}" for kind, port in ports.items()}


def drafts(address: str) -> list[Sequence[int]]:
    """After contexts of several lengths, asked for at once."""
    server = Asked(address)
    sessions = Sessions(depth=DEPTH, vocabulary=server.welcome.vocabulary)
    contexts = {str(length): server.tokens(length) for length in LENGTHS}
    with server.greeted() as verifier:
        rows: list[Row] = sessions.rows(contexts, depth=DEPTH)
        found = verifier.ask(*rows)
    server.channel.close()
    return [memoryview(draft.tokens).cast("i").tolist() for draft in found]


@pytest.mark.parametrize("kind", list(DraftEngine))
def test_a_draft_pod_keeps_to_the_protocol(pods: dict[DraftEngine, str], kind: DraftEngine) -> None:
    assert [(expected, instead) for expected, instead in verdicts(pods[kind]) if instead] == []


def test_every_kind_drafts_the_same(pods: dict[DraftEngine, str]) -> None:
    found = {kind: drafts(address) for kind, address in pods.items()}
    assert all(len(draft) == DEPTH for draft in found[DraftEngine.TRANSFORMERS])
    assert all(other == found[DraftEngine.TRANSFORMERS] for other in found.values())
