"""`tandem-draft-conformance ADDRESS`: whether a draft server of any make keeps to `tandem.draft.v1`.

Each check talks to the server as a verifier does and says in a sentence what it expects. What is drafted is not
judged, since a draft is a guess; that it answers what was asked for, and that it can be had in time, is. A server over
TLS is asked as a deployment's verifier, with the files that one mounts, and must answer nobody without a token.
"""

from __future__ import annotations

import argparse
import queue
import sys
import time
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, cast

import grpc

from tandem_contracts.draft_access import CERTIFICATES_FOLDER, CREDENTIALS_FOLDER, DraftIdentity
from tandem_contracts.launch import DEPTH_LIMIT
from tandem_runtime.draft_server.health import CHECK, SERVING
from tandem_runtime.drafting.access import DraftAccess, open_channel
from tandem_runtime.drafting.protocol import ANY_VOCABULARY, VERSION, DrafterFrame, VerifierFrame, session_of
from tandem_runtime.drafting.protocol.draft_pb2 import Draft, Hello, Row, Step, Welcome
from tandem_runtime.drafting.sessions import Context, Sessions

DEPTH = 4
LIMIT_SECONDS = 10.0
QUICK_SECONDS = 0.02
"""A deepest draft that takes no longer is in time for any budget: what is saved of it cannot be told from noise."""
BUDGET_SHARE = 0.25
"""Of the time that a deepest draft takes without a budget: enough for its first tokens."""
SPENT_SHARE = 0.75
"""Of the same time: an answer that takes longer has not heard of the budget. A token longer than the budget is fine."""
TRIES = 3
"""Of each time the shortest counts: whatever else a machine does only adds to it."""
LONGEST_TRIED = 1_000_000


class UnmetError(Exception):
    """The server does not do what it must; the message says what it did."""


class Verifier:
    """One stream to the server, frame by frame."""

    def __init__(self, channel: grpc.Channel) -> None:
        self._frames: queue.SimpleQueue[VerifierFrame | None] = queue.SimpleQueue()
        self._call = session_of(channel)(iter(self._frames.get, None), timeout=LIMIT_SECONDS)
        self._number = 0

    def greet(self, *, protocol: int = VERSION, tokenizer_hash: str = "", max_depth: int = DEPTH) -> Welcome:
        """The answer to our first frame."""
        hello = Hello(protocol=protocol, verifier="conformance", tokenizer_hash=tokenizer_hash)
        hello.vocabulary, hello.max_depth = ANY_VOCABULARY, max_depth
        self._frames.put(VerifierFrame(hello=hello))
        frame = self.next()
        _expect(frame.WhichOneof("frame") == "welcome", f"the first frame is {frame.WhichOneof('frame')}, not welcome")
        return frame.welcome

    def ask(self, *rows: Row, budget_seconds: float = 0.0) -> list[Draft]:
        """The drafts for rows, in their order; what else comes in between is passed over."""
        self.tell(*rows, budget_seconds=budget_seconds)
        lacking = {row.session for row in rows}
        found: dict[int, Draft] = {}
        while lacking - found.keys():
            for draft in self.next().result.drafts:
                found[draft.session] = draft
        return [found[row.session] for row in rows]

    def tell(self, *rows: Row, budget_seconds: float = 0.0) -> None:
        """Send a step, and wait for nothing."""
        self._number += 1
        step = Step(number=self._number, rows=rows, budget_us=int(budget_seconds * 1e6))
        self._frames.put(VerifierFrame(step=step))

    def close(self) -> None:
        self._frames.put(None)
        self._call.cancel()

    def next(self) -> DrafterFrame:
        try:
            frame: DrafterFrame = next(self._call)
        except StopIteration:
            raise UnmetError("the stream ended without an answer") from None
        return frame


