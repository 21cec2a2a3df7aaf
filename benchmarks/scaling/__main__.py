"""`python -m benchmarks.scaling`: gates, a table of autoscalers and workloads, and what it says of ours.

An hour and more with three seeds and all trials of S1 to S5; 15 seconds with `--quick`.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.scaling import traces
from benchmarks.scaling.comparison import Row, line_of, row_of, rows_in, rows_of, run_of, table_of
from benchmarks.scaling.contestants import CONTESTANTS
from benchmarks.scaling.gates import Gate, gates, gates_beside, gates_in, written_gates
from benchmarks.scaling.pictures import draw
from benchmarks.scaling.verdicts import verdicts
from benchmarks.scaling.workloads import ALL, MAIN, Workload, stand_ins, traced

SEEDS = GATE_SEEDS = 5
ONE_KNOB = 0.8
"""Surge quantile of the additional row of S1: the only setting that is changed there."""


def main(arguments: Sequence[str]) -> int:
    """Run what is asked for and report it."""
    options = _parser().parse_args(arguments)
    try:
        earlier = rows_in(options.read) if options.read else []
        workloads = _workloads(options)
        contestants = [CONTESTANTS[name] for name in _names(options.controllers, tuple(CONTESTANTS), "controller")]
    except (ValueError, OSError) as error:
        sys.stderr.write(f"scaling: {error}\n")
        return 2
    seeds = range(1, (1 if options.quick else options.seeds) + 1)
    if options.read and not (options.workloads or options.controllers or options.trace or options.quick):
        print(_told(earlier))
        if (known := gates_beside(options.read)).exists():
            _tell_gates(gates_in(known))
        return 0
    asked = {(workload.name, contestant.name) for workload in workloads for contestant in contestants}
    earlier = [row for row in earlier if (row.workload, row.controller) not in asked]
    begin = time.monotonic()
    found = [] if options.trace else gates(range(1, (3 if options.quick else GATE_SEEDS) + 1))
    _tell_gates(found)
    if options.json and found and not options.quick:
        gates_beside(options.json).write_text(written_gates(found), encoding="utf-8")
    for sentence in stand_ins([workload.name for workload in workloads]):
        print(sentence)
    rows: list[Row] = []
    for workload in workloads:
        for contestant in contestants:
            tried = contestant.trials if workload in MAIN and not options.quick else ()
            for row in rows_of(workload, contestant, seeds=seeds, tried=tried):
                rows.append(row)
                print(f"  {line_of(row)}", file=sys.stderr, flush=True)
                _write([*earlier, *rows], options.json)  # each time: all of it takes an hour
            if contestant.name == "headroom" and workload.name == "S1":
                rows.append(row_of(workload, contestant, ONE_KNOB, role="one knob", seeds=seeds))
            if options.pictures:
                title = f"{workload.name}: {workload.title}, {contestant.name}"
                run = run_of(workload, contestant, contestant.default, seed=1)
                draw(run, title=title, path=options.pictures / f"{workload.name}-{contestant.name}.png")
    _write([*earlier, *rows], options.json)
    print()
    print(_told([*earlier, *rows]))
    print()
    print(verdict(found))
    print(f"seconds={time.monotonic() - begin:.0f}")
    return 0


def _tell_gates(found: Sequence[Gate]) -> None:
    for gate in found:
        print(f"{gate.name} {'holds' if gate.holds else 'DOES NOT HOLD'}: {gate.found}")


def verdict(found: Sequence[Gate]) -> str:
    """What the figures may be compared with."""
    if found and all(gate.holds for gate in found):
        return "All gates hold: figures of S1-staged may stand beside llm-d's published 95.8 % at 5.93 replicas."
    if not found:
        return "Gates were not computed: compare these figures only with each other."
    failed = ", ".join(gate.name for gate in found if not gate.holds)
    return f"{failed} does not hold: compare these figures only with each other, not with published ones."


def _told(rows: Sequence[Row]) -> str:
    return "\n".join([table_of(rows), "", *verdicts(rows)])


def _write(rows: Sequence[Row], path: Path | None) -> None:
    workloads, controllers = list(ALL), list(CONTESTANTS)

    def place(row: Row) -> tuple[int, int]:
        known = row.workload in ALL and row.controller in CONTESTANTS
        return (workloads.index(row.workload), controllers.index(row.controller)) if known else (len(ALL), 0)

    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps([row.data for row in sorted(rows, key=place)], indent=2) + "\n", encoding="utf-8")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scaling", description=__doc__)
    parser.add_argument("--trace", type=Path, help=f"a CSV with {','.join(traces.COLUMNS)}; only it is run then")
    parser.add_argument("--mean-rps", type=float, help="bring the trace to this mean rate, by copies or by leaving out")
    parser.add_argument("--json", type=Path, help="where the rows are written")
    parser.add_argument(
        "--read",
        type=Path,
        help="rows of an earlier run, which stay but for those that are run now; without anything to run: only told",
    )
    parser.add_argument(
        "--quick", action="store_true", help="one seed, no trials, and S1 alone unless others are named"
    )
    parser.add_argument("--workloads", help=f"of {','.join(ALL)}; `all` for all of them")
    parser.add_argument("--controllers", help=f"of {','.join(CONTESTANTS)}")
    parser.add_argument("--seeds", type=int, default=SEEDS, help="runs of each row")
    parser.add_argument("--pictures", type=Path, help="a folder for a picture of each pair's first seed")
    return parser


def _workloads(options: argparse.Namespace) -> list[Workload]:
    if options.trace:
        if options.mean_rps is not None and options.mean_rps <= 0:
            raise ValueError(f"--mean-rps (is {options.mean_rps}): must be above 0")
        return [traced(options.trace.stem, traces.read(options.trace), options.mean_rps)]
    usual = ("S1",) if options.quick else tuple(workload.name for workload in MAIN)
    asked = ",".join(ALL) if options.workloads == "all" else options.workloads
    names = _names(asked, usual, "workload", known=tuple(ALL))
    return [ALL[name] for name in names]


def _names(asked: str | None, usual: Sequence[str], what: str, *, known: Sequence[str] | None = None) -> Sequence[str]:
    if asked is None:
        return usual
    names = asked.split(",")
    for name in names:
        if name not in (known or usual):
            raise ValueError(f"{what} (is {name}): must be one of {', '.join(known or usual)}")
    return names


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
