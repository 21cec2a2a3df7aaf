"""A server that leaves ends its connections, then sends new requests away, and never before."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from tandem_runtime.launch import leaving
from tandem_runtime.launch.leaving import Leaving, Message, Receive, Scope, Send, Stage

CLOSE = (b"connection", b"close")


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "leaving"
    monkeypatch.setenv(leaving.VARIABLE, str(path))
    return path


def answer_to(path: str, *, method: str = "POST", kind: str = "http", tell: Any = lambda: None) -> list[Message]:
    """What is sent. `tell` is called between the request and its answer."""
    sent: list[Message] = []

    async def application(_scope: Scope, _receive: Receive, send: Send) -> None:
        tell()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"x", b"y")]})
        await send({"type": "http.response.body", "body": b"text"})

    async def receive() -> Message:
        return {"type": "http.request"}

    async def send(message: Message) -> None:
        sent.append(message)

    asyncio.run(Leaving(application)({"type": kind, "path": path, "method": method}, receive, send))
    return sent


@pytest.mark.parametrize("path", ["/v1/completions", "/health", "/metrics"])
def test_nothing_is_changed_while_it_stays(file: Path, path: str) -> None:
    assert not file.exists()
    assert answer_to(path)[0] == {"type": "http.response.start", "status": 200, "headers": [(b"x", b"y")]}


def test_requests_are_answered_while_it_leaves_and_their_connections_end(file: Path) -> None:
    leaving.tell(file, Stage.LEAVING)
    start, body = answer_to("/v1/completions")
    assert (start["status"], start["headers"]) == (200, [(b"x", b"y"), CLOSE])
    assert body["body"] == b"text"


def test_an_answer_that_begins_after_it_has_begun_to_leave_ends_its_connection_too(file: Path) -> None:
    start, _ = answer_to("/v1/completions", tell=lambda: leaving.tell(file, Stage.LEAVING))
    assert CLOSE in start["headers"]


@pytest.mark.parametrize("stage", Stage)
def test_it_is_not_healthy_any_more(file: Path, stage: Stage) -> None:
    leaving.tell(file, stage)
    assert answer_to("/health", method="GET")[0]["status"] == 503


def test_new_requests_are_sent_away_once_the_engine_takes_none(file: Path) -> None:
    leaving.tell(file, Stage.GONE)
    start, _ = answer_to("/v1/completions")
    assert start["status"] == 503
    assert CLOSE in start["headers"]
    assert (b"retry-after", b"1") in start["headers"]
    assert answer_to("/metrics", method="GET")[0]["status"] == 200


@pytest.mark.parametrize("text", ["", "something else"])
def test_a_file_that_says_nothing_changes_nothing(file: Path, text: str) -> None:
    file.write_text(text)
    assert answer_to("/v1/completions")[0]["headers"] == [(b"x", b"y")]


def test_what_is_no_request_passes(file: Path) -> None:
    leaving.tell(file, Stage.GONE)
    assert answer_to("/", kind="lifespan")[0]["status"] == 200