class Asked:
    """A server, and what it has said of itself."""

    def __init__(self, address: str, access: DraftAccess | None = None) -> None:
        self._address, self._access = address, access
        self.channel = open_channel(address, [], access=access)
        with self.verifier() as verifier:
            self.welcome = verifier.greet()

    @contextmanager
    def nobody(self) -> Iterator[Verifier]:
        """A stream over TLS of one without a token."""
        with open_channel(self._address, [], access=self._access, shows_token=False) as channel:
            made = Verifier(channel)
            try:
                yield made
            finally:
                made.close()

    @contextmanager
    def verifier(self) -> Iterator[Verifier]:
        """Another stream, before its first frame."""
        made = Verifier(self.channel)
        try:
            yield made
        finally:
            made.close()

    @contextmanager
    def greeted(self) -> Iterator[Verifier]:
        """Another stream, after its first frame."""
        with self.verifier() as made:
            made.greet()
            yield made

    def tokens(self, count: int, *, first: int = 1) -> Context:
        """Ids that the server knows."""
        return _context((first + at) % self.welcome.vocabulary for at in range(count))

    def valid(self, draft: Draft, row: Row, length: int) -> None:
        """Whether a draft is one for this row, of which so many tokens are known."""
        tokens = array("i", draft.tokens)
        _expect(draft.status in (Draft.OK, Draft.PARTIAL), f"status {Draft.Status.Name(draft.status)} instead of OK")
        _expect(draft.generation == row.generation, f"generation {draft.generation}, asked was {row.generation}")
        _expect(draft.base_length == length, f"base_length {draft.base_length}, the context has {length} tokens")
        _expect(1 <= len(tokens) <= row.depth, f"{len(tokens)} tokens, asked were {row.depth}")
        wrong = [token for token in tokens if not 0 <= token < self.welcome.vocabulary]
        _expect(not wrong, f"token {wrong[:1]} is none of the {self.welcome.vocabulary} that it knows")


def greets(server: Asked) -> None:
    """answers Hello with a Welcome that says what can be asked for"""
    said = server.welcome
    _expect(said.protocol == VERSION, f"protocol {said.protocol}, not {VERSION}")
    _expect(1 <= said.max_depth <= DEPTH, f"max_depth {said.max_depth}; the verifier takes at most {DEPTH}")
    for name in ("vocabulary", "context_limit", "max_sessions"):
        _expect(getattr(said, name) >= 1, f"{name} {getattr(said, name)}")


def refuses_another_protocol(server: Asked) -> None:
    """ends the stream of a verifier of another protocol with FAILED_PRECONDITION, and says why"""
    _refused(server, lambda verifier: verifier.greet(protocol=VERSION + 1))


def refuses_another_tokenizer(server: Asked) -> None:
    """ends the stream of a verifier with another tokenizer with FAILED_PRECONDITION, and says why"""
    if server.welcome.tokenizer_hash:
        _refused(server, lambda verifier: verifier.greet(tokenizer_hash="another"))


def drafts(server: Asked) -> None:
    """continues the context of each row of a step, as far as it asks, with ids of its vocabulary"""
    with server.greeted() as verifier:
        rows = [_opening(server.tokens(length), session=length, depth=depth) for length, depth in ((1, 1), (9, 2))]
        for row, draft, length in zip(rows, verifier.ask(*rows), (1, 9), strict=True):
            server.valid(draft, row, length)


def takes_what_is_new(server: Asked) -> None:
    """keeps a context, and takes only what is new of it"""
    with server.greeted() as verifier:
        sessions, context = _sessions(), server.tokens(5)
        for length in (5, 6, 9):
            context = server.tokens(length)
            (row,) = sessions.rows({"r": context}, depth=2)
            server.valid(verifier.ask(row)[0], row, length)
        again = Row(session=row.session, generation=1, base_length=3, depth=2, checksum=row.checksum)
        again.delta = context[3:].tobytes()
        server.valid(verifier.ask(again)[0], again, 9)


def asks_for_what_it_lacks(server: Asked) -> None:
    """answers RESYNC to a row that builds on a context which it does not have"""
    with server.greeted() as verifier:
        row = _opening(server.tokens(6), session=3, depth=2)
        row.base_length, row.delta = 5, row.delta[-4:]
        _lost(verifier.ask(row)[0])


def notices_a_wrong_checksum(server: Asked) -> None:
    """answers RESYNC to a row whose checksum is not that of the context"""
    with server.greeted() as verifier:
        row = _opening(server.tokens(6), session=3, depth=2)
        row.checksum ^= 1
        _lost(verifier.ask(row)[0])


def takes_a_newer_generation(server: Asked) -> None:
    """forgets a context that is opened anew with a higher generation"""
    with server.greeted() as verifier:
        verifier.ask(_opening(server.tokens(6), session=3, depth=2))
        row = _opening(server.tokens(4, first=2), session=3, depth=2)
        row.generation = 2
        server.valid(verifier.ask(row)[0], row, 4)


