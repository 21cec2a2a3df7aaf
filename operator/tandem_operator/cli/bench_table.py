"""How `tandem bench` shows what was measured. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from tandem_operator.cli.screen import BOLD, DIM, RED, YELLOW, Paint
from tandem_operator.facts import Manifest
from tandem_operator.masking import one_line

KEYS = {
    "name": "of the resource",
    "benchmark": "as status.benchmark of the resource has it; what is not known is absent, with --detach all but job",
    "notes": "errors of requests, and what is not shown",
}
_LATENCIES = {
    "timeToFirstToken": "first token",
    "timePerOutputToken": "per output token",
    "interTokenLatency": "between pieces",
    "requestLatency": "request",
}
_COLUMNS = ("mean", "p50", "p95", "p99")
_UNKNOWN = "–"


def table(name: str, told: Manifest, *, notes: Sequence[str], paint: Paint) -> Iterator[str]:
    """Lines: what was asked, latencies, throughput, what pods did and used, and what the models are worth."""
    failed = f", {paint(str(told['failed']) + ' failed', RED)}" if told["failed"] else ""
    yield f"{paint(name, BOLD)}: {told['completed']} requests answered{failed}, in {_text(told, 'duration')}"
    yield paint(f"  {_asked(told['load'])}; verifier revision {_text(told, 'revision')}", DIM)
    rows = [("LATENCY", *(column.upper() for column in _COLUMNS))]
    rows += [(title, *(_text(told.get(key) or {}, column) for column in _COLUMNS)) for key, title in _LATENCIES.items()]
    width = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for number, (first, *cells) in enumerate(rows):
        aligned = "  ".join([first.ljust(width[0]), *(c.rjust(w) for c, w in zip(cells, width[1:], strict=True))])
        yield paint(aligned, BOLD) if number == 0 else aligned
    memory = told.get("memory") or {}
    figures = {
        "requests/s": _text(told, "requestsPerSecond"),
        "output tokens/s": _text(told, "outputTokensPerSecond"),
        "accepted drafts": _share(told, "acceptanceRate"),
        "most KV cache": _share(told, "kvCacheUsage"),
        "most memory": f"{_text(memory, 'verifier')} of a verifier, {_text(memory, 'draft')} of a draft",
    }
    for title, figure in figures.items():
        yield f"{title.ljust(width[0])}  {figure}"
    for quality in told.get("quality") or []:
        yield from _quality(quality, width[0])
    yield from (paint(note, YELLOW) for note in notes)


def benchmark_line(told: Manifest) -> str:
    """The same in one line."""
    first = told.get("timeToFirstToken") or {}
    token = told.get("timePerOutputToken") or {}
    return (
        f"last benchmark (revision {_text(told, 'revision')}, {_text(told, 'ended')}): first token "
        f"{_text(first, 'p95')}, per output token {_text(token, 'p95')} (p95), "
        f"{_text(told, 'outputTokensPerSecond')} output tokens/s"
    )


def _asked(load: Manifest) -> str:
    pace = (
        f"{load['requestsPerSecond']} a second" if "requestsPerSecond" in load else f"{load['concurrency']} at a time"
    )
    return (
        f"{load['prompts']} prompts of {load['inputTokens']} random tokens, answers of {load['outputTokens']}, {pace}, "
        f"temperature {load.get('temperature', '0')}, seed {load.get('seed', 0)}"
    )


def _quality(quality: Manifest, width: int) -> Iterator[str]:
    about = f"{quality['role']}, {one_line(quality['texts'])}"
    yield f"{'perplexity'.ljust(width)}  {quality['perplexity']}, source {quality['sourcePerplexity']} ({about})"
    for task in quality.get("tasks") or []:
        name = one_line(task["name"]).ljust(width)
        yield f"{name}  {task['score']}, source {task['sourceScore']} ({quality['role']}, {one_line(task['metric'])})"


def _share(told: Manifest, key: str) -> str:
    return f"{float(told[key]) * 100:.0f} %" if key in told else _UNKNOWN


def _text(told: Manifest, key: str) -> str:
    found: Any = told.get(key)
    return _UNKNOWN if found is None else one_line(str(found))
