"""What other programs write, made fit to be shown: on one line, without control characters, without secrets. Pure.

Conditions, events and log lines are read by more people than may read a Secret, and they quote messages of engines,
registries, the kubelet and the API server.
"""

from __future__ import annotations

import re

MASK = "***"

_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-_])")
"""ANSI sequences: colours, cursor movement, titles."""
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u200b-\u200f\u202a-\u202e\u2066-\u2069\ufeff]+")
"""Among them newlines, and what turns the direction of text."""

# Repetitions before what decides have a bound, so that no text, however hostile, takes quadratic time.
_SECRETS = (
    (re.compile(r"\bhf_[A-Za-z0-9]{16,}"), MASK),
    (re.compile(r"\b(?:AKIA|ASIA)[A-Z0-9]{12,}"), MASK),
    (re.compile(r"\bgh[pousr]_[A-Za-z0-9]{16,}"), MASK),
    # Names of Kubernetes may begin like that, too, but have no capital letters.
    (re.compile(r"\b(?:sk|glpat|xox[abprs])-(?=[\w-]{0,100}[A-Z])[\w-]{16,}"), MASK),
    (re.compile(r"\beyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]*"), MASK),
    (re.compile(r"\b(Bearer|Basic)\s+[\w.~+/=-]{8,}", re.IGNORECASE), rf"\1 {MASK}"),
    (re.compile(r"\b([a-z][a-z0-9+.-]{0,20}://)[^/\s@\"']{1,400}@", re.IGNORECASE), rf"\1{MASK}@"),
    (
        re.compile(
            r"""(?ix)
            \b( [\w-]{0,40}
                (?: token | secret | passw(?:or)?d | authorization | api[-_]?key | access[-_]?key ) )
            ( ["']? \s* [=:] \s* ["']? )
            (?! (?:Bearer|Basic)\s ) [^\s"',;&]{6,}
            """
        ),
        rf"\1\2{MASK}",
    ),
)


def masked(text: str) -> str:
    """The text with everything that looks like a credential replaced."""
    for pattern, replacement in _SECRETS:
        text = pattern.sub(replacement, text)
    return text


def masked_lines(text: str) -> str:
    """Several lines, each masked and without control characters; how far they are indented stays."""
    return "\n".join(masked(_CONTROL.sub(" ", _ESCAPES.sub("", line))) for line in text.splitlines())


def one_line(text: str) -> str:
    """The text on one line, masked; runs of spaces and control characters become one space."""
    plain = _CONTROL.sub(" ", _ESCAPES.sub("", text))
    return masked(re.sub(r" {2,}", " ", plain).strip())
