"""Asks a draft pod's OpenAI server for greedy continuations, over one connection that is kept open.

Knows HTTP and JSON; must not interpret token ids: what it returns is untrusted.
"""

import http.client
import json
import time
from collections.abc import Sequence
from typing import Any

CALL_LIMIT_SECONDS = 2.0
REPLY_LIMIT_BYTES = 8 * 1024 * 1024


class DraftPodError(Exception):
    """The draft pod answered, but not with drafts."""


class Completions:
    """A client for one draft address, `host:port`. Not safe for use by several threads at once."""

    def __init__(self, address: str) -> None:
        host, _, port = address.rpartition(":")
        self._host = host.strip("[]")
        self._port = int(port)
        self._connection: http.client.HTTPConnection | None = None
        self._context_limit = 0

    def continuations(self, contexts: Sequence[list[int]], depth: int) -> list[object]:
        """For each context up to `depth` tokens that follow it, [] where it is too long for the draft model.

        Raises OSError, http.client.HTTPException, ValueError or DraftPodError; the connection is then made anew
        at the next call, which also looks the name up again: the pods behind it may have changed.
        """
        deadline = time.monotonic() + CALL_LIMIT_SECONDS
        was_open = self._connection is not None
        try:
            try:
                return self._continuations(contexts, depth, deadline=deadline)
            except (http.client.RemoteDisconnected, ConnectionError):
                # Servers close connections that were idle for some seconds; that is no failure of the draft pod.
                if not was_open:
                    raise
                self.close()
                return self._continuations(contexts, depth, deadline=deadline)
        except (KeyError, IndexError, TypeError) as surprise:
            self.close()
            raise DraftPodError(f"unexpected answer of the draft pod: {surprise!r}") from surprise
        except Exception:
            self.close()
            raise

    def _continuations(self, contexts: Sequence[list[int]], depth: int, *, deadline: float) -> list[object]:
        if self._connection is None:
            self._connection = http.client.HTTPConnection(self._host, self._port, timeout=CALL_LIMIT_SECONDS)
            self._context_limit = _context_limit(_exchange(self._connection, "/v1/models", deadline=deadline))
        fitting = [row for row, context in enumerate(contexts) if len(context) + depth <= self._context_limit]
        found: list[object] = [[] for _ in contexts]
        if fitting:
            question = {
                "prompt": [contexts[row] for row in fitting],
                "max_tokens": depth,
                "temperature": 0,
                "return_token_ids": True,
            }
            reply = _exchange(self._connection, "/v1/completions", question, deadline=deadline)
            for choice in reply["choices"]:
                found[fitting[choice["index"]]] = choice["token_ids"]
        return found

    def close(self) -> None:
        """Closes the connection; the next call makes another one."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def _exchange(connection: http.client.HTTPConnection, path: str, question: object = None, *, deadline: float) -> Any:
    """One request (a POST of `question`, or a GET without one) and its decoded, untrusted answer."""
    method, body = ("GET", None) if question is None else ("POST", json.dumps(question, separators=(",", ":")))
    connection.request(method, path, body=body, headers={"Content-Type": "application/json"})
    received = bytearray()
    # Closed by hand: http.client holds a response that read1 has read to its end for an unfinished one.
    with connection.getresponse() as response:
        while chunk := response.read1(1 << 16):
            received += chunk
            if len(received) > REPLY_LIMIT_BYTES:
                raise DraftPodError(f"{path}: the answer is longer than {REPLY_LIMIT_BYTES} bytes")
            if time.monotonic() > deadline:
                raise TimeoutError(f"{path}: the answer took longer than {CALL_LIMIT_SECONDS} s")
    if response.status != http.HTTPStatus.OK:
        raise DraftPodError(f"{path}: status {response.status}: {received[:200].decode(errors='replace')}")
    return json.loads(received)


def _context_limit(models: Any) -> int:
    limit = models["data"][0]["max_model_len"]
    if type(limit) is not int:
        raise DraftPodError(f"/v1/models: max_model_len is {limit!r}, not a number of tokens")
    return limit
