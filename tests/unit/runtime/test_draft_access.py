"""Who may ask a draft server, over real gRPC and TLS: tokens that are accepted and refused, and all that rotates."""

from __future__ import annotations

import logging
import queue
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest

from tandem_contracts.draft_access import CERTIFICATE_FILE, PRIVATE_KEY_FILE, DraftIdentity
from tandem_runtime import conformance
from tandem_runtime.draft_server.access import Access
from tandem_runtime.draft_server.health import CHECK, SERVING
from tandem_runtime.draft_server.server import DraftServer
from tandem_runtime.drafting.access import DraftAccess, open_channel
from tandem_runtime.drafting.protocol import VERSION, DrafterFrame, VerifierFrame, session_of
from tandem_runtime.drafting.protocol.draft_pb2 import Hello
from tandem_runtime.drafting.stream import DraftStream
from tests.draft_mounts import IDENTITY, ISSUER, Mounts, Signer, swap
from tests.unit.runtime.drafters import VOCABULARY, ArithmeticEngine

LIMIT_SECONDS = 20.0
HELLO = VerifierFrame(hello=Hello(protocol=VERSION, verifier="v", vocabulary=VOCABULARY, max_depth=4))
UNAUTHENTICATED, DENIED = grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED
UNAVAILABLE = grpc.StatusCode.UNAVAILABLE


@pytest.fixture
def signer() -> Signer:
    return Signer("first")


@pytest.fixture
def mounts(tmp_path: Path, signer: Signer) -> Mounts:
    made = Mounts(tmp_path)
    made.publish(signer)
    made.give(signer.token())
    return made


@pytest.fixture
def server(mounts: Mounts) -> Iterator[DraftServer]:
    made = DraftServer(ArithmeticEngine(), name="drafter", max_depth=8, max_sessions=3, access=mounts.draft)
    yield made
    made.stop(grace_seconds=0)


@pytest.fixture
def address(server: DraftServer) -> str:
    return f"127.0.0.1:{server.start('127.0.0.1:0')}"


def greeting(address: str, access: DraftAccess | None) -> DrafterFrame:
    """The first answer to a verifier. Raises grpc.RpcError."""
    with open_channel(address, [], access=access) as channel:
        frame: DrafterFrame = next(session_of(channel)(iter([HELLO]), timeout=LIMIT_SECONDS))
        return frame


def refusal(address: str, access: DraftAccess | None) -> tuple[grpc.StatusCode, str]:
    """How a verifier is refused."""
    with pytest.raises(grpc.RpcError) as refused:
        greeting(address, access)
    return refused.value.code(), refused.value.details()


