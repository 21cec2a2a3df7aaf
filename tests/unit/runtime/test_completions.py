"""The client for draft pods, against a real HTTP server on loopback that says whatever a test wants."""

import contextlib
import http.server
import json
import threading
from collections.abc import Iterator

import pytest

from tandem_runtime.drafting.completions import Completions, DraftPodError

MODELS = {"data": [{"id": "draft", "max_model_len": 20}]}
LIMIT_SECONDS = 10.0
DRIP_SECONDS = 0.01


class DraftServer(http.server.ThreadingHTTPServer):
    """Answers /v1/completions with `completions`, and keeps what it was asked and by how many connections."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.models: object = MODELS
        self.completions: object = {"choices": []}
        self.status = 200
        self.closes_after_each_answer = False
        self.is_silent = False
        """Takes every question and answers none."""
        self.drips = False
        """Every answer begins and goes on, a byte at a time, for longer than any test may last."""
        self.ended = threading.Event()
        self.asked: list[dict[str, object]] = []
        self.connections = 0

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.server_port}"


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: DraftServer

    def setup(self) -> None:
        super().setup()
        self.server.connections += 1

    def do_GET(self) -> None:
        self._reply(200, self.server.models)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.asked.append(json.loads(body))
        self._reply(self.server.status, self.server.completions)
        self.close_connection = self.server.closes_after_each_answer

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002 - the base class's name
        """Silence: pytest shows what matters."""

    def _reply(self, status: int, value: object) -> None:
        if self.server.is_silent:
            self.server.ended.wait(LIMIT_SECONDS)
            self.close_connection = True
            return
        if self.server.drips:
            self._drip()
            return
        body = value if isinstance(value, bytes) else json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _drip(self) -> None:
        self.send_response(200)
        self.end_headers()  # without a length: until the connection is closed
        self.close_connection = True
        with contextlib.suppress(OSError):  # the client has had enough
            for _ in range(int(LIMIT_SECONDS / DRIP_SECONDS)):
                self.wfile.write(b" ")
                if self.server.ended.wait(DRIP_SECONDS):
                    return


@pytest.fixture
def server() -> Iterator[DraftServer]:
    with DraftServer() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.ended.set()
        server.shutdown()
        thread.join(timeout=LIMIT_SECONDS)


@pytest.fixture
def client(server: DraftServer) -> Iterator[Completions]:
    client = Completions(server.address)
    yield client
    client.close()


def choice(index: int, token_ids: object) -> dict[str, object]:
    return {"index": index, "token_ids": token_ids}


def test_all_rows_travel_in_one_greedy_question(server: DraftServer, client: Completions) -> None:
    server.completions = {"choices": [choice(1, [8]), choice(0, [4, 5])]}
    assert client.continuations([[1, 2, 3], [7]], 2) == [[4, 5], [8]]
    assert server.asked == [{"prompt": [[1, 2, 3], [7]], "max_tokens": 2, "temperature": 0, "return_token_ids": True}]


def test_one_connection_serves_many_questions(server: DraftServer, client: Completions) -> None:
    server.completions = {"choices": [choice(0, [4])]}
    for _ in range(5):
        assert client.continuations([[1]], 1) == [[4]]
    assert server.connections == 1


def test_a_connection_that_the_server_has_closed_meanwhile_is_made_anew(
    server: DraftServer, client: Completions
) -> None:
    server.completions = {"choices": [choice(0, [4])]}
    server.closes_after_each_answer = True
    for _ in range(3):
        assert client.continuations([[1]], 1) == [[4]]
    assert server.connections == 3


def test_a_context_too_long_for_the_draft_model_is_left_out(server: DraftServer, client: Completions) -> None:
    server.completions = {"choices": [choice(0, [4])]}
    assert client.continuations([[1] * 19, [1] * 18], 2) == [[], [4]]
    assert server.asked[0]["prompt"] == [[1] * 18]


def test_when_every_context_is_too_long_nothing_is_asked(server: DraftServer, client: Completions) -> None:
    assert client.continuations([[1] * 19], 2) == [[]]
    assert server.asked == []


@pytest.mark.parametrize(
    "surprise",
    [
        b"",
        b"not JSON",
        b"[" * 100_000,
        [],
        None,
        {"choices": 3},
        {"choices": [{}]},
        {"choices": [choice(7, [1])]},
        {"choices": [{"index": "0", "token_ids": [1]}]},
    ],
)
def test_an_answer_that_is_no_completion_is_an_error_and_the_next_question_works(
    server: DraftServer, client: Completions, surprise: object
) -> None:
    server.completions = surprise
    with pytest.raises((DraftPodError, ValueError, RecursionError)):
        client.continuations([[1]], 1)
    server.completions = {"choices": [choice(0, [4])]}
    assert client.continuations([[1]], 1) == [[4]]
    assert server.connections == 2


def test_an_error_status_names_what_the_draft_pod_said(server: DraftServer, client: Completions) -> None:
    server.status, server.completions = 400, {"error": "too long"}
    with pytest.raises(DraftPodError, match=r"status 400.*too long"):
        client.continuations([[1]], 1)


@pytest.mark.parametrize("models", [{}, {"data": []}, {"data": [{"max_model_len": "20"}]}, []])
def test_a_pod_that_does_not_tell_its_context_limit_is_not_asked(
    server: DraftServer, client: Completions, models: object
) -> None:
    server.models = models
    with pytest.raises(DraftPodError):
        client.continuations([[1]], 1)
    assert server.asked == []


def test_an_answer_without_end_is_given_up(
    server: DraftServer, client: Completions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tandem_runtime.drafting.completions.REPLY_LIMIT_BYTES", 1000)
    server.completions = b"x" * 2000
    with pytest.raises(DraftPodError, match="longer than 1000 bytes"):
        client.continuations([[1]], 1)


def test_a_draft_pod_that_does_not_answer_is_given_up(server: DraftServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tandem_runtime.drafting.completions.CALL_LIMIT_SECONDS", 0.1)
    server.is_silent = True
    with pytest.raises(TimeoutError):
        Completions(server.address).continuations([[1]], 1)


def test_an_answer_that_only_drips_is_given_up_though_no_single_byte_is_late(
    server: DraftServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tandem_runtime.drafting.completions.CALL_LIMIT_SECONDS", 0.5)
    server.drips = True
    with pytest.raises(TimeoutError, match=r"took longer than 0\.5 s"):
        Completions(server.address).continuations([[1]], 1)


def test_a_draft_address_that_nobody_listens_at_fails_at_once(server: DraftServer) -> None:
    address = server.address
    server.shutdown()
    server.server_close()
    with pytest.raises(ConnectionRefusedError):
        Completions(address).continuations([[1]], 1)
