"""A draft server over real gRPC, with an engine that needs no model: handshake, rows, budgets, failures, the end."""

from __future__ import annotations

import queue
import threading
import time
from array import array
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest
from prometheus_client import CollectorRegistry

from tandem_contracts import metrics
from tandem_runtime.draft_server import server as server_module
from tandem_runtime.draft_server.figures import Figures
from tandem_runtime.draft_server.server import DraftServer
from tandem_runtime.draft_server.streams import WAITING_STEPS, Stream
from tandem_runtime.draft_server.turns import Turns
from tandem_runtime.drafting.protocol import VERSION, session_of
from tandem_runtime.drafting.protocol.draft_pb2 import Draft, DrafterFrame, Hello, Row, Step, VerifierFrame
from tandem_runtime.drafting.sessions import Sessions
from tests.unit.runtime.drafters import VOCABULARY, ArithmeticEngine, after

LIMIT_SECONDS = 20.0
SILENCE_SECONDS = 6.0
"""gRPC sends a ping a second at most, and servers count three before they complain."""


class Caller:
    """One verifier, frame by frame."""

    def __init__(self, address: str) -> None:
        self._frames: queue.SimpleQueue[VerifierFrame | None] = queue.SimpleQueue()
        self._channel = grpc.insecure_channel(address)
        self._call = session_of(self._channel)(iter(self._frames.get, None), timeout=LIMIT_SECONDS)

    def say(self, **hello: Any) -> DrafterFrame:
        words = {"protocol": VERSION, "verifier": "v", "vocabulary": VOCABULARY, "max_depth": 4, **hello}
        return self.send(VerifierFrame(hello=Hello(**words)))

    def step(self, *rows: Row, number: int = 1, budget_us: int = 0, ahead: int = 0) -> DrafterFrame:
        return self.send(VerifierFrame(step=Step(number=number, rows=rows, budget_us=budget_us, ahead=ahead)))

    def send(self, frame: VerifierFrame) -> DrafterFrame:
        """The next frame that comes back."""
        self._frames.put(frame)
        return self.next()

    def tell(self, *rows: Row) -> None:
        """A step that nothing comes back for at once."""
        self._frames.put(VerifierFrame(step=Step(number=1, rows=rows)))

    def next(self) -> DrafterFrame:
        frame: DrafterFrame = next(self._call)
        return frame

    def close(self) -> None:
        self._frames.put(None)
        self._channel.close()


@pytest.fixture
def engine() -> ArithmeticEngine:
    return ArithmeticEngine()


@pytest.fixture
def server(engine: ArithmeticEngine) -> Iterator[DraftServer]:
    made = DraftServer(engine, name="drafter", max_depth=8, max_sessions=3)
    yield made
    made.stop(grace_seconds=0)


@pytest.fixture
def address(server: DraftServer) -> str:
    return f"127.0.0.1:{server.start('127.0.0.1:0')}"


@pytest.fixture
def caller(address: str) -> Iterator[Caller]:
    made = Caller(address)
    made.say()
    yield made
    made.close()


def make_row(tokens: list[int], *, depth: int = 3, session: int = 5, **parts: Any) -> Row:
    (row,) = Sessions(depth=8, vocabulary=VOCABULARY, draw=lambda: session).rows({"r": array("i", tokens)}, depth=depth)
    for name, value in parts.items():
        setattr(row, name, value)
    return row


def drafts(frame: DrafterFrame) -> list[tuple[int, list[int]]]:
    return [(draft.status, list(array("i", draft.tokens))) for draft in frame.result.drafts]


@pytest.mark.parametrize(
    ("hello", "told"),
    [
        ({"protocol": 2}, "the verifier speaks protocol 2, the draft server 1"),
        ({"tokenizer_hash": "sha256:b"}, "the verifier's tokenizer is sha256:b, the draft's sha256:a"),
        ({"vocabulary": 0}, "vocabularies of 0 and 97 tokens: neither may be 0"),
        (
            {"vocabulary": 98},
            "the verifier's vocabulary has 98 tokens, the draft's 97, and one of them does not say which tokenizer it "
            "has",
        ),
    ],
)
def test_a_verifier_that_does_not_fit_is_told_why(address: str, hello: dict[str, Any], told: str) -> None:
    caller = Caller(address)
    with pytest.raises(grpc.RpcError) as refused:
        caller.say(**hello)
    assert (refused.value.code(), refused.value.details()) == (grpc.StatusCode.FAILED_PRECONDITION, told)
    caller.close()


def test_a_stream_that_does_not_begin_with_hello_is_ended(address: str) -> None:
    caller = Caller(address)
    with pytest.raises(grpc.RpcError, match="the first frame must be hello"):
        caller.step(make_row([1]))
    caller.close()


