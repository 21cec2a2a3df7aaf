"""Picks the line that says why an engine ended out of the last lines of its log. Pure."""

import re
import signal
from collections.abc import Sequence

_PREFIX = r"^(?:\(\w+(?: pid=\d+)?\) )?(?:ERROR [^\]]*\] )?"
_EXCEPTION = re.compile(_PREFIX + r"(?P<text>(?:[A-Za-z_]\w*\.)*[A-Z]\w*(?:Error|Exception|Exit)(?:: .*)?)$")
_TRITON = re.compile(r"""^E\d{4} .*"failed to load '\w+' version \d+: (?:Internal: )?(?P<text>.*?)(?:\\n|"$)""")
_USAGE = re.compile(r"^\S+: error: (?P<text>.*)$")
_CONTINUATION = re.compile(_PREFIX + r"(?P<text>  \S.*)$")
_CONTINUATION_LINES = 4
_CONSEQUENCES = (
    "Engine core initialization failed",
    "EngineDeadError",
    "WorkerProc initialization failed",
    "Executor failed",
)
"""What other processes of the engine say once the one with the cause has failed."""


def root_cause(lines: Sequence[str], exit_status: int) -> str:
    """The first exception among `lines` that is no consequence of another one, with the lines that explain it.

    `exit_status` as subprocess gives it; without any exception it says what is known: the signal or the code,
    and the last line.
    """
    consequence = ""
    for position, line in enumerate(lines):
        if match := _EXCEPTION.match(line) or _USAGE.match(line) or _TRITON.match(line):
            text = match["text"]
            if any(known in text for known in _CONSEQUENCES):
                consequence = consequence or text
            else:
                return "\n".join([text, *_explanation(lines[position + 1 :])])
    if consequence:
        return consequence
    last_line = next((line.strip() for line in reversed(lines) if line.strip()), "it logged nothing")
    return f"the engine {_ending(exit_status)}; its last line: {last_line}"


def _explanation(following: Sequence[str]) -> list[str]:
    explanation = []
    for line in following[:_CONTINUATION_LINES]:
        match = _CONTINUATION.match(line)
        if match is None:
            break
        explanation.append(match["text"].strip())
    return explanation


def _ending(exit_status: int) -> str:
    if exit_status >= 0:
        return f"exited with {exit_status}"
    name = signal.Signals(-exit_status).name
    return f"was ended by {name}" + (" (out of memory?)" if name == "SIGKILL" else "")
