"""`tandem accelerators`: the classes that a resource may name, with their figures. No cluster, no network."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from tandem_operator.accelerators import SPOT_SUFFIX, AcceleratorClass
from tandem_operator.cli.inputs import configuration_in

HEADER = ("CLASS", "ASKED AS", "GiB", "GB/s", "TFLOPS", "$/h", "CAPACITY", "VERIFIER METHODS")
NUMBERS = slice(2, 6)


def run_accelerators(*, config: Path | None) -> str:
    """The table under the operator's configuration file, as text. Raises CommandError for a wrong configuration."""
    _, table = configuration_in(config)
    shown = [line for name, line in table.items() if name.removesuffix(SPOT_SUFFIX) not in table.keys() - {name}]
    rows = [HEADER, *(_row(line, has_twin=line.name + SPOT_SUFFIX in table) for line in shown)]
    note = f"Each class with capacity OnDemand|Spot is also there as NAME{SPOT_SUFFIX}, on spot nodes only.\n"
    return "".join(_aligned(rows)) + (note if len(shown) < len(table) else "")


def _row(line: AcceleratorClass, *, has_twin: bool) -> tuple[str, ...]:
    figures = (line.memory_gib, line.bandwidth_gb_per_second, line.teraflops)
    return (
        line.name,
        line.asked_as,
        *(f"{figure:.4g}" if figure else "-" for figure in figures),
        line.price_per_hour or "-",
        f"{line.capacity}|Spot" if has_twin else line.capacity.value,
        ", ".join(line.methods) or "none",
    )


def _aligned(rows: Sequence[Sequence[str]]) -> Iterable[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    numbers = range(*NUMBERS.indices(len(widths)))
    for row in rows:
        cells = [
            cell.rjust(width) if at in numbers else cell.ljust(width)
            for at, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        yield "  ".join(cells).rstrip() + "\n"
