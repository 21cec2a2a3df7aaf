"""What dashboards are made of, before it is anybody's format: the chart, the tests and the preview read the same."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

COLUMNS = 24
"""Of Grafana's grid."""


class Kind(Enum):
    """What a panel looks like."""

    SERIES = "timeseries"
    STAT = "stat"
    TABLE = "table"


@dataclass(frozen=True)
class Query:
    """PromQL, and what a line or a column is called; in a series' legend `{{label}}` stands for a label's value."""

    expression: str
    legend: str = ""


@dataclass(frozen=True)
class Panel:
    """One picture. `unit`: Grafana's name of one. In a table each query is a column, joined by the labels `rows`."""

    title: str
    description: str
    unit: str
    queries: tuple[Query, ...]
    kind: Kind = Kind.SERIES
    width: int = 8
    height: int = 7
    rows: tuple[str, ...] = ()
    units: tuple[str, ...] = ()
    """Of a table's columns, where they differ from `unit`."""
    highest: float | None = None
    """Of the axis, where that is known."""
    is_stacked: bool = False

    @property
    def heads(self) -> tuple[str, ...]:
        """Of the columns that name a table's rows: labels without what all of ours begin with."""
        return tuple(row.removeprefix("tandem_dev_") for row in self.rows)


@dataclass(frozen=True)
class Row:
    """Panels below a heading."""

    title: str
    panels: tuple[Panel, ...]


@dataclass(frozen=True)
class Mark:
    """A vertical line in every panel wherever the query is above 0. It is asked once a minute: a window of an increase
    is longer by a scrape or more, or what happens between two of them is in neither."""

    name: str
    expression: str
    text: str


@dataclass(frozen=True)
class Variable:
    """What a viewer chooses: a label's values in some series."""

    name: str
    label: str
    query: str
    has_all: bool = True


@dataclass(frozen=True)
class Dashboard:
    """One page. `uid` stays for ever: links have it."""

    uid: str
    title: str
    description: str
    variables: tuple[Variable, ...]
    rows: tuple[Row, ...]
    marks: tuple[Mark, ...] = ()

    def panels(self) -> Iterator[Panel]:
        """All of them, from the top."""
        for row in self.rows:
            yield from row.panels

    def expressions(self) -> Iterator[str]:
        """All that it asks Prometheus."""
        for panel in self.panels():
            yield from (query.expression for query in panel.queries)
        yield from (mark.expression for mark in self.marks)


def stat(title: str, expression: str, unit: str, description: str, *, width: int = 4) -> Panel:
    """One figure, now."""
    return Panel(title, description, unit, (Query(expression),), Kind.STAT, width=width, height=4)


def series(title: str, description: str, unit: str, *queries: tuple[str, str], width: int = 8, **look: object) -> Panel:
    """Lines over time: each query with its legend."""
    asked = tuple(Query(*query) for query in queries)
    return Panel(title, description, unit, asked, width=width, **look)  # type: ignore[arg-type]
