"""How `tandem top` shows its figures: as a table, and for programs. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from itertools import groupby
from typing import Any

from tandem_contracts.launch import Role
from tandem_operator.cli.screen import BOLD, DIM, GREEN, RED, YELLOW, Paint
from tandem_operator.cli.top_figures import Figures, Row, latency_of, total_of
from tandem_operator.facts import Manifest, PodFacts
from tandem_operator.masking import one_line
from tandem_operator.scaling.reading import Distribution

KEYS = {
    "namespace": "of all that follows",
    "time": "of the second reading",
    "intervalSeconds": "from the first reading to the second, over which rates and latencies are told",
    "pods[].deployment": "to which it belongs",
    "pods[].role": "verifier or draft",
    "pods[].name": "of the pod",
    "pods[].ready": "whether it is Ready",
    "pods[].running": "requests in the batch; null: not known, as with every figure",
    "pods[].waiting": "requests in the queue",
    "pods[].tokensPerSecond": "given to clients; of a draft, to verifiers that asked",
    "pods[].firstTokenSeconds.mean": "of requests that got their first token in the interval",
    "pods[].firstTokenSeconds.p95": "95 % of them took at most so long",
    "pods[].firstTokenSeconds.requests": "how many they were",
    "pods[].outputTokenSeconds.mean": "time per output token of requests that ended in the interval",
    "pods[].outputTokenSeconds.p95": "95 % of them took at most so long",
    "pods[].outputTokenSeconds.requests": "how many they were",
    "pods[].acceptance": "share of drafted tokens that the verifier took, from 0 to 1",
    "pods[].kvUsage": "share of the KV cache in use, from 0 to 1",
    "pods[].busy": "share of the time that a draft drafts what is asked, from 0 to 1",
    "pods[].trouble": "why there are no figures; empty: nothing",
    "notes": "what wake gates hold, and what else could not be read",
}
HEADER = (
    "POD", "RUNNING", "WAITING", "TOKENS/S", "FIRST TOKEN", "P95", "PER TOKEN", "P95", "ACCEPTED", "KV", "BUSY",
)  # fmt: skip
_UNKNOWN = "–"


def document_of(rows: Sequence[Row], *, namespace: str, at: float, seconds: float, notes: Sequence[str]) -> Manifest:
    """For programs, under KEYS."""
    return {
        "namespace": namespace,
        "time": datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
        "intervalSeconds": round(seconds, 3),
        "pods": [_document(row) for row in rows],
        "notes": [one_line(note) for note in notes],
    }


def _document(row: Row) -> dict[str, Any]:
    figures = row.figures
    return {
        "deployment": row.deployment,
        "role": row.pod.role.value,
        "name": row.pod.ref.name,
        "ready": row.pod.is_ready,
        "running": figures.running,
        "waiting": figures.waiting,
        "tokensPerSecond": _rounded(figures.tokens_per_second),
        "firstTokenSeconds": latency_of(figures.first_token),
        "outputTokenSeconds": latency_of(figures.output_token),
        "acceptance": _rounded(figures.acceptance),
        "kvUsage": _rounded(figures.kv_usage),
        "busy": _rounded(figures.busy),
        "trouble": row.trouble,
    }


def table(rows: Sequence[Row], *, paint: Paint, notes: Sequence[str] = ()) -> list[str]:
    """Lines: each deployment with its pods, verifiers first, and what more than one of them do together."""
    lines: list[tuple[Row | None, tuple[str, ...]]] = []
    for deployment, found in groupby(rows, key=lambda row: row.deployment):
        mine = list(found)
        lines += [(row, (f"  {row.pod.ref.name}", *_cells(row.figures))) for row in mine]
        verifiers = [row for row in mine if row.pod.role is Role.VERIFIER]
        lines.insert(
            len(lines) - len(mine), (None, (deployment, *(_cells(total_of(verifiers)) if len(verifiers) > 1 else ())))
        )
    width = [max(map(len, column)) for column in zip(HEADER, *(_padded(cells) for _, cells in lines), strict=True)]
    shown = [paint(_aligned(HEADER, width), BOLD)] if lines else []
    for row, cells in lines:
        text = _aligned(cells, width)
        shown.append(_coloured(text, row.pod, paint) if row else paint(text, BOLD))
        if row and row.trouble:
            shown.append(paint(f"    {row.trouble}", YELLOW))
    return [*shown, *(paint(one_line(note), YELLOW) for note in notes)]


def _coloured(text: str, pod: PodFacts, paint: Paint) -> str:
    if pod.is_going or pod.is_over:
        return paint(text, DIM)
    return text.replace(pod.ref.name, paint(pod.ref.name, GREEN if pod.is_ready else RED), 1)


def _cells(figures: Figures) -> Iterator[str]:
    yield _number(figures.running, 0)
    yield _number(figures.waiting, 0)
    yield _number(figures.tokens_per_second, 1)
    for found in (figures.first_token, figures.output_token):
        yield from _latency(found)
    for share in (figures.acceptance, figures.kv_usage, figures.busy):
        yield _UNKNOWN if share is None else f"{share * 100:.0f} %"


def _latency(found: Distribution) -> Iterator[str]:
    told = latency_of(found)
    for seconds in (told["mean"], told["p95"]):
        if seconds is None:
            yield _UNKNOWN
        else:
            yield f"{seconds:.2f} s" if seconds >= 1 else f"{seconds * 1000:.3g} ms"


def _number(value: float | None, digits: int) -> str:
    return _UNKNOWN if value is None else f"{value:.{digits}f}"


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)


def _padded(cells: Sequence[str]) -> tuple[str, ...]:
    return (*cells, *[""] * (len(HEADER) - len(cells)))


def _aligned(cells: Sequence[str], width: Sequence[int]) -> str:
    first, *others = _padded(cells)
    numbers = (cell.rjust(size) for cell, size in zip(others, width[1:], strict=True))
    return "  ".join([first.ljust(width[0]), *numbers]).rstrip()
