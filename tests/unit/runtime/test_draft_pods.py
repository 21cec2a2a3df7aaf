"""Several draft pods behind one name: which requests go where, and what happens when a pod goes."""

from __future__ import annotations

import socket
import threading
from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tandem_runtime.draft_server.server import DraftServer
from tandem_runtime.drafting.counters import Counted, Counters
from tandem_runtime.drafting.pods import DraftPods, resolved
from tandem_runtime.drafting.proposing import RemoteDrafts
from tandem_runtime.drafting.protocol import VERSION
from tandem_runtime.drafting.protocol.draft_pb2 import Hello, VerifierFrame
from tandem_runtime.drafting.stream import DraftStream
from tests.unit.runtime.drafters import VOCABULARY, ArithmeticEngine, after
from tests.unit.runtime.test_proposing import DEADLINE_SECONDS, DEPTH, LIMIT_SECONDS, Always, wait_for

REQUESTS = 12
RESOLVE_SECONDS = 0.05


@dataclass
class Pod:
    engine: ArithmeticEngine = field(default_factory=lambda: ArithmeticEngine(context_limit=512))

    def __post_init__(self) -> None:
        self.server = DraftServer(self.engine, name="drafter", max_depth=8, max_sessions=64)
        self.address = f"127.0.0.1:{self.server.start('127.0.0.1:0')}"


class Site:
    """Two draft pods, a name for them, and a verifier's proposer."""

    def __init__(self, counters: Counters, *, known: int) -> None:
        self._threads = set(threading.enumerate())
        self.counters, self.pods = counters, [Pod(), Pod()]
        self.names, self.resolved = {pod.address for pod in self.pods[:known]}, 0
        hello = VerifierFrame(hello=Hello(protocol=VERSION, verifier="v", vocabulary=VOCABULARY, max_depth=DEPTH))
        self.behind = DraftPods(
            "drafts:8002",
            lambda address: DraftStream(address, hello),
            resolve=self.resolve,
            every_seconds=RESOLVE_SECONDS,
        )
        self.drafts = RemoteDrafts(
            self.behind.streams,
            counters,
            depth=DEPTH,
            depths=Always(DEPTH),
            vocabulary=VOCABULARY,
            deadline_seconds=DEADLINE_SECONDS,
        )
        self.contexts = {f"r{number}": array("i", [number, 1]) for number in range(REQUESTS)}

    def resolve(self, _address: str) -> set[str]:
        self.resolved += 1
        return self.names

    def wait_resolved(self) -> None:
        """Until what the name stands for now has been seen."""
        before = self.resolved
        wait_for(lambda: self.resolved >= before + 2)

    def readers(self) -> int:
        """Streams that are read, or tried again."""
        return sum(thread.name == "drafts" for thread in set(threading.enumerate()) - self._threads)

    def wait_open(self, count: int) -> None:
        wait_for(lambda: sum(stream.is_open for stream in self.behind.streams().values()) == count)

    def drafted(self) -> None:
        """Steps until every request has the right draft; then each grows by one token that was not drafted."""

        def is_drafted() -> bool:
            found = self.drafts.propose(self.contexts)
            return found == {request: after(context, DEPTH) for request, context in self.contexts.items()}

        wait_for(is_drafted)
        for context in self.contexts.values():
            context.append((after(context, 1)[0] + 1) % VOCABULARY)


@pytest.fixture(params=[2])
def site(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Site]:
    """The parameter: how many of the pods the name has at first."""
    made = Site(Counters(tmp_path / "counters"), known=request.param)
    yield made
    made.behind.close()
    for pod in made.pods:
        pod.server.stop(grace_seconds=0)


def test_requests_are_spread_over_the_pods_and_stay(site: Site) -> None:
    site.wait_open(2)
    for _ in range(3):
        site.drafted()
    assert site.counters.value(Counted.PODS) == 2
    first = [set(pod.engine.sessions) for pod in site.pods]
    assert all(first)
    assert sum(map(len, first)) == REQUESTS
    for _ in range(3):
        site.drafted()
    assert [pod.engine.sessions for pod in site.pods] == first