def test_one_tokenizer_may_be_padded_to_vocabularies_of_two_sizes(address: str) -> None:
    caller = Caller(address)
    assert caller.say(tokenizer_hash="sha256:a", vocabulary=VOCABULARY + 31).WhichOneof("frame") == "welcome"
    caller.close()


def test_the_welcome_says_what_can_be_asked_for(address: str) -> None:
    caller = Caller(address)
    greeting = caller.say(tokenizer_hash="sha256:a", max_depth=20).welcome
    assert (greeting.protocol, greeting.drafter, greeting.max_depth) == (VERSION, "drafter", 8)
    assert (greeting.context_limit, greeting.max_sessions, greeting.vocabulary) == (64, 3, VOCABULARY)
    caller.close()


def test_each_row_is_continued_as_far_as_it_asks(caller: Caller) -> None:
    answer = caller.step(make_row([1, 2], depth=4, session=1), make_row([3], depth=1, session=2), number=9)
    assert answer.result.step == 9
    assert drafts(answer) == [(Draft.OK, after([1, 2], 4)), (Draft.OK, after([3], 1))]


def test_a_row_builds_on_what_was_sent_before_and_may_come_twice(caller: Caller) -> None:
    sessions, context = Sessions(depth=4, vocabulary=VOCABULARY), array("i", [1, 2, 3])
    caller.step(*sessions.rows({"a": context}, depth=2))
    context.extend([4, 5])
    (row,) = sessions.rows({"a": context}, depth=2)
    for _ in range(2):
        assert drafts(caller.step(row)) == [(Draft.OK, after(context, 2))]


def test_what_cannot_be_built_on_is_asked_for_anew(caller: Caller) -> None:
    assert drafts(caller.step(make_row([1], base_length=4))) == [(Draft.RESYNC, [])]
    assert drafts(caller.step(make_row([1], checksum=3))) == [(Draft.RESYNC, [])]
    assert drafts(caller.step(make_row([1] * 65))) == [(Draft.UNFIT, [])]
    assert drafts(caller.step(make_row([1]))) == [(Draft.OK, after([1], 3))]


def test_a_draft_ends_where_the_models_context_does(caller: Caller) -> None:
    ((status, tokens),) = drafts(caller.step(make_row([1] * 62, depth=4)))
    assert (status, tokens) == (Draft.OK, after([1] * 62, 2))


def test_a_row_that_asks_for_nothing_is_taken_in_silently(caller: Caller, engine: ArithmeticEngine) -> None:
    caller.tell(make_row([1], depth=0))
    assert drafts(caller.step(make_row([2], session=6))) == [(Draft.OK, after([2], 3))]
    assert sum(engine.passes) == 2


def test_a_budget_that_is_spent_gives_what_there_is(caller: Caller) -> None:
    ((status, tokens),) = drafts(caller.step(make_row([1], depth=4), budget_us=1))
    assert (status, tokens) == (Draft.PARTIAL, after([1], 1))


def test_what_is_of_use_after_a_draft_comes_in_a_further_result(caller: Caller) -> None:
    assert drafts(caller.step(make_row([1, 2]), number=7, ahead=4)) == [(Draft.OK, after([1, 2], 3))]
    further = caller.next()
    assert further.result.step == 7
    assert drafts(further) == [(Draft.OK, after([1, 2], 7))]


def test_tokens_that_were_sent_before_are_not_counted_again(engine: ArithmeticEngine) -> None:
    registry = CollectorRegistry()
    stream = Stream(0, engine, Turns(engine), depth=4, sessions=4, figures=Figures(registry))
    stream.hear([VerifierFrame(step=Step(number=1, rows=[make_row([1, 2])], ahead=4))])
    assert len(list(stream.answers())) == 2
    assert registry.get_sample_value(metrics.DRAFT_SERVER_TOKENS) == 7
    assert registry.get_sample_value(metrics.DRAFT_SERVER_ASKED_TOKENS) == 3
    assert registry.get_sample_value(metrics.DRAFT_SERVER_QUEUE_SECONDS + "_count") == 1


def test_no_more_is_drafted_ahead_than_a_token_and_another_draft(caller: Caller) -> None:
    caller.step(make_row([1, 2]), ahead=100)
    assert drafts(caller.next()) == [(Draft.OK, after([1, 2], 2 * 3 + 1))]


def test_drafting_ahead_ends_when_something_has_arrived(engine: ArithmeticEngine) -> None:
    stream = Stream(0, engine, Turns(engine), depth=4, sessions=4, figures=Figures())
    stream.hear([VerifierFrame(step=Step(number=1, rows=[make_row([1, 2])], ahead=4))])
    # The end of the stream has been taken with the step, so nothing waits: all that is of use is drafted.
    assert [len(tokens) for frame in stream.answers() for _, tokens in drafts(frame)] == [3, 7]
    busy = Stream(1, engine, Turns(engine), depth=4, sessions=4, figures=Figures())
    busy.hear([VerifierFrame(step=Step(number=1, rows=[make_row([1, 2])], ahead=4))])
    answers = busy.answers()
    assert drafts(next(answers)) == [(Draft.OK, after([1, 2], 3))]
    busy.hear([])  # news, which wait from now on: the pass ends with its first token
    assert list(answers) == []


