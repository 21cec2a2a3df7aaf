"""The conformance suite: our server passes all of it, and each rule that a server breaks is found."""

from __future__ import annotations

import threading
import zlib
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest

from tandem_runtime import conformance
from tandem_runtime.draft_server import server, streams, turns
from tandem_runtime.draft_server.contexts import Context, Contexts, Taken
from tandem_runtime.draft_server.engines import Ask
from tandem_runtime.draft_server.server import DraftServer
from tandem_runtime.draft_server.streams import Stream
from tandem_runtime.drafting.protocol import TOKEN_BYTES
from tandem_runtime.drafting.protocol.draft_pb2 import Draft, DrafterFrame, Hello, Result, Row, Welcome
from tests.unit.runtime.drafters import ArithmeticEngine

Patch = Callable[[pytest.MonkeyPatch], None]


TOKEN_SECONDS = 0.02


class Clock:
    """The time of the suite and of the server, which only the engine's tokens take."""

    def __init__(self) -> None:
        self._now = 100.0

    def monotonic(self) -> float:
        return self._now

    def passes(self, seconds: float) -> None:
        self._now += seconds


@pytest.fixture
def address() -> Iterator[str]:
    made = DraftServer(ArithmeticEngine(), name="drafter", max_depth=8, max_sessions=64)
    yield f"127.0.0.1:{made.start('127.0.0.1:0')}"
    made.stop(grace_seconds=0)