def test_requests_of_a_pod_that_dies_move_to_the_other_one(site: Site) -> None:
    site.wait_open(2)
    site.drafted()
    site.pods[0].server.stop(grace_seconds=0)
    site.names = {site.pods[1].address}
    site.drafted()
    assert len(site.pods[1].engine.sessions) == REQUESTS
    wait_for(lambda: set(site.behind.streams()) == {site.pods[1].address})


def test_requests_leave_a_pod_that_drains_before_it_is_gone(site: Site) -> None:
    site.wait_open(2)
    site.drafted()
    site.names = {site.pods[1].address}
    stopping = threading.Thread(target=site.pods[0].server.stop, kwargs={"grace_seconds": 10 * LIMIT_SECONDS})
    stopping.start()

    def is_moved() -> bool:
        site.drafted()
        return len(site.pods[1].engine.sessions) == REQUESTS

    wait_for(is_moved)
    stopping.join(LIMIT_SECONDS)
    assert not stopping.is_alive()  # its only verifier has left


def test_a_pod_that_has_said_goodbye_is_not_taken_for_a_broken_one_while_its_name_lasts(site: Site) -> None:
    site.wait_open(2)
    site.drafted()
    leaving = site.behind.streams()[site.pods[0].address]
    stopping = threading.Thread(target=site.pods[0].server.stop, kwargs={"grace_seconds": 10 * LIMIT_SECONDS})
    stopping.start()

    def is_gone() -> bool:
        site.drafted()
        assert site.counters.value(Counted.BREAKERS_OPEN) == 0
        return leaving.failures > 0

    wait_for(is_gone)
    stopping.join(LIMIT_SECONDS)
    site.drafted()
    assert site.counters.value(Counted.BREAKERS_OPEN) == 0


def test_a_pod_that_is_ready_no_more_is_used_until_its_stream_ends_and_not_looked_for_after_that(site: Site) -> None:
    site.wait_open(2)
    site.drafted()
    first = [set(pod.engine.sessions) for pod in site.pods]
    assert all(first)
    site.names = {site.pods[1].address}
    site.wait_resolved()
    site.drafted()
    assert [pod.engine.sessions for pod in site.pods] == first
    assert site.readers() == 2
    site.pods[0].server.stop(grace_seconds=0)
    wait_for(lambda: site.readers() == 1)
    assert set(site.behind.streams()) == {site.pods[1].address}


@pytest.mark.parametrize("site", [1], indirect=True)
def test_a_pod_that_comes_gets_new_requests_and_leaves_the_others_where_they_are(site: Site) -> None:
    site.wait_open(1)
    site.drafted()
    site.names = {pod.address for pod in site.pods}
    site.wait_open(2)
    site.drafted()
    assert not site.pods[1].engine.sessions
    site.contexts |= {f"n{number}": array("i", [number, 2]) for number in range(REQUESTS)}
    site.drafted()
    assert site.pods[1].engine.sessions
    assert len(site.pods[0].engine.sessions) >= REQUESTS


def test_pods_that_are_known_stay_while_the_name_service_has_no_answer(site: Site) -> None:
    site.wait_open(2)
    known = dict(site.behind.streams())
    asked = 0

    def resolve(_address: str) -> set[str]:
        nonlocal asked
        asked += 1
        raise OSError("temporary failure in name resolution")

    site.behind._resolve = resolve
    wait_for(lambda: asked > 2)
    assert site.behind.streams() == known
    site.drafted()


def test_a_name_is_resolved_to_addresses_with_the_port() -> None:
    assert "127.0.0.1:8002" in resolved("localhost:8002")
    assert resolved("[::1]:8002") == {"[::1]:8002"}


def test_an_unknown_name_has_no_pods(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_arguments: object, **_options: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    assert resolved("drafts.nowhere.svc:8002") == set()
