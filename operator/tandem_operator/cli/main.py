"""Entry point of `tandem` and `kubectl tandem`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from tandem_operator import __version__
from tandem_operator.cli.plan import PlanError, run_plan


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command. Exit code 1: the input is wrong, and standard error says how."""
    options = _parser().parse_args(arguments)
    try:
        sys.stdout.write(run_plan(options.filename, namespace=options.namespace, config=options.config))
    except PlanError as error:
        sys.stderr.write(f"tandem: {error}\n")
        return 1
    except BrokenPipeError:
        return 0  # `tandem plan … | head`
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="tandem", description="Look at LLMDeployments: what they would create.")
    parser.add_argument("--version", action="version", version=f"tandem {__version__}")
    commands = parser.add_subparsers(dest="command", required=True)
    plan = commands.add_parser(
        "plan",
        help="print every object that a resource would create; needs no cluster",
        description="Print every object that the LLMDeployments of a file would create, as YAML, with the reasons as "
        "comments. Needs no cluster.",
    )
    plan.add_argument("-f", "--filename", required=True, help="YAML file with LLMDeployments; - for standard input")
    plan.add_argument("-n", "--namespace", default="default", help="namespace of resources that name none")
    plan.add_argument("--config", type=Path, help="the operator's configuration file; omitted: its defaults")
    return parser


if __name__ == "__main__":
    sys.exit(main())