def test_an_engine_for_which_going_on_costs_all_anew_does_not(engine: ArithmeticEngine, caller: Caller) -> None:
    engine.goes_on = False
    caller.step(make_row([1, 2]), ahead=4)
    caller.step(make_row([1, 2, 3], session=6), number=2)
    assert engine.passes == [1, 1]


def test_of_what_has_waited_only_the_newest_is_drafted_for(engine: ArithmeticEngine) -> None:
    sessions, context, frames = Sessions(depth=4, vocabulary=VOCABULARY), array("i", [1]), []
    for token in range(5):
        context.append(token)
        rows = sessions.rows({"a": context}, depth=2)
        frames.append(VerifierFrame(step=Step(number=token, rows=rows)))
    registry = CollectorRegistry()
    stream = Stream(0, engine, Turns(engine), depth=4, sessions=3, figures=Figures(registry))
    stream.hear(frames)
    (answer,) = stream.answers()
    assert (answer.result.step, drafts(answer)) == (4, [(Draft.OK, after(context, 2))])
    assert engine.passes == [1]
    assert registry.get_sample_value(metrics.DRAFT_SERVER_SUPERSEDED) == 4


def test_the_session_that_was_used_least_recently_goes_and_the_verifier_hears_of_it(
    caller: Caller, engine: ArithmeticEngine
) -> None:
    for session in (1, 2, 3):
        caller.step(make_row([session], session=session))
    gone = caller.step(make_row([4], session=4))
    assert list(gone.notice.evicted) == [1]
    assert drafts(caller.next()) == [(Draft.OK, after([4], 3))]
    assert {session for _, session in engine.forgotten} == {1}


def test_rows_of_one_step_beyond_what_is_kept_are_dropped_and_the_others_answered(caller: Caller) -> None:
    rows = [make_row([session], session=session) for session in (1, 2, 3, 4)]
    assert list(caller.step(*rows).notice.evicted) == [1]
    assert drafts(caller.next()) == [(Draft.OK, after([session], 3)) for session in (2, 3, 4)]


def test_an_engine_that_fails_loses_the_sessions_of_that_pass_and_nothing_else(
    caller: Caller, engine: ArithmeticEngine
) -> None:
    caller.step(make_row([1], session=1))
    engine.fails = True
    assert list(caller.step(make_row([2], session=2)).notice.evicted) == [2]
    assert drafts(caller.step(make_row([1], session=1))) == [(Draft.OK, after([1], 3))]


def test_a_verifier_that_asks_too_fast_is_not_heard_until_it_is_answered(engine: ArithmeticEngine) -> None:
    stream = Stream(0, engine, Turns(engine), depth=4, sessions=3, figures=Figures())
    full, overfull = threading.Event(), threading.Event()

    def frames() -> Iterator[VerifierFrame]:
        for number in range(2 * WAITING_STEPS):
            if number == WAITING_STEPS:
                full.set()
            elif number > WAITING_STEPS:  # so the one before has found room
                overfull.set()
            yield VerifierFrame(step=Step(number=number, rows=[make_row([1])]))

    with ThreadPoolExecutor(1) as pool:
        heard = pool.submit(stream.hear, frames())
        assert full.wait(LIMIT_SECONDS), "not as many were heard as may wait"
        assert not overfull.wait(0.2), "more were heard than may wait"
        answers = list(stream.answers())
        heard.result(LIMIT_SECONDS)
    assert answers[-1].result.step == 2 * WAITING_STEPS - 1


def test_what_is_over_is_forgotten(caller: Caller, address: str, engine: ArithmeticEngine) -> None:
    caller.step(make_row([1], session=1))
    caller.tell(Row(session=1, generation=1, closes=True))
    _wait_for(lambda: len(engine.forgotten) == 1)
    other = Caller(address)
    other.say()
    other.step(make_row([1], session=7))
    other.close()
    _wait_for(lambda: 7 in {session for _, session in engine.forgotten})


def health_of(address: str) -> bytes:
    """What the kubelet is told."""
    with grpc.insecure_channel(address) as channel:
        answer: bytes = channel.unary_unary("/grpc.health.v1.Health/Check")(b"", timeout=LIMIT_SECONDS)
        return answer


def test_a_server_that_is_up_says_so_to_the_kubelet(address: str) -> None:
    assert health_of(address) == b"\x08\x01"


