"""`tandem accelerators`: the classes that a resource may name, with their figures. No cluster, no network."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from pathlib import Path

from tandem_operator.accelerators import SPOT_SUFFIX, AcceleratorClass
from tandem_operator.cli.command import Command, with_config, with_output, written
from tandem_operator.cli.inputs import configuration_in
from tandem_operator.cli.screen import BOLD, PLAIN, Paint, Screen
from tandem_operator.facts import Manifest

HEADER = ("CLASS", "ASKED AS", "GiB", "GB/s", "TFLOPS", "$/h", "CAPACITY", "VERIFIER METHODS")
NUMBERS = slice(2, 6)


KEYS = {
    "classes[].name": "as a resource names it; NAME-spot is the same on spot nodes only",
    "classes[].askedAs": "resource of a pod, or claim",
    "classes[].memoryGiB": "of one; null: not known, as with the other figures",
    "classes[].bandwidthGBPerSecond": "of that memory",
    "classes[].teraflops": "dense bf16",
    "classes[].pricePerHour": "US dollars, as a text",
    "classes[].capacity": "OnDemand, Spot or Any",
    "classes[].methods": "speculation methods that a verifier on it can run",
}


def _add_arguments(command: argparse.ArgumentParser) -> None:
    with_config(command)
    with_output(command)


def _run(options: argparse.Namespace, screen: Screen) -> int:
    if options.output:
        screen.write(written(document_of(config=options.config), options.output))
    else:
        screen.write(run_accelerators(config=options.config, paint=screen.paint))
    return 0


ACCELERATORS = Command(
    "list the accelerator classes that a resource may name; needs no cluster",
    _run,
    add_arguments=_add_arguments,
    description="List the accelerator classes that a resource may name: memory, bandwidth and dense bf16 compute of "
    "one, price in US dollars. Needs no cluster.",
    keys=KEYS,
)


def document_of(*, config: Path | None) -> Manifest:
    """The table for programs, spot classes included. Raises CommandError for a wrong configuration."""
    _, table = configuration_in(config)
    return {
        "classes": [
            {
                "name": name,
                "askedAs": line.asked_as,
                "memoryGiB": line.memory_gib or None,
                "bandwidthGBPerSecond": line.bandwidth_gb_per_second or None,
                "teraflops": line.teraflops or None,
                "pricePerHour": line.price_per_hour or None,
                "capacity": line.capacity.value,
                "methods": [method.value for method in line.methods],
            }
            for name, line in table.items()
        ]
    }


def run_accelerators(*, config: Path | None, paint: Paint = PLAIN) -> str:
    """The table under the operator's configuration file, as text. Raises CommandError for a wrong configuration."""
    _, table = configuration_in(config)
    shown = [line for name, line in table.items() if name.removesuffix(SPOT_SUFFIX) not in table.keys() - {name}]
    rows = [HEADER, *(_row(line, has_twin=line.name + SPOT_SUFFIX in table) for line in shown)]
    note = f"Each class with capacity OnDemand|Spot is also there as NAME{SPOT_SUFFIX}, on spot nodes only.\n"
    head, *lines = _aligned(rows)
    return "".join([paint(head.rstrip(), BOLD) + "\n", *lines]) + (note if len(shown) < len(table) else "")


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