def test_the_conformance_suite_passes_over_tls_and_sees_who_is_answered_without_a_token(
    address: str, mounts: Mounts, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folders = [f"--certificates={mounts.verifier.certificates}", f"--credentials={mounts.verifier.credentials}"]
    asked = [address, f"--identity={IDENTITY}", *folders]
    assert conformance.main(asked) == 0, capsys.readouterr().out
    assert capsys.readouterr().out.endswith("16 of 16 checks passed\n")
    monkeypatch.setattr(Access, "require", lambda _access, _metadata: None)
    assert conformance.main(asked) == 1
    assert "FAIL ends the stream of who shows no token with UNAUTHENTICATED: it was welcomed" in capsys.readouterr().out
    assert conformance.main([address, f"--identity={IDENTITY}", "--certificates=/nowhere"]) == 2
    assert "/nowhere" in capsys.readouterr().err


# -- tokens ------------------------------------------------------------------------------------------------------------


def test_a_verifier_of_the_deployment_is_answered(address: str, mounts: Mounts, signer: Signer) -> None:
    assert greeting(address, mounts.verifier).welcome.drafter == "drafter"
    mounts.give(signer.token(aud=IDENTITY.audience))
    assert greeting(address, mounts.verifier).welcome.drafter == "drafter", "one audience may stand without a list"


def test_names_are_the_deployments_own() -> None:
    assert IDENTITY.audience == "tandem.dev/draft/chat/pair"
    assert IDENTITY.subject == "system:serviceaccount:chat:pair-verifier"
    assert DraftIdentity.parse(str(IDENTITY)) == IDENTITY


OTHER = DraftIdentity("chat", "other")
WRONG: dict[str, tuple[dict[str, Any], grpc.StatusCode, str]] = {
    "the audience of the API server": (
        {"aud": [ISSUER]},
        UNAUTHENTICATED,
        f"the token's aud is ['{ISSUER}'], it must be tandem.dev/draft/chat/pair",
    ),
    "the audience of another deployment's drafts": (
        {"aud": [OTHER.audience]},
        UNAUTHENTICATED,
        "the token's aud is ['tandem.dev/draft/chat/other'], it must be tandem.dev/draft/chat/pair",
    ),
    "another deployment's verifier": (
        {"sub": OTHER.subject},
        DENIED,
        "the token's sub is 'system:serviceaccount:chat:other-verifier', "
        "it must be system:serviceaccount:chat:pair-verifier",
    ),
    "a verifier of that name in another namespace": (
        {"sub": DraftIdentity("other", "pair").subject},
        DENIED,
        "the token's sub is 'system:serviceaccount:other:pair-verifier', "
        "it must be system:serviceaccount:chat:pair-verifier",
    ),
    "another issuer": (
        {"iss": "https://elsewhere"},
        UNAUTHENTICATED,
        f"the token's iss is 'https://elsewhere', it must be {ISSUER}",
    ),
    "expired": ({"exp": 1_000_000_000}, UNAUTHENTICATED, "the token was valid until 2001-09-09T01:46:40+00:00, it is "),
    "without an end": ({"exp": None}, UNAUTHENTICATED, f"the token is none of {ISSUER}: Token is missing the"),
    "without a subject": ({"sub": None}, UNAUTHENTICATED, f"the token is none of {ISSUER}: Token is missing the"),
    "without an audience": ({"aud": None}, UNAUTHENTICATED, f"the token is none of {ISSUER}: Token is missing the"),
    "of tomorrow": ({"nbf": 4_000_000_000}, UNAUTHENTICATED, f"the token is none of {ISSUER}: The token is not yet"),
    "of a key that nobody knows": (
        {"kid": "unknown"},
        UNAUTHENTICATED,
        "the token is signed with key 'unknown', known are first",
    ),
}


@pytest.mark.parametrize(("claims", "code", "told"), WRONG.values(), ids=WRONG)
def test_a_token_is_refused_with_what_was_expected_and_what_was_seen(
    address: str,
    mounts: Mounts,
    signer: Signer,
    caplog: pytest.LogCaptureFixture,
    claims: dict[str, Any],
    code: grpc.StatusCode,
    told: str,
) -> None:
    caplog.set_level(logging.DEBUG)
    token = signer.token(**claims)
    mounts.give(token)
    seen = refusal(address, mounts.verifier)
    assert (seen[0], seen[1][: len(told)]) == (code, told)
    assert not [part for part in token.split(".") if part in seen[1] + caplog.text]


def test_a_signature_of_somebody_else_under_a_known_id_is_refused(address: str, mounts: Mounts) -> None:
    mounts.give(Signer("first").token())
    assert refusal(address, mounts.verifier) == (
        UNAUTHENTICATED,
        f"the token is none of {ISSUER}: Signature verification failed",
    )


@pytest.mark.parametrize("text", ["nonsense", "a.b.c", "e30.e30.e30"])
def test_what_is_no_token_is_refused(address: str, mounts: Mounts, text: str) -> None:
    mounts.give(text)
    code, told = refusal(address, mounts.verifier)
    assert code is UNAUTHENTICATED
    assert text not in told


def test_without_a_token_nobody_is_answered(address: str, mounts: Mounts) -> None:
    authority = (mounts.verifier.certificates / "ca.crt").read_bytes()
    named = [("grpc.default_authority", IDENTITY.server_name)]
    with (
        grpc.secure_channel(address, grpc.ssl_channel_credentials(authority), named) as channel,
        pytest.raises(grpc.RpcError) as refused,
    ):
        next(session_of(channel)(iter([HELLO]), timeout=LIMIT_SECONDS))
    assert (refused.value.code(), refused.value.details()) == (
        UNAUTHENTICATED,
        "a token is required, of aud tandem.dev/draft/chat/pair and sub system:serviceaccount:chat:pair-verifier; "
        "there is none",
    )


def test_without_keys_nobody_is_answered_until_they_are_there(
    mounts: Mounts, server: DraftServer, signer: Signer
) -> None:
    for name in ("issuer", "jwks.json"):
        (mounts.draft.credentials / name).unlink()
    address = f"127.0.0.1:{server.start('127.0.0.1:0')}"
    code, told = refusal(address, mounts.verifier)
    assert code is UNAVAILABLE
    assert told.startswith("tokens cannot be checked, for want of the issuer's keys: ")
    swap(mounts.draft.credentials, {"issuer": ISSUER.encode(), "jwks.json": b'{"keys": []}'})
    assert refusal(address, mounts.verifier)[0] is UNAVAILABLE
    mounts.publish(signer)
    assert greeting(address, mounts.verifier).welcome.drafter == "drafter"


def test_after_a_rotation_the_new_key_counts_and_the_old_one_as_long_as_it_is_published(
    address: str, mounts: Mounts, signer: Signer
) -> None:
    second = Signer("second")
    old, new = signer.token(), second.token()
    mounts.give(new)
    assert refusal(address, mounts.verifier)[1] == "the token is signed with key 'second', known are first"
    mounts.publish(signer, second)
    for token in (old, new):
        mounts.give(token)
        assert greeting(address, mounts.verifier).welcome.drafter == "drafter"
    mounts.publish(second)
    assert greeting(address, mounts.verifier).welcome.drafter == "drafter"
    mounts.give(old)
    assert refusal(address, mounts.verifier)[1] == "the token is signed with key 'first', known are second"


# -- certificates ------------------------------------------------------------------------------------------------------


def test_a_rotated_certificate_is_shown_to_the_next_that_comes(address: str, mounts: Mounts) -> None:
    greeting(address, mounts.verifier)
    (mounts.folder / "before").mkdir()
    before = DraftAccess(IDENTITY, mounts.folder / "before", mounts.verifier.credentials)
    (before.certificates / "ca.crt").write_bytes((mounts.verifier.certificates / "ca.crt").read_bytes())
    mounts.certify()
    assert greeting(address, mounts.verifier).welcome.drafter == "drafter"
    assert refusal(address, before)[0] is UNAVAILABLE


@pytest.mark.parametrize("damage", ["gone", "torn", "garbage"])
def test_a_certificate_that_cannot_be_used_leaves_the_one_before(address: str, mounts: Mounts, damage: str) -> None:
    greeting(address, mounts.verifier)
    key = (mounts.draft.certificates / PRIVATE_KEY_FILE).read_bytes()
    certificate = (mounts.draft.certificates / CERTIFICATE_FILE).read_bytes()
    authority = (mounts.verifier.certificates / "ca.crt").read_bytes()
    mounts.certify()
    other = (mounts.draft.certificates / CERTIFICATE_FILE).read_bytes()
    files = {
        "gone": {CERTIFICATE_FILE: certificate},
        "torn": {CERTIFICATE_FILE: other, PRIVATE_KEY_FILE: key},
        "garbage": {CERTIFICATE_FILE: b"nothing", PRIVATE_KEY_FILE: b"nothing"},
    }
    swap(mounts.draft.certificates, files[damage])
    swap(mounts.verifier.certificates, {"ca.crt": authority})
    assert greeting(address, mounts.verifier).welcome.drafter == "drafter"


def test_a_server_without_certificates_does_not_start(mounts: Mounts, server: DraftServer) -> None:
    (mounts.draft.certificates / "..data").unlink()
    with pytest.raises(OSError, match=r"tls\.key"):
        server.start("127.0.0.1:0")


def test_a_certificate_in_another_name_is_none(address: str, mounts: Mounts) -> None:
    mounts.certify(OTHER.server_name)
    assert refusal(address, mounts.verifier)[0] is UNAVAILABLE


# -- plaintext ---------------------------------------------------------------------------------------------------------


def test_a_server_with_tls_answers_nobody_in_plaintext_but_the_kubelet_at_another_port(
    server: DraftServer, address: str
) -> None:
    assert refusal(address, None)[0] is UNAVAILABLE
    health = f"127.0.0.1:{server.start_health('127.0.0.1:0')}"
    with grpc.insecure_channel(health) as channel:
        assert channel.unary_unary(CHECK)(b"", timeout=LIMIT_SECONDS) == SERVING
        with pytest.raises(grpc.RpcError) as refused:
            next(session_of(channel)(iter([HELLO]), timeout=LIMIT_SECONDS))
        assert refused.value.code() is grpc.StatusCode.UNIMPLEMENTED


def test_no_token_goes_to_a_server_that_speaks_no_tls(mounts: Mounts) -> None:
    token = (mounts.verifier.credentials / "token").read_bytes()
    heard: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=_record, args=(listener, heard), daemon=True).start()
        assert refusal(f"127.0.0.1:{listener.getsockname()[1]}", mounts.verifier)[0] is UNAVAILABLE
    written = heard.get(timeout=LIMIT_SECONDS)
    assert written[:1] == b"\x16", "a TLS handshake"
    assert token not in written


