"""Alerts with one part turned around, which a case of `alerts.py` has to notice. Knows PromQL as the rules write it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

from deploy.grafana.rules import Alert

_MATCHER = re.compile(r'\w+(?:=|!=|=~|!~)"[^"]*"(?:, )?')
_ALTERNATIVES = re.compile(r'(?<=~")[^"]*\|[^"]*(?=")')
_NUMBER = re.compile(r"(?<=[ (])\d+(?:\.\d+)?(?=[),]|$| (?![+-]))")
_LIMIT = re.compile(r"\d+\.\d+|[3-9]|\d{2,}")
_WINDOW = re.compile(r"(?<=\[)(\d+)([mhd])(?=\])")
_OPERATOR = re.compile(r" (?:and|or|unless) (?:on\([^)]*\) )?")
_LASTING = re.compile(r"(\d+)([mh])")


@dataclass(frozen=True)
class Mutant:
    """`change`: what was done to the alert."""

    alert: Alert
    change: str

    def __str__(self) -> str:
        return f"{self.alert.name}, {self.alert.severity}: {self.change}"


def mutants(alert: Alert) -> Iterator[Mutant]:
    """Each of them differs in one part of the expression, or waits for another time."""
    for begin, end, text in (*_parts(alert.expression), *_operands(alert.expression)):
        was = alert.expression[begin:end]
        expression = alert.expression[:begin] + text + alert.expression[end:]
        if _LIMIT.fullmatch(was):  # two windows have one limit
            expression = re.sub(rf"(?<=[ (]){re.escape(was)}(?=[ ),]|$)", text, alert.expression)
        told = f"{alert.expression[max(0, begin - 30) : begin]}[{was}] -> {text or 'nothing'}"
        yield Mutant(replace(alert, expression=expression), told)
    found = _LASTING.fullmatch(alert.lasts)
    assert found, alert.lasts
    longer = f"{2 * int(found[1])}{found[2]}"
    for lasts in ("5m",) if alert.lasts == "0m" else ("0m", longer):
        yield Mutant(replace(alert, lasts=lasts), f"for {alert.lasts} -> {lasts}")


def _parts(expression: str) -> Iterator[tuple[int, int, str]]:
    """A matcher or one of its alternatives is left out, a number or a window is another one."""
    for found in _MATCHER.finditer(expression):
        yield *found.span(), ""
    for found in _ALTERNATIVES.finditer(expression):
        every = found[0].split("|")
        for left_out in every:
            yield *found.span(), "|".join(each for each in every if each != left_out)
    for found in _NUMBER.finditer(expression):  # not what something is added to or taken from
        number = float(found[0])
        for other in (number - 1, number + 1) if number in (0, 1, 2) else (number * 0.8, number * 1.2):
            yield *found.span(), f"{other:g}"
    for found in _WINDOW.finditer(expression):
        shorter = f"{8 * int(found[1])}h" if found[2] == "d" else f"{int(found[1]) // 3}{found[2]}"
        for other in (f"{3 * int(found[1])}{found[2]}", shorter):
            yield *found.span(), other


def _operands(expression: str) -> Iterator[tuple[int, int, str]]:
    """One of the vectors that operators join is left out, within the parentheses that they are in."""
    levels: dict[int, list[re.Match[str]]] = {}
    for found in _OPERATOR.finditer(expression):
        levels.setdefault(_begin(expression, found.start()), []).append(found)
    for begin, operators in levels.items():
        yield begin, operators[0].end(), ""
        for found, following in zip(operators, [*operators[1:], None], strict=True):
            yield found.start(), following.start() if following else _end(expression, found.end()), ""


def _begin(expression: str, at: int) -> int:
    """Where the parentheses around this place begin, or the expression does."""
    depth = 0
    for position in range(at - 1, -1, -1):
        depth += {")": 1, "(": -1}.get(expression[position], 0)
        if depth < 0:
            return position + 1
    return 0


def _end(expression: str, at: int) -> int:
    """Where they end."""
    depth = 0
    for position in range(at, len(expression)):
        depth += {"(": 1, ")": -1}.get(expression[position], 0)
        if depth < 0:
            return position
    return len(expression)
