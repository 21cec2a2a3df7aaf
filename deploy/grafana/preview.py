"""`python -m deploy.grafana.preview --prometheus URL`: draw each dashboard by its own queries, as PNG files.

For whoever reviews a dashboard and has no Grafana: the same panels, queries, units and grid, in plain looks.
"""

from __future__ import annotations

import argparse
import math
import re
import sys
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.dates as mdates
from matplotlib import pyplot as plt
from matplotlib.ticker import FuncFormatter

from deploy.grafana.asked import Line, Prometheus
from deploy.grafana.parts import COLUMNS, Dashboard, Kind, Panel, Query
from deploy.grafana.written import DASHBOARDS

INCHES_A_COLUMN, INCHES_A_LINE, POINTS = 0.75, 0.42, 240
LEGENDS_SHOWN = 6
LONGEST_MINUTES = 366 * 24 * 60
_STEPS = ((1e9, "G"), (1e6, "M"), (1e3, "k"))


def main(arguments: list[str] | None = None) -> int:
    """Write one PNG a dashboard; tell where they are."""
    parser = argparse.ArgumentParser(prog="python -m deploy.grafana.preview", description=__doc__)
    parser.add_argument("--prometheus", required=True, metavar="URL")
    parser.add_argument("--namespace", default=".+", help="a regular expression; all by default")
    parser.add_argument("--deployment", default=".+", help="the same")
    parser.add_argument("--minutes", type=float, default=30.0, help="how far back")
    parser.add_argument("--out", type=Path, default=Path("dashboards"), metavar="FOLDER")
    options = parser.parse_args(arguments)
    if not re.match(r"https?://[^/]", options.prometheus):
        parser.error(f"--prometheus (is {options.prometheus}): must begin with http:// or https:// and name a host")
    if not 0 < options.minutes <= LONGEST_MINUTES:
        parser.error(f"--minutes (is {options.minutes:g}): must be above 0, and {LONGEST_MINUTES} at most")
    variables = {"namespace": options.namespace, "deployment": options.deployment, "__rate_interval": "1m"}
    prometheus = Prometheus(options.prometheus.rstrip("/"), variables)
    try:
        options.out.mkdir(parents=True, exist_ok=True)
        for dashboard in DASHBOARDS:
            file = options.out / f"{dashboard.uid}.png"
            draw(dashboard, prometheus, seconds=60 * options.minutes, file=file)
            sys.stdout.write(f"{file}\n")
    except OSError as error:
        sys.stderr.write(f"{options.prometheus}: {error}\n")
        return 1
    return 0


def draw(dashboard: Dashboard, prometheus: Prometheus, *, seconds: float, file: Path) -> None:
    """The whole dashboard, of the last so many seconds. Raises OSError where Prometheus refuses a query."""
    places, lines = _places(dashboard)
    figure = plt.figure(figsize=(COLUMNS * INCHES_A_COLUMN, lines * INCHES_A_LINE), facecolor="white")
    figure.suptitle(dashboard.title, x=0.01, y=1 - 0.3 / lines, ha="left", va="top", fontsize=15, weight="bold")
    end = time.time()
    for title, y in places.headings:
        figure.text(0.01, 1 - (y + 0.7) / lines, title, fontsize=11, weight="bold", color="#555555")
    for panel, x, y in places.panels:
        box = _box(panel, x, y, lines)
        axes = figure.add_axes(box)
        _DRAWERS[panel.kind](axes, panel, prometheus, end - seconds, end)
        axes.set_title(panel.title, loc="left", fontsize=9)
    figure.savefig(file, dpi=72)
    plt.close(figure)


class _Places:
    def __init__(self) -> None:
        self.headings: list[tuple[str, float]] = []
        self.panels: list[tuple[Panel, float, float]] = []


def _places(dashboard: Dashboard) -> tuple[_Places, float]:
    """Where each panel is, from the top left, in columns and lines of the grid, and how many lines there are."""
    places, y = _Places(), 1.5
    for row in dashboard.rows:
        places.headings.append((row.title, y))
        y += 1
        x = height = 0
        for panel in row.panels:
            if x + panel.width > COLUMNS:
                x, y, height = 0, y + height, 0
            places.panels.append((panel, x, y))
            x, height = x + panel.width, max(height, panel.height)
        y += height
    return places, y


def _box(panel: Panel, x: float, y: float, lines: float) -> tuple[float, float, float, float]:
    left, below, above = (0.9 if panel.kind is Kind.SERIES else 0.2), (1.9 if panel.kind is Kind.SERIES else 0.3), 1.1
    width, height = panel.width - left - 0.3, panel.height - below - above
    return ((x + left) / COLUMNS, 1 - (y + panel.height - below) / lines, width / COLUMNS, height / lines)