def test_no_token_goes_to_a_draft_server_in_plaintext(mounts: Mounts) -> None:
    seen: list[Any] = []

    def session(_frames: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
        seen.extend(context.invocation_metadata())
        yield b""

    server = grpc.server(ThreadPoolExecutor(1))
    handler = grpc.stream_stream_rpc_method_handler(session)
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler("tandem.draft.v1.Drafter", {"Session": handler}),)
    )
    address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    assert refusal(address, mounts.verifier)[0] is UNAVAILABLE
    assert seen == []
    greeting(address, None)
    assert seen
    assert "authorization" not in {name for name, _ in seen}, "nor by a verifier without TLS"
    server.stop(None).wait(LIMIT_SECONDS)


def test_without_tls_no_token_is_asked_for() -> None:
    server = DraftServer(ArithmeticEngine(), name="drafter", max_depth=8, max_sessions=3)
    assert greeting(f"127.0.0.1:{server.start('127.0.0.1:0')}", None).welcome.drafter == "drafter"
    server.stop(grace_seconds=0)


# -- the verifier's stream ---------------------------------------------------------------------------------------------


def test_a_stream_that_is_opened_anew_takes_the_token_and_the_authority_of_today(
    address: str, mounts: Mounts, signer: Signer
) -> None:
    stream = DraftStream(address, HELLO, access=mounts.verifier)
    assert _welcomes(stream) == 1
    second = Signer("second")
    mounts.certify()
    mounts.publish(second)
    mounts.give(second.token())
    stream.renew()
    assert _welcomes(stream) == 1
    assert stream.failures == 0
    stream.close()