def forgets_what_is_closed(server: Asked) -> None:
    """forgets a session that is closed"""
    with server.greeted() as verifier:
        sessions, context = _sessions(), server.tokens(5)
        verifier.ask(*sessions.rows({"r": context}, depth=1))
        (more,) = sessions.rows({"r": server.tokens(6)}, depth=1)
        verifier.tell(*sessions.forget(["r"]))
        _lost(verifier.ask(more)[0])


def is_silent_where_nothing_is_asked(server: Asked) -> None:
    """takes a row of depth 0 in, and answers only those that ask for something"""
    with server.greeted() as verifier:
        sessions = _sessions()
        verifier.tell(*sessions.rows({"r": server.tokens(5)}, depth=0))
        (row,) = sessions.rows({"r": server.tokens(6)}, depth=2)
        server.valid(verifier.ask(row)[0], row, 6)


def keeps_to_the_budget(server: Asked) -> None:
    """answers when the budget of a step is spent, with what there is"""
    whole = min(_deepest_seconds(server) for _ in range(TRIES))
    if whole <= QUICK_SECONDS:
        return
    budget = BUDGET_SHARE * whole
    spent = min(_deepest_seconds(server, budget_seconds=budget) for _ in range(TRIES))
    _expect(spent <= SPENT_SHARE * whole, f"{spent:.3f} s for a budget of {budget:.3f} s, and {whole:.3f} s without")


def refuses_what_does_not_fit(server: Asked) -> None:
    """answers UNFIT to a context that is longer than it can take, and to ids that it does not know"""
    with server.greeted() as verifier:
        contexts = [_context([0, -1]), _context([0, server.welcome.vocabulary])]
        if server.welcome.context_limit <= LONGEST_TRIED:
            contexts.append(server.tokens(server.welcome.context_limit + 1))
        for number, context in enumerate(contexts, 1):
            (draft,) = verifier.ask(_opening(context, session=number, depth=1))
            _expect(draft.status == Draft.UNFIT, f"status {Draft.Status.Name(draft.status)} instead of UNFIT")


def tells_verifiers_apart(server: Asked) -> None:
    """serves several verifiers, whose sessions may have the same numbers"""
    with server.greeted() as one, server.greeted() as other:
        for verifier, length in ((one, 4), (other, 7), (one, 5), (other, 8)):
            row = _opening(server.tokens(length), session=1, depth=1)
            row.generation = length
            server.valid(verifier.ask(row)[0], row, length)


def survives_nonsense(server: Asked) -> None:
    """serves others while one verifier sends what is no frame of it"""
    with server.greeted() as hostile:
        hostile.tell(Row(session=1, generation=1, delta=b"abc", depth=2**31), Row(session=1, generation=1, closes=True))
        hostile.tell(*(Row(session=number, generation=1, base_length=2**31) for number in range(300)))
        with suppress(grpc.RpcError, UnmetError):  # whatever comes of it: it has been heard then
            hostile.next()
        drafts(server)


def answers_the_kubelet(server: Asked) -> None:
    """says SERVING by gRPC's health service"""
    ask: Any = server.channel.unary_unary(CHECK)
    answer = ask(b"", timeout=LIMIT_SECONDS)
    _expect(answer == SERVING, f"{answer!r} instead of SERVING")


def answers_nobody_without_a_token(server: Asked) -> None:
    """ends the stream of who shows no token with UNAUTHENTICATED"""
    with server.nobody() as nobody:
        try:
            nobody.greet()
        except grpc.RpcError as error:
            code = error.code() if isinstance(error, grpc.Call) else None
            _expect(code is grpc.StatusCode.UNAUTHENTICATED, _told(error))
        else:
            raise UnmetError("it was welcomed")


CHECKS: tuple[Callable[[Asked], None], ...] = (
    greets, refuses_another_protocol, refuses_another_tokenizer, drafts, takes_what_is_new, asks_for_what_it_lacks,
    notices_a_wrong_checksum, takes_a_newer_generation, forgets_what_is_closed, is_silent_where_nothing_is_asked,
    keeps_to_the_budget, refuses_what_does_not_fit, tells_verifiers_apart, survives_nonsense, answers_the_kubelet,
)  # fmt: skip
CHECKS_OVER_TLS = (*CHECKS, answers_nobody_without_a_token)