def test_our_server_passes_every_check(address: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert conformance.main([address]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(conformance.CHECKS) + 1
    assert lines[-1] == "15 of 15 checks passed"


def test_a_slow_server_that_keeps_to_budgets_passes_every_check(
    address: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    slow(lambda is_due: is_due())(monkeypatch)
    assert conformance.main([address]) == 0, capsys.readouterr().out


def test_where_nothing_answers_that_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert conformance.main(["127.0.0.1:1"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("127.0.0.1:1: UNAVAILABLE")
    assert "is asked with --identity" in said


def test_an_address_without_a_port_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        conformance.main(["drafts.example"])
    assert "address (is drafts.example): must end with a port" in capsys.readouterr().err


def wrapped(owner: Any, name: str, change: Callable[[Any], Any]) -> Patch:
    """Every answer of a method, changed."""
    original = getattr(owner, name)
    return lambda patch: patch.setattr(owner, name, lambda *args, **options: change(original(*args, **options)))


def greeting(**changes: Any) -> Patch:
    def change(said: Welcome) -> Welcome:
        for name, value in changes.items():
            setattr(said, name, value)
        return said

    return wrapped(server, "welcome", change)


def answering(change: Callable[[Draft], None]) -> Patch:
    def changed(draft: Draft) -> Draft:
        change(draft)
        return draft

    return wrapped(streams, "_draft", changed)


def welcoming(**unheard: Any) -> Patch:
    """Part of the greeting is not looked at."""
    original = server.welcome

    def deaf(hello: Hello, *rest: Any) -> Welcome:
        for name, value in unheard.items():
            setattr(hello, name, value)
        return original(hello, *rest)

    return lambda patch: patch.setattr(server, "welcome", deaf)


def taking(take: Callable[[Contexts, Row, Any], Taken]) -> Patch:
    original = Contexts.take
    return lambda patch: patch.setattr(Contexts, "take", lambda contexts, row: take(contexts, row, original))


def slow(hears: Callable[[Callable[[], bool]], bool]) -> Patch:
    """Each token takes its time; of what the engine is told of the budget `hears` makes what it goes by."""
    original = ArithmeticEngine.draft

    def patched(patch: pytest.MonkeyPatch) -> None:
        clock = Clock()
        for module in (conformance, streams, turns):
            patch.setattr(module, "time", clock)

        def draft(engine: ArithmeticEngine, asks: Sequence[Ask], *, is_due: Callable[[], bool]) -> list[list[int]]:
            def is_due_then() -> bool:
                clock.passes(TOKEN_SECONDS)
                return hears(is_due)

            return original(engine, asks, is_due=is_due_then)

        patch.setattr(ArithmeticEngine, "draft", draft)

    return patched


def talkative(patch: pytest.MonkeyPatch) -> None:
    """Rows that ask for nothing are answered too."""
    original = Stream._answer

    def answer(stream: Stream, arrived: Any) -> Iterator[DrafterFrame]:
        for step, row in [(each.step, row) for each in arrived for row in each.step.rows]:
            if not row.depth and not row.closes:
                yield DrafterFrame(result=Result(step=step.number, drafts=[streams._draft(row, [1], Draft.OK)]))
        yield from original(stream, arrived)

    patch.setattr(Stream, "_answer", answer)


def confusing(patch: pytest.MonkeyPatch) -> None:
    """A session is told by its number alone, whoever's it is."""
    original, of_all = Contexts.__init__, OrderedDict[int, Context]()

    def made(contexts: Contexts, **limits: int) -> None:
        original(contexts, **limits)
        contexts._of = of_all

    patch.setattr(Contexts, "__init__", made)


def fragile(patch: pytest.MonkeyPatch) -> None:
    """What is no token is the end of all verifiers."""
    original, is_broken = Contexts.take, threading.Event()

    def take(contexts: Contexts, row: Row) -> Taken:
        if len(row.delta) % TOKEN_BYTES:
            is_broken.set()
        if is_broken.is_set():
            raise RuntimeError("out of bounds")
        return original(contexts, row)

    patch.setattr(Contexts, "take", take)


def forgetful(contexts: Contexts, row: Row, take: Any) -> Taken:
    """A context lasts for one step."""
    return Taken.LOST if row.base_length else take(contexts, row)


def trusting(contexts: Contexts, row: Row, take: Any) -> Taken:
    """The checksum is made up."""
    there = contexts.get(row.session)
    known = there.checksum if there else 0
    row.checksum = zlib.crc32(row.delta, known if row.base_length else 0)
    return take(contexts, row)


def stubborn(contexts: Contexts, row: Row, take: Any) -> Taken:
    """A newer generation is taken for the old one."""
    there = contexts.get(row.session)
    row.generation = there.generation if there else row.generation
    return take(contexts, row)


def bold(contexts: Contexts, row: Row, take: Any) -> Taken:
    """What is lacking is made up."""
    if row.base_length and contexts.get(row.session) is None:
        row.base_length = 0
        row.checksum = zlib.crc32(row.delta)
    return take(contexts, row)


def greedy(contexts: Contexts, row: Row, take: Any) -> Taken:
    """Every id and every length will do."""
    contexts._longest, contexts._vocabulary = 10**9, 2**31
    row.delta = b"".join(row.delta[at : at + 4] for at in range(0, len(row.delta) & ~3, 4))
    return take(contexts, row)


BREAKS: dict[str, tuple[Patch, str]] = {
    "another version": (greeting(protocol=2), "greets"),
    "deeper than is of use": (greeting(max_depth=9), "greets"),
    "any protocol": (welcoming(protocol=1), "refuses_another_protocol"),
    "any tokenizer": (welcoming(tokenizer_hash=""), "refuses_another_tokenizer"),
    "a token too many": (answering(lambda d: setattr(d, "tokens", d.tokens + bytes(64))), "drafts"),
    "an id of nothing": (answering(lambda d: setattr(d, "tokens", b"\xff\xff\xff\x7f")), "drafts"),
    "another generation": (answering(lambda d: setattr(d, "generation", d.generation + 1)), "drafts"),
    "another length": (answering(lambda d: setattr(d, "base_length", d.base_length + 1)), "drafts"),
    "nothing at all": (answering(lambda d: setattr(d, "tokens", b"")), "drafts"),
    "no memory": (taking(forgetful), "takes_what_is_new"),
    "one session of two verifiers": (confusing, "tells_verifiers_apart"),
    "answers to rows that ask for nothing": (talkative, "is_silent_where_nothing_is_asked"),
    "one verifier's nonsense": (fragile, "survives_nonsense"),
    "no budget": (slow(lambda is_due: False), "keeps_to_the_budget"),
    "any checksum": (taking(trusting), "notices_a_wrong_checksum"),
    "made-up contexts": (taking(bold), "asks_for_what_it_lacks"),
    "the old generation": (taking(stubborn), "takes_a_newer_generation"),
    "whatever comes": (taking(greedy), "refuses_what_does_not_fit"),
    "no end of a session": (
        lambda patch: patch.setattr(Contexts, "close", lambda _contexts, _session: True),
        "forgets_what_is_closed",
    ),
    "answers to what was not asked": (
        lambda patch: patch.setattr(Stream, "_ask", lambda *_: (_ for _ in ()).throw(RuntimeError("out of memory"))),
        "drafts",
    ),
}


@pytest.mark.parametrize(("patch", "check"), BREAKS.values(), ids=BREAKS)
def test_a_server_that_breaks_a_rule_is_told_which(
    address: str, monkeypatch: pytest.MonkeyPatch, patch: Patch, check: str
) -> None:
    monkeypatch.setattr(conformance, "LIMIT_SECONDS", 1.0)
    patch(monkeypatch)
    unmet = {expected for expected, instead in conformance.verdicts(address) if instead}
    assert getattr(conformance, check).__doc__ in unmet
