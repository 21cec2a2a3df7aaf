"""The guard asks for the key everywhere but where probes and scrapes come."""

from __future__ import annotations

import asyncio
from collections.abc import MutableMapping
from typing import Any

import pytest

from tandem_contracts.launch import API_KEY_VARIABLE
from tandem_runtime.launch.guard import Guard, Receive, Scope, Send

KEY = "s3cret-kéy"
Sent = list[MutableMapping[str, Any]]


async def application(_scope: Scope, _receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})


def answers(path: str, *headers: tuple[bytes, bytes], kind: str = "http", method: str = "POST") -> Sent:
    sent: Sent = []

    async def receive() -> MutableMapping[str, Any]:
        return {"type": "http.request"}

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(message)

    scope = {"type": kind, "path": path, "method": method, "headers": list(headers)}
    asyncio.run(Guard(application)(scope, receive, send))
    return sent


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(API_KEY_VARIABLE, KEY)


@pytest.mark.parametrize("path", ["/health", "/metrics", "/ping"])
def test_probes_and_scrapes_need_no_key(path: str) -> None:
    assert answers(path)[0]["status"] == 200


PATHS = ["/v1/completions", "/invocations", "/tokenize", "/pooling", "/metrics/../v1/models", "/Health", "", "/"]


@pytest.mark.parametrize("path", PATHS)
def test_every_other_path_needs_the_key(path: str) -> None:
    refused = answers(path)
    assert refused[0]["status"] == 401
    assert KEY.encode() not in refused[1]["body"]
    assert answers(path, (b"Authorization", f"Bearer {KEY}".encode()))[0]["status"] == 200


@pytest.mark.parametrize(
    "shown", [b"", b"Bearer", b"Bearer ", b"Bearer wrong", b"Basic " + KEY.encode(), KEY.encode(), b"Bearer  s3cret"]
)
def test_what_is_not_the_key_is_refused(shown: bytes) -> None:
    assert answers("/v1/models", (b"authorization", shown))[0]["status"] == 401


def test_a_web_socket_without_the_key_is_closed_and_the_servers_own_messages_pass() -> None:
    assert answers("/v1/realtime", kind="websocket") == [{"type": "websocket.close", "code": 1008}]
    assert answers("", kind="lifespan")[0]["status"] == 200


def test_without_a_key_there_is_no_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(API_KEY_VARIABLE)
    with pytest.raises(KeyError):
        Guard(application)
