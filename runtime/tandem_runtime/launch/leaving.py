"""How a verifier leaves: before its engine stops to take requests, those who hold connections to it are sent elsewhere.

vLLM goes on to accept connections while it drains, calls itself healthy, and answers new requests with 500. Whoever
keeps connections open (a client's pool, a proxy, the wake gate) would be answered so until it ends. Loaded into vLLM's
server by `--middleware`; must not import vLLM.
"""

import os
from enum import StrEnum
from pathlib import Path

from tandem_runtime.launch.asgi import Application, Message, Receive, Scope, Send, answer

VARIABLE = "TANDEM_LEAVING_FILE"
"""Environment variable: path of the file by which the launcher tells the server."""
RETRY_AFTER_SECONDS = b"1"
_CLOSE = (b"connection", b"close")
_AWAY = b'{"error": {"message": "this pod is leaving: ask again", "type": "ServiceUnavailable", "code": 503}}'


class Stage(StrEnum):
    """What the file holds; it is not there while the engine stays."""

    LEAVING = "leaving"
    """Requests are still answered, each with the word that its connection ends."""
    GONE = "gone"
    """The engine finishes what it has: new requests are sent away."""


def tell(file: Path, stage: Stage) -> None:
    """Write the stage at once: a reader sees the one before, or all of this one."""
    written = file.with_suffix(".new")
    written.write_text(stage)
    written.replace(file)


class Leaving:
    """An ASGI application in front of another one."""

    def __init__(self, app: Application) -> None:
        """Raises KeyError without VARIABLE in the environment."""
        self._app, self._file = app, Path(os.environ[VARIABLE])

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        stage = self._stage() if scope["type"] == "http" else None
        if stage is None:
            await self._app(scope, receive, self._or_leaving(send) if scope["type"] == "http" else send)
        elif scope["path"] == "/health" or (stage is Stage.GONE and scope["method"] == "POST"):
            await answer(send, 503, _AWAY, [(b"retry-after", RETRY_AFTER_SECONDS), _CLOSE])
        else:
            await self._app(scope, receive, _with_end(send))

    def _stage(self) -> Stage | None:
        try:
            return Stage(self._file.read_text())
        except (OSError, ValueError):
            return None

    def _or_leaving(self, send: Send) -> Send:
        """For a request that came before: its answer may begin after."""

        async def sent(message: Message) -> None:
            is_late = message["type"] == "http.response.start" and self._stage() is not None
            await (_with_end(send) if is_late else send)(message)

        return sent


def _with_end(send: Send) -> Send:
    async def sent(message: Message) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message.get("headers", []), _CLOSE]}
        await send(message)

    return sent
