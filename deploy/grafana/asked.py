"""Asks a Prometheus what a panel asks, with the dashboard's variables filled in as Grafana does."""

from __future__ import annotations

import json
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

LIMIT_SECONDS = 30


@dataclass(frozen=True)
class Line:
    """One series of an answer: its labels, its times and values. An instant answer has one of each."""

    labels: Mapping[str, str]
    times: tuple[float, ...]
    values: tuple[float, ...]


@dataclass(frozen=True)
class Prometheus:
    """Where it answers, and what the variables are: `namespace`, `deployment`, `__rate_interval`."""

    address: str
    variables: Mapping[str, str]

    def now(self, expression: str) -> list[Line]:
        """An instant vector; a scalar is one without labels. Raises OSError, with Prometheus' own words."""
        data = self._ask("query", {"query": self.filled(expression)})
        if data["resultType"] == "scalar":
            return [_line({}, [data["result"]])]
        return [_line(each["metric"], [each["value"]]) for each in data["result"]]

    def over(self, expression: str, *, begin: float, end: float, step: float) -> list[Line]:
        """Series over time, in seconds since the epoch. Raises as `now`."""
        span = {"start": f"{begin:.3f}", "end": f"{end:.3f}", "step": f"{step:.3f}"}
        data = self._ask("query_range", {"query": self.filled(expression), **span})
        return [_line(each["metric"], each["values"]) for each in data["result"]]

    def filled(self, expression: str) -> str:
        """The expression with the variables' values."""
        for name in sorted(self.variables, key=len, reverse=True):
            expression = expression.replace(f"${name}", self.variables[name])
        return expression

    def _ask(self, kind: str, parameters: Mapping[str, str]) -> Any:
        body = urllib.parse.urlencode(parameters).encode()
        request = urllib.request.Request(f"{self.address}/api/v1/{kind}", data=body)  # noqa: S310 -- as its user said
        try:
            with urllib.request.urlopen(request, timeout=LIMIT_SECONDS) as answer:  # noqa: S310
                return json.loads(answer.read())["data"]
        except urllib.error.HTTPError as error:
            with error:
                raise OSError(f"{parameters['query']}: {error.read().decode(errors='replace')}") from error


def _line(labels: Mapping[str, str], samples: list[list[Any]]) -> Line:
    return Line(labels, tuple(float(at) for at, _ in samples), tuple(float(value) for _, value in samples))
