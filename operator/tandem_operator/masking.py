"""What other programs write, made fit to be shown: on one line, without control characters, without secrets. Pure.

Conditions, events and log lines are read by more people than may read a Secret, and they quote messages of engines,
registries, the kubelet and the API server.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

MASK = "***"

_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-_])")
"""ANSI sequences: colours, cursor movement, titles."""
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u200b-\u200f\u202a-\u202e\u2066-\u2069\ufeff]+")
"""Among them newlines, and what turns the direction of text."""

CONFIDENTIAL = r"""
    (?: (?<!first)(?<!first[_-])(?<!output)(?<!output[_-])(?<!(?-i:Per))(?<![_-]per[_-]) token
      | secret | passw(?:or)?d | passphrase | authorization | (?: api | access | private )[_-]?key )
"""
"""How the name of a secret ends, verbose and whatever the case; latencies are named by tokens, too."""
CONFIDENTIALS = r"""
    (?: (?: access | api | auth | bearer | hf | hub | refresh | session )[_-]?tokens
      | passw(?:or)?ds | passphrases | (?: api | access | private )[_-]?keys )
"""
"""The same of several. `tokens` alone are a count."""

# Repetitions before what decides have a bound, so that no text, however hostile, takes quadratic time.
_IS = r"""\\{0,4} ["']? \s* [=:] \s*"""
_VALUE = r"""
    (?: (?P<opened> [bru]{0,2} \\{0,4} (?P<quote> ["'] ) ) (?P<quoted> (?: (?! \\{0,4} (?P=quote) ) . ){6,} )
      | (?P<plain> [^\s"'\\,;&[{(] [^\s"'\\,;&]{5,} ) )
"""
"""Quotes may be escaped, or Python's: a log quotes what is quoted."""
_NAMED = tuple(
    re.compile(pattern, re.IGNORECASE | re.VERBOSE)
    for pattern in (
        # name=value, "name": "value"
        rf"""(?P<kept> (?: {CONFIDENTIAL} | {CONFIDENTIALS} ) {_IS} )
             (?! \\{{0,4}} ["']? (?:Bearer|Basic)\s ) {_VALUE}""",
        # --name value; '--name', 'value'
        rf"""(?P<kept> (?<![\w-]) --? [\w-]{{0,40}} (?: {CONFIDENTIAL} | {CONFIDENTIALS} )
               (?: \\{{0,4}} ["']? \s* , \s* | \s+ ) )
             (?! \\{{0,4}} ["']? - ) {_VALUE}""",
        # 'name': ['value']; {"names": {"of-one": "value"}}
        rf"""(?P<kept>
               (?: (?: {CONFIDENTIAL} | {CONFIDENTIALS} | secrets ) {_IS} [\[(]
                 | (?: {CONFIDENTIALS} | secrets ) {_IS} \{{ ) )
             (?P<plain> [^\])}}]{{3,}} )""",
        # with which anybody may read an address: of S3, of Google's and of Azure's store
        r"""(?P<kept> X-(?:Amz|Goog)-(?:Signature|Security-Token) (?: = | %3D ) | (?<= [?&] ) Signature = )
            (?P<plain> [^\s"'\\&]{6,} )""",
        r"(?P<kept> (?<![\w-]) sig (?: = | %3D ) ) (?P<plain> [\w%+/=-]{20,} )",
        # in which a session is
        r"(?P<kept> (?<![\w-]) (?:Set-)?Cookie \s* : \s* ) (?P<plain> .{6,} )",
    )
)
_LOOKS = (
    (re.compile(r"\bhf_[A-Za-z0-9]{16,}"), MASK),
    (re.compile(r"\b(?:AKIA|ASIA)[A-Z0-9]{12,}"), MASK),
    (re.compile(r"\bgh[pousr]_[A-Za-z0-9]{16,}"), MASK),
    (re.compile(r"\bgithub_pat_\w{16,}"), MASK),
    (re.compile(r"\b(?:glpat|nvapi|xox[abprs])-[\w-]{16,}"), MASK),
    # Names of Kubernetes may begin like that, too, but have no capital letters, and a '-' more often.
    (re.compile(r"\bsk-(?=[\w-]{0,100}[A-Z])[\w-]{16,}"), MASK),
    (re.compile(r"\bsk-(?:[a-z0-9]{1,8}-){0,2}[a-z0-9_]{20,}[\w-]*"), MASK),
    (re.compile(r"\beyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]*"), MASK),
    (re.compile(r"\b(Bearer|Basic)\s+[\w.~+/=-]{8,}", re.IGNORECASE), rf"\1 {MASK}"),
    (re.compile(r"\b([a-z][a-z0-9+.-]{0,20}://)[^/\s@\"']{1,400}@", re.IGNORECASE), rf"\1{MASK}@"),
)


def masked(text: str) -> str:
    """The text with everything that looks like a credential replaced."""
    for pattern, replacement in _LOOKS:
        text = pattern.sub(replacement, text)
    for pattern in _NAMED:
        text = pattern.sub(_without_value, text)
    return text


def named_values(text: str) -> Iterator[str]:
    """What stands in a text under the name of a secret, such as behind `--api-key`."""
    for pattern in _NAMED:
        for found in pattern.finditer(text):
            parts = found.groupdict()
            yield parts.get("quoted") or parts["plain"]


def _without_value(found: re.Match[str]) -> str:
    return f"{found['kept']}{found.groupdict().get('opened') or ''}{MASK}"


def masked_lines(text: str) -> str:
    """Several lines, each masked and without control characters; how far they are indented stays."""
    return "\n".join(masked(_CONTROL.sub(" ", _ESCAPES.sub("", line))) for line in text.splitlines())


def one_line(text: str) -> str:
    """The text on one line, masked; runs of spaces and control characters become one space."""
    plain = _CONTROL.sub(" ", _ESCAPES.sub("", text))
    return masked(re.sub(r" {2,}", " ", plain).strip())
