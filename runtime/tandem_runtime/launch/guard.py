"""Asks for the API key under every path but those of probes and scrapes. Loaded into vLLM's server by `--middleware`.

vLLM's own check covers a few prefixes only; the paths beside them (/invocations, /tokenize, /pooling) do the same work.
Must not import vLLM, and must never log or return the key.
"""

import hashlib
import hmac
import json
import os

from tandem_contracts.launch import API_KEY_VARIABLE
from tandem_runtime.launch.asgi import Application, Receive, Scope, Send, answer

OPEN_PATHS = frozenset({"/health", "/metrics", "/ping"})

_BODY = json.dumps({"error": "Unauthorized"}).encode()


class Guard:
    """An ASGI application in front of another one."""

    def __init__(self, app: Application) -> None:
        """Raises KeyError without a key in the environment: an open server is never the fallback."""
        self._app = app
        self._expected = _digest(os.environ[API_KEY_VARIABLE].encode())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in {"http", "websocket"} or self._may_pass(scope):
            await self._app(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
        else:
            await answer(send, 401, _BODY)

    def _may_pass(self, scope: Scope) -> bool:
        if scope["path"] in OPEN_PATHS:
            return True
        shown = next((value for name, value in scope["headers"] if name.lower() == b"authorization"), b"")
        scheme, _, key = shown.partition(b" ")
        return scheme.lower() == b"bearer" and hmac.compare_digest(_digest(key), self._expected)


def _digest(key: bytes) -> bytes:
    return hashlib.sha256(key).digest()
