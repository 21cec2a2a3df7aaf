"""Finds the phases of an engine's start in the lines that it logs. Pure: times are given by the caller.

vLLM reports no phases by itself. A line that it no longer logs costs the figures of that phase, nothing else.
"""

import re
from collections import defaultdict

from tandem_contracts.termination import Phase

TOTAL = "total"
_WEIGHTS_BEGIN = "Starting to load model"
_WEIGHTS_END = ("Loading weights took", "Model loading took")
_COMPILE_BEGIN = "Starting torch.compile"
_COMPILE_END = re.compile(
    r"^(?P<process>\(\w+(?: pid=\d+)?\))?.*\btorch\.compile\b.*\btook (?P<seconds>\d+(?:\.\d+)?) s"
)


class StartPhases:
    """The start of one engine, from its process to its first answer."""

    def __init__(self, started: float) -> None:
        """`started`: when the process was started, in seconds of any clock that all calls share."""
        self._started = started
        self._weights_began: float | None = None
        self._weights_ended: float | None = None
        self._is_compiling = False
        self._compile_seconds: defaultdict[str, float] = defaultdict(float)
        self._ready: float | None = None

    @property
    def current(self) -> Phase:
        """The phase that the engine is in, as far as its log tells."""
        if self._ready is not None:
            return Phase.SERVE
        if self._weights_began is None:
            return Phase.PROCESS
        if self._weights_ended is None:
            return Phase.WEIGHTS
        return Phase.COMPILE if self._is_compiling else Phase.WARM_UP

    @property
    def is_ready(self) -> bool:
        """Whether the engine has answered."""
        return self._ready is not None

    def see_line(self, line: str, now: float) -> None:
        """Takes note of a line of the engine's log."""
        if self._weights_began is None and _WEIGHTS_BEGIN in line:
            self.see_weights_begin(now)
        elif self._ready is None and any(text in line for text in _WEIGHTS_END):
            self.see_weights_end(now)
        elif self._ready is None and _COMPILE_BEGIN in line:
            self._is_compiling = True
        elif self._ready is None and (told := _COMPILE_END.search(line)):
            self._is_compiling = False
            self._compile_seconds[told["process"] or ""] += float(told["seconds"])

    def see_weights_begin(self, now: float) -> None:
        """Takes note that the first weights are being read."""
        self._weights_began = now

    def see_weights_end(self, now: float) -> None:
        """Takes note that weights have been read."""
        self._weights_ended = now

    def see_answer(self, now: float) -> None:
        """Takes note of the engine's first answer to a health check."""
        self._ready = now

    def durations_seconds(self) -> dict[str, float]:
        """The duration of every phase that is over and was seen, and of the whole start as `total`.

        Compiling lies within what is otherwise the warm-up, as the engine itself times it: several models one after
        the other in one process, several processes at once.
        """
        marks = [
            (Phase.PROCESS, self._started, self._weights_began),
            (Phase.WEIGHTS, self._weights_began, self._weights_ended),
            (Phase.WARM_UP, self._weights_ended, self._ready),
            (TOTAL, self._started, self._ready),
        ]
        durations = {str(name): end - begin for name, begin, end in marks if begin is not None and end is not None}
        if self._compile_seconds and Phase.WARM_UP in durations:
            compiled = min(max(self._compile_seconds.values()), durations[Phase.WARM_UP])
            durations[Phase.WARM_UP] -= compiled
            durations[Phase.COMPILE] = compiled
        return durations