def verdicts(address: str, access: DraftAccess | None = None) -> Iterator[tuple[str, str]]:
    """For each check what the server must do, and what it did instead; empty when it does it.

    Raises UnmetError or grpc.RpcError when it cannot even be greeted, and OSError for a file that is not there.
    """
    server = Asked(address, access)
    for check in CHECKS_OVER_TLS if access else CHECKS:
        yield check.__doc__ or "", _outcome(check, server)
    server.channel.close()


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 0 when every check passes, 1 when one does not, 2 when nothing answers."""
    parser = argparse.ArgumentParser("tandem-draft-conformance", description=__doc__)
    parser.add_argument("address", help="HOST:PORT of the draft server")
    parser.add_argument("--identity", type=DraftIdentity.parse, help="NAMESPACE/NAME of the deployment: over TLS")
    for name, folder, file in (
        ("certificates", CERTIFICATES_FOLDER, "ca.crt"),
        ("credentials", CREDENTIALS_FOLDER, "token"),
    ):
        parser.add_argument(f"--{name}", type=Path, default=folder, help=f"folder with {file} (default: {folder})")
    given = parser.parse_args(arguments)
    if not given.address.rpartition(":")[2].isdecimal():
        parser.error(f"address (is {given.address}): must end with a port, as in HOST:8002")
    address, outcomes = given.address, []
    access = DraftAccess(given.identity, given.certificates, given.credentials) if given.identity else None
    try:
        for expected, instead in verdicts(address, access):
            outcomes.append(not instead)
            sys.stdout.write(f"{'FAIL' if instead else 'ok  '} {expected}{f': {instead}' if instead else ''}\n")
    except (UnmetError, grpc.RpcError, OSError) as error:
        hint = "" if access else "; a server that speaks TLS is asked with --identity"
        sys.stderr.write(f"{address}: {_told(error)}{hint}\n")
        return 2
    sys.stdout.write(f"{sum(outcomes)} of {len(outcomes)} checks passed\n")
    return 0 if all(outcomes) else 1


def _outcome(check: Callable[[Asked], None], server: Asked) -> str:
    try:
        check(server)
    except (UnmetError, grpc.RpcError) as error:
        return _told(error)
    return ""


def _told(error: Exception) -> str:
    return f"{error.code().name}: {error.details()}" if isinstance(error, grpc.Call) else str(error)


def _expect(holds: bool, instead: str) -> None:  # noqa: FBT001 -- a condition, no switch
    if not holds:
        raise UnmetError(instead)


def _refused(server: Asked, greet: Callable[[Verifier], object]) -> None:
    with server.verifier() as verifier:
        try:
            greet(verifier)
        except grpc.RpcError as error:
            told = isinstance(error, grpc.Call) and error.details()
            code = error.code() if isinstance(error, grpc.Call) else None
            _expect(code is grpc.StatusCode.FAILED_PRECONDITION and bool(told), _told(error))
        else:
            raise UnmetError("it was welcomed")


def _deepest_seconds(server: Asked, *, budget_seconds: float = 0.0) -> float:
    """For as deep a draft as the server makes, after a token that is new to a context that it has."""
    with server.verifier() as verifier:
        most, sessions = verifier.greet(max_depth=DEPTH_LIMIT).max_depth, _sessions()
        verifier.ask(*sessions.rows({"r": server.tokens(5)}, depth=1))
        rows = sessions.rows({"r": server.tokens(6)}, depth=most)
        begun = time.monotonic()
        verifier.ask(*rows, budget_seconds=budget_seconds)
        return time.monotonic() - begun


def _lost(draft: Draft) -> None:
    _expect(draft.status == Draft.RESYNC, f"status {Draft.Status.Name(draft.status)} instead of RESYNC")


def _sessions(*, number: int = 3) -> Sessions:
    """For one request, whose session gets this number."""
    return Sessions(depth=DEPTH, vocabulary=ANY_VOCABULARY, draw=lambda: number)


def _context(tokens: Iterable[int]) -> Context:
    return cast("Context", array("i", tokens))


def _opening(context: Context, *, session: int, depth: int) -> Row:
    """A row that opens a session with all of its context."""
    (row,) = _sessions(number=session).rows({"r": context}, depth=depth)
    return row


if __name__ == "__main__":
    sys.exit(main())
