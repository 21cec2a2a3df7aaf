"""How far a Job's program is, on its pod's metrics port, where the operator and Prometheus read it."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from prometheus_client import CollectorRegistry, Gauge, start_http_server

from tandem_contracts.metrics import ARTIFACT_DONE, ARTIFACT_SECONDS, ARTIFACT_TOTAL


class Progress:
    """One step after the other, each with a number of parts that are done. To be used from several threads."""

    def __init__(self, *, port: int = 0) -> None:
        """Serves the figures where `port` is not 0. Raises OSError where it cannot."""
        registry = CollectorRegistry()
        self._done = Gauge(ARTIFACT_DONE, "Parts of the step that are done.", ["step"], registry=registry)
        self._total = Gauge(ARTIFACT_TOTAL, "Parts of the step.", ["step"], registry=registry)
        self._seconds = Gauge(ARTIFACT_SECONDS, "Time since the step began.", ["step"], registry=registry)
        if port:
            start_http_server(port, registry=registry)

    def begin(self, step: str, total: float) -> None:
        """The step goes on from here, with nothing done yet; the ones before it are over."""
        self._done.clear()
        self._total.clear()
        self._seconds.clear()
        begun = time.monotonic()
        self._seconds.labels(step).set_function(lambda: time.monotonic() - begun)
        self.show(step, lambda: 0.0, total)

    def show(self, step: str, done: Callable[[], float], total: float) -> None:
        """The step has so many parts, and `done` says how many of them are done."""
        self._done.labels(step).set_function(done)
        self._total.labels(step).set(total)


@contextmanager
def bars_followed(progress: Progress, step: str) -> Iterator[None]:
    """Take llm-compressor's progress bars for the step's progress: it says how far it is in no other way.

    Its sequential pipeline has two bars for each group of layers, `(2/33): Calibrating` and `Propagating`; without a
    model it has one over all files.
    """
    from tqdm import std

    begin = std.tqdm.__init__

    def began(bar: Any, *arguments: Any, **options: Any) -> None:
        begin(bar, *arguments, **options)
        text = str(getattr(bar, "desc", "") or "")
        group = _GROUP.match(text)
        if group:
            done = float(group[1]) - 1
            progress.show(step, lambda: done, float(group[2]))
        elif text.startswith("Quantizing"):
            progress.show(step, lambda: float(bar.n), float(bar.total or 0))

    std.tqdm.__init__ = began
    try:
        yield
    finally:
        std.tqdm.__init__ = begin


_GROUP = re.compile(r"\((\d+)/(\d+)\): ")
