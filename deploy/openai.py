"""The few requests to a served model that the demo, the tests and the benchmarks make. Standard library only."""

from __future__ import annotations

import json
import re
import time
import urllib.request
from collections.abc import Iterator
from typing import Any

LIMIT_SECONDS = 120.0


def chat(address: str, *, model: str, prompt: str, max_tokens: int, **further: Any) -> dict[str, Any]:
    """One greedy chat completion; `address` like `http://host:port`, `further` as in OpenAI's API. Raises OSError."""
    body = {
        "model": model,
        "messages": [{"role": "user", "content": prompt}],
        "max_tokens": max_tokens,
        "temperature": 0,
        **further,
    }
    return _post(f"{address}/v1/chat/completions", body)


def complete(address: str, *, model: str, prompt: str, max_tokens: int, limit_seconds: float = LIMIT_SECONDS) -> str:
    """Text of one greedy completion of exactly so many tokens. Raises OSError."""
    body = {"model": model, "prompt": prompt, "max_tokens": max_tokens, "temperature": 0, "ignore_eos": True}
    text: str = _post(f"{address}/v1/completions", body, limit_seconds=limit_seconds)["choices"][0]["text"]
    return text


def models(address: str) -> list[str]:
    """What is served there. Raises OSError."""
    with urllib.request.urlopen(f"{address}/v1/models", timeout=LIMIT_SECONDS) as answer:  # noqa: S310 -- our own
        return [model["id"] for model in json.loads(answer.read())["data"]]


def stream(address: str, *, model: str, prompt: str, max_tokens: int) -> int:
    """One streamed greedy completion over a connection of its own; the events that it came in.

    Raises OSError, and EOFError when the stream ends before it says that it is done.
    """
    body = {"model": model, "prompt": prompt, "max_tokens": max_tokens, "temperature": 0}
    return sum(1 for _ in _events(address, body))


def timed(address: str, *, model: str, prompt: str, max_tokens: int, temperature: float = 0.0) -> tuple[float, float]:
    """Seconds to the first token, and to the end, of one streamed completion of exactly so many tokens.

    Raises OSError, and EOFError as `stream` does.
    """
    body = {"model": model, "prompt": prompt, "max_tokens": max_tokens, "temperature": temperature, "ignore_eos": True}
    begun, first = time.monotonic(), 0.0
    for _ in _events(address, body):
        first = first or time.monotonic() - begun
    return first, time.monotonic() - begun


def counter(address: str, name: str) -> float:
    """Sum of a counter over all its label values in `/metrics`; 0 when it is not there. Raises OSError."""
    values = re.findall(rf"^{re.escape(name)}(?:\{{[^}}]*\}})? (\S+)$", _metrics(address), re.MULTILINE)
    return sum(float(value) for value in values)


def sample(address: str, name: str, **labels: str) -> float:
    """One sample in `/metrics` by its labels. Raises OSError, and LookupError when it is not there."""
    wanted = ",".join(f'{key}="{value}"' for key, value in sorted(labels.items()))
    for line in _metrics(address).splitlines():
        if line.startswith(f"{name}{{{wanted}}} "):
            return float(line.rsplit(" ", 1)[1])
    raise LookupError(f"{address}/metrics has no {name}{{{wanted}}}")


def _events(address: str, body: dict[str, Any]) -> Iterator[bytes]:
    """Each event of a streamed completion as it comes. Raises as `stream` does."""
    events = 0
    request = _request(f"{address}/v1/completions", {**body, "stream": True})
    with urllib.request.urlopen(request, timeout=LIMIT_SECONDS) as answer:  # noqa: S310 -- our own
        for line in answer:
            if line.strip() == b"data: [DONE]":
                return
            if line.startswith(b"data: "):
                events += 1
                yield line
    raise EOFError(f"the stream ended after {events} events without [DONE]")


def _metrics(address: str) -> str:
    with urllib.request.urlopen(f"{address}/metrics", timeout=LIMIT_SECONDS) as answer:  # noqa: S310 -- our own
        text: str = answer.read().decode()
    return text


def _post(url: str, body: dict[str, Any], *, limit_seconds: float = LIMIT_SECONDS) -> dict[str, Any]:
    with urllib.request.urlopen(_request(url, body), timeout=limit_seconds) as answer:  # noqa: S310 -- our own
        parsed: dict[str, Any] = json.loads(answer.read())
    return parsed


def _request(url: str, body: dict[str, Any]) -> urllib.request.Request:
    return urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})  # noqa: S310 -- our own