def test_a_stream_whose_files_are_missing_goes_on_trying(
    address: str, mounts: Mounts, signer: Signer, caplog: pytest.LogCaptureFixture
) -> None:
    data = mounts.verifier.credentials / "..data"
    data.rename(data.with_name("away"))
    stream = DraftStream(address, HELLO, access=mounts.verifier)
    _wait_for(lambda: stream.failures == 1)
    _wait_for(lambda: "No such file or directory" in caplog.text)
    data.with_name("away").rename(data)
    assert _welcomes(stream) == 1
    stream.close()


def _record(listener: socket.socket, heard: queue.SimpleQueue[bytes]) -> None:
    connection, _ = listener.accept()
    with connection:
        connection.settimeout(LIMIT_SECONDS)
        heard.put(connection.recv(65536))
        connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")


def _welcomes(stream: DraftStream) -> int:
    """How many welcomes have come when the first has."""
    found: list[DrafterFrame] = []
    _wait_for(lambda: bool(found.extend(frame for _, frame in stream.take(time.monotonic())) or found))
    return sum(frame.WhichOneof("frame") == "welcome" for frame in found)


def _wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + LIMIT_SECONDS
    while not condition():
        assert time.monotonic() < deadline, "it has not come about"
        time.sleep(0.01)
