"""What pods say of themselves while they are asked: memory, KV cache, and tokens that were drafted and taken.

A pod that does not answer, or not with such a figure, is no zero: what is known of the others counts.
"""

from __future__ import annotations

import threading
import urllib.error
import urllib.request
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from prometheus_client.parser import text_string_to_metric_families

from tandem_contracts import metrics

INTERVAL_SECONDS = 2.0
ANSWER_LIMIT_SECONDS = 5.0
READS_AT_ONCE = 8


@dataclass(frozen=True)
class Reading:
    """Of one pod, at one moment; None: it did not say."""

    memory_bytes: float | None = None
    kv_usage: float | None = None
    drafted: float | None = None
    accepted: float | None = None


class Pods:
    """Reads verifiers and drafts again and again, from `start` until `stop`."""

    def __init__(self, verifiers: Iterable[str], drafts: Iterable[str], *, http_port: int, metrics_port: int) -> None:
        """Addresses, and the ports of vLLM's metrics and of the launcher's."""
        self._verifiers, self._drafts = tuple(verifiers), tuple(drafts)
        self._http_port, self._metrics_port = http_port, metrics_port
        self._readings: dict[str, list[Reading]] = {address: [] for address in (*self._verifiers, *self._drafts)}
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._go_on, name="pods", daemon=True)

    def start(self) -> None:
        """The first reading is there when this returns."""
        self._read()
        self._thread.start()

    def stop(self) -> None:
        """The last one is."""
        self._is_over.set()
        self._thread.join()
        self._read()

    def acceptance(self) -> float | None:
        """Share of the tokens drafted between the first and the last reading that verifiers took."""
        ends = [(found[0], found[-1]) for each in self._verifiers if (found := self._readings[each])]
        drafted = _sum((before.drafted, after.drafted) for before, after in ends)
        accepted = _sum((before.accepted, after.accepted) for before, after in ends)
        return accepted / drafted if drafted else None

    def kv_usage(self) -> float | None:
        """The most of any verifier, from 0 to 1."""
        return max((r.kv_usage for each in self._verifiers for r in self._readings[each] if r.kv_usage is not None),
                   default=None)  # fmt: skip

    def verifier_memory_bytes(self) -> int | None:
        """The most of any verifier."""
        return self._memory(self._verifiers)

    def draft_memory_bytes(self) -> int | None:
        """The most of any draft."""
        return self._memory(self._drafts)

    def _memory(self, pods: Iterable[str]) -> int | None:
        found = [r.memory_bytes for each in pods for r in self._readings[each] if r.memory_bytes is not None]
        return int(max(found)) if found else None

    def _go_on(self) -> None:
        while not self._is_over.wait(INTERVAL_SECONDS):
            self._read()

    def _read(self) -> None:
        asked = [(each, True) for each in self._verifiers] + [(each, False) for each in self._drafts]
        with ThreadPoolExecutor(READS_AT_ONCE) as pool:
            for (address, _), reading in zip(asked, pool.map(self._reading_of, asked), strict=True):
                self._readings[address].append(reading)

    def _reading_of(self, asked: tuple[str, bool]) -> Reading:
        address, is_verifier = asked
        own = self._page(address, self._metrics_port)
        engine = self._page(address, self._http_port) if is_verifier else ""
        return reading_in(f"{own}\n{engine}\n")

    def _page(self, address: str, port: int) -> str:
        host = f"[{address}]" if ":" in address else address
        try:
            with urllib.request.urlopen(f"http://{host}:{port}/metrics", timeout=ANSWER_LIMIT_SECONDS) as answer:
                return str(answer.read().decode(errors="replace"))
        except (urllib.error.URLError, OSError, ValueError):
            return ""


def reading_in(pages: str) -> Reading:
    """What the pages of one pod say."""
    return Reading(
        memory_bytes=_figure(pages, metrics.MEMORY_WORKING_SET),
        kv_usage=_figure(pages, metrics.ENGINE_KV_USAGE),
        drafted=_figure(pages, metrics.ENGINE_DRAFTED_TOKENS),
        accepted=_figure(pages, metrics.ENGINE_ACCEPTED_TOKENS),
    )


def _figure(pages: str, name: str) -> float | None:
    """The sum over its series; None without one."""
    lines = [line for line in pages.splitlines() if line.startswith((f"{name} ", f"{name}{{"))]
    try:
        families = list(text_string_to_metric_families("\n".join(lines) + "\n"))
    except ValueError:
        return None
    values = [sample.value for family in families for sample in family.samples]
    return sum(values) if values else None


def _sum(ends: Iterable[tuple[float | None, float | None]]) -> float:
    """How much counters have risen, of pods that told both ends and were not started anew."""
    return sum(after - before for before, after in ends if before is not None and after is not None and after >= before)