def test_a_server_that_stops_tells_every_verifier_and_the_kubelet_and_waits_for_both(
    server: DraftServer, address: str, caller: Caller
) -> None:
    caller.step(make_row([1]))
    with ThreadPoolExecutor(1) as pool:
        stopped = pool.submit(server.stop, grace_seconds=LIMIT_SECONDS)
        assert caller.next().notice.draining, "nothing was asked for: the notice comes by itself"
        assert drafts(caller.step(make_row([1], session=6))) == [(Draft.OK, after([1], 3))]
        caller.close()
        stopped.result(LIMIT_SECONDS / 2)


def test_a_verifier_that_comes_while_the_server_stops_is_told_too(
    server: DraftServer, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    has_come, may_go, welcome = threading.Event(), threading.Event(), server_module.welcome

    def held(*said: Any) -> Any:
        has_come.set()
        assert may_go.wait(LIMIT_SECONDS), "the server does not stop"
        return welcome(*said)

    monkeypatch.setattr(server_module, "welcome", held)
    health = f"127.0.0.1:{server.start_health('127.0.0.1:0')}"
    caller = Caller(address)
    with ThreadPoolExecutor(2) as pool:
        greeted = pool.submit(caller.say)
        assert has_come.wait(LIMIT_SECONDS), "no greeting has come"
        stopped = pool.submit(server.stop, grace_seconds=LIMIT_SECONDS)
        _wait_for(lambda: health_of(health) != b"\x08\x01")
        may_go.set()
        assert greeted.result(LIMIT_SECONDS).WhichOneof("frame") == "welcome"
        assert caller.next().notice.draining
        caller.close()
        stopped.result(LIMIT_SECONDS)


def test_a_verifier_that_only_pings_keeps_its_stream(engine: ArithmeticEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "FASTEST_PINGS_MS", 5)
    server = DraftServer(engine, name="drafter", max_depth=8, max_sessions=3)
    address = f"127.0.0.1:{server.start('127.0.0.1:0')}"
    options = [("grpc.keepalive_time_ms", 20), ("grpc.http2.max_pings_without_data", 0)]
    hello = VerifierFrame(hello=Hello(protocol=VERSION, verifier="v", vocabulary=VOCABULARY, max_depth=4))
    frames: queue.SimpleQueue[VerifierFrame | None] = queue.SimpleQueue()
    frames.put(hello)
    with grpc.insecure_channel(address, options) as channel:
        call = session_of(channel)(iter(frames.get, None), timeout=SILENCE_SECONDS)
        assert next(call).WhichOneof("frame") == "welcome"
        with pytest.raises(grpc.RpcError) as ended:
            next(call)
    assert ended.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED, ended.value.details()
    frames.put(None)
    server.stop(grace_seconds=0)


def test_one_verifier_too_many_is_refused_and_the_kubelet_is_answered(
    address: str, caller: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    caller.step(make_row([1]))
    monkeypatch.setattr(server_module, "STREAMS", 1)
    other = Caller(address)
    with pytest.raises(grpc.RpcError) as refused:
        other.say()
    assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert health_of(address) == b"\x08\x01"
    other.close()


def test_what_is_done_is_counted(engine: ArithmeticEngine) -> None:
    registry = CollectorRegistry()
    server = DraftServer(engine, name="drafter", max_depth=8, max_sessions=2, figures=Figures(registry))
    caller = Caller(f"127.0.0.1:{server.start('127.0.0.1:0')}")
    caller.say()
    for session in (1, 2):
        caller.step(make_row([session], session=session))
    caller.step(make_row([3], session=3))
    caller.next()
    caller.step(make_row([1, 2], session=1, base_length=1))
    engine.fails = True
    caller.step(make_row([3], session=3))
    counted = {
        metrics.DRAFT_SERVER_STREAMS: 1,
        metrics.DRAFT_SERVER_TOKENS: 9,
        metrics.DRAFT_SERVER_ASKED_TOKENS: 9,
        metrics.DRAFT_SERVER_EVICTED: 1,
        metrics.DRAFT_SERVER_RESYNCS: 1,
        metrics.DRAFT_SERVER_FAILURES: 1,
        f"{metrics.DRAFT_SERVER_COMPUTE_SECONDS}_count": 3,
        f"{metrics.DRAFT_SERVER_QUEUE_SECONDS}_count": 3,
    }
    assert {name: registry.get_sample_value(name) for name in counted} == counted
    assert registry.get_sample_value(metrics.DRAFT_SERVER_BUSY_SECONDS)
    caller.close()
    gone = (metrics.DRAFT_SERVER_STREAMS, metrics.DRAFT_SERVER_SESSIONS)
    _wait_for(lambda: [registry.get_sample_value(name) for name in gone] == [0, 0])
    server.stop(grace_seconds=0)


def _wait_for(condition: Any) -> None:
    deadline = time.monotonic() + LIMIT_SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)