def _series(axes: Any, panel: Panel, prometheus: Prometheus, begin: float, end: float) -> None:
    drawn, tallest, step = 0, 0.0, (end - begin) / POINTS
    for query in panel.queries:
        for line in prometheus.over(query.expression, begin=begin, end=end, step=step):
            samples = with_gaps(line, step)
            times = [datetime.fromtimestamp(at, UTC) for at, _ in samples]
            label = _legend(query, line) if drawn < LEGENDS_SHOWN else None
            axes.plot(times, [value for _, value in samples], linewidth=1.2, label=label)
            drawn, tallest = drawn + 1, max([tallest, *filter(math.isfinite, line.values)])
    axes.set_xlim(datetime.fromtimestamp(begin, UTC), datetime.fromtimestamp(end, UTC))
    axes.xaxis.set_major_formatter(mdates.DateFormatter("%H:%M"))  # type: ignore[no-untyped-call]
    axes.xaxis.set_major_locator(mdates.AutoDateLocator(maxticks=6))  # type: ignore[no-untyped-call]
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: shown(value, panel.unit)))
    axes.set_ylim(bottom=0, top=1.05 * (panel.highest or tallest or 1))
    axes.tick_params(labelsize=7, colors="#666666")
    axes.grid(visible=True, linewidth=0.3)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    if drawn:
        axes.legend(fontsize=6.5, loc="upper left", bbox_to_anchor=(0, -0.14), ncol=3, frameon=False)
    else:
        axes.text(0.5, 0.5, "no data", ha="center", va="center", transform=axes.transAxes, color="#aa0000", fontsize=9)


def with_gaps(line: Line, step: float) -> list[tuple[float, float]]:
    """Times and values, with NaN where more than a step has no sample: nothing is drawn across what nobody knows."""
    samples: list[tuple[float, float]] = []
    for at, value in zip(line.times, line.values, strict=True):
        if samples and at - samples[-1][0] > 1.5 * step:
            samples.append((samples[-1][0] + step, math.nan))
        samples.append((at, value))
    return samples


def _stat(axes: Any, panel: Panel, prometheus: Prometheus, _begin: float, _end: float) -> None:
    axes.set_axis_off()
    lines = prometheus.now(panel.queries[0].expression)
    text = shown(lines[0].values[0], panel.unit) if lines else "–"
    axes.text(0.5, 0.4, text, ha="center", va="center", transform=axes.transAxes, fontsize=20, color="#1f60c4")


def _table(axes: Any, panel: Panel, prometheus: Prometheus, _begin: float, _end: float) -> None:
    axes.set_axis_off()
    rows: dict[tuple[str, ...], dict[str, str]] = {}
    for query, unit in zip(panel.queries, panel.units, strict=True):
        for line in prometheus.now(query.expression):
            row = rows.setdefault(tuple(line.labels.get(name, "") for name in panel.rows), {})
            row[query.legend] = shown(line.values[0], unit)
    heads = [*panel.heads, *(query.legend for query in panel.queries)]
    cells = [[*names, *(row.get(head, "–") for head in heads[len(names) :])] for names, row in sorted(rows.items())]
    if not cells:
        axes.text(0.5, 0.5, "no data", ha="center", va="center", transform=axes.transAxes, color="#aa0000")
        return
    made = axes.table(cellText=cells, colLabels=heads, loc="upper left", cellLoc="left", edges="horizontal")
    made.auto_set_font_size(False)  # noqa: FBT003 -- matplotlib's own
    made.set_fontsize(8)
    made.auto_set_column_width(list(range(len(heads))))


_DRAWERS = {Kind.SERIES: _series, Kind.STAT: _stat, Kind.TABLE: _table}


def _legend(query: Query, line: Line) -> str:
    told = re.sub(r"\{\{\s*(\w+)\s*\}\}", lambda found: line.labels.get(found[1], ""), query.legend)
    return re.sub(r"(?=\S{17,})\w+(-\w+)+", lambda found: f"…{found[0][-6:]}", told).strip() or "none"


def shown(value: float, unit: str) -> str:
    """A figure with its unit, as short as Grafana's."""
    if math.isnan(value):
        return "–"
    makers: Mapping[str, Any] = {
        "percentunit": lambda: f"{100 * value:.1f} %",
        "bool_yes_no": lambda: "Yes" if value else "No",
        "currencyUSD": lambda: f"${value:.2f}",
        "s": lambda: _seconds(value),
        "bytes": lambda: f"{_scaled(value)}B",
        "reqps": lambda: f"{_scaled(value)} req/s",
        "ops": lambda: f"{_scaled(value)} ops/s",
    }
    return str(makers.get(unit, lambda: _scaled(value))())


def _seconds(value: float) -> str:
    if abs(value) < 1e-3 and value:
        return f"{1e6 * value:.3g} µs"
    if abs(value) < 1 and value:
        return f"{1e3 * value:.3g} ms"
    return f"{value:.3g} s" if abs(value) < 120 else f"{value / 60:.3g} min"


def _scaled(value: float) -> str:
    for size, letter in _STEPS:
        if abs(value) >= size:
            return f"{value / size:.3g} {letter}"
    return f"{value:.3g}" if value != int(value) else str(int(value))


if __name__ == "__main__":
    sys.exit(main())
