"""Entry point of `tandem` and `kubectl tandem`."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from tandem_contracts.launch import Role
from tandem_operator import __version__
from tandem_operator.cli.accelerators import run_accelerators
from tandem_operator.cli.connection import Connection
from tandem_operator.cli.inputs import CommandError
from tandem_operator.cli.plan import run_plan
from tandem_operator.cli.revisions import run_refresh, run_rollback
from tandem_operator.cli.status import Paint, run_status
from tandem_operator.cli.why import run_why


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command. Exit code 1: the input is wrong, and standard error says how; 2: there is no such resource.

    `status` also exits with 1 when the resource is not Ready.
    """
    options = _parser().parse_args(arguments)
    try:
        answer, exit_code = _answer(options)
        _print(answer)
    except CommandError as error:
        sys.stderr.write(f"tandem: {error}\n")
        return error.exit_code
    except BrokenPipeError:
        return 0  # `tandem plan … | head`
    except OSError as error:
        sys.stderr.write(f"tandem: standard output: {error}\n")
        return 1
    return exit_code


def _print(answer: str) -> None:
    """What the terminal's encoding has no sign for is escaped."""
    encoding = sys.stdout.encoding or "utf-8"
    sys.stdout.write(answer.encode(encoding, "backslashreplace").decode(encoding))
    sys.stdout.flush()


def _answer(options: argparse.Namespace) -> tuple[str, int]:
    """What is printed, and the exit code."""
    if options.command == "plan":
        given = {Role.VERIFIER: options.model, Role.DRAFT: options.draft_model}
        folders = {role: folder for role, folder in given.items() if folder is not None}
        filename, namespace = options.filename, options.namespace
        return run_plan(filename, namespace=namespace, config=options.config, model_folders=folders), 0
    if options.command == "accelerators":
        return run_accelerators(config=options.config), 0
    connection = Connection.open(kubeconfig=options.kubeconfig, context=options.context, namespace=options.namespace)
    if options.command == "status":
        paint = Paint(sys.stdout.isatty() and not os.environ.get("NO_COLOR"))
        return run_status(connection, options.name, now=datetime.now(UTC), paint=paint)
    if options.command == "why":
        return run_why(connection, options.name, now=datetime.now(UTC)), 0
    if options.command == "refresh":
        return run_refresh(connection, options.name), 0
    return run_rollback(connection, options.name, role=Role(options.role), revision=options.to), 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="tandem", description="Look at LLMDeployments, and do what kubectl has no word for."
    )
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
    plan.add_argument("--model", type=Path, metavar="DIR", help="folder of the verifier's model, for sizing and speed")
    plan.add_argument("--draft-model", type=Path, metavar="DIR", help="folder of the draft's model")
    plan.add_argument("--config", type=Path, help="the operator's configuration file; omitted: its defaults")
    table = commands.add_parser(
        "accelerators",
        help="list the accelerator classes that a resource may name; needs no cluster",
        description="List the accelerator classes that a resource may name: memory, bandwidth and dense bf16 compute "
        "of one, price in US dollars. Needs no cluster.",
    )
    table.add_argument("--config", type=Path, help="the operator's configuration file; omitted: its defaults")
    _on_a_resource(commands, "status", "show a resource with its causes, revisions, pods and last cold start")
    _on_a_resource(commands, "why", "say why a resource has as many replicas as it has, and its last changes")
    _on_a_resource(commands, "refresh", "roll out what the operator's present defaults make of an unchanged spec")
    rollback = _on_a_resource(commands, "rollback", "ask again for what an earlier revision of a role was asked for")
    rollback.add_argument("--role", choices=[role.value for role in Role], default=Role.VERIFIER.value)
    rollback.add_argument("--to", metavar="REVISION", help="omitted: the newest other one that has not failed")
    return parser


def _on_a_resource(
    commands: argparse._SubParsersAction[argparse.ArgumentParser], name: str, purpose: str
) -> argparse.ArgumentParser:
    command = commands.add_parser(name, help=purpose, description=purpose[0].upper() + purpose[1:] + ".")
    command.add_argument("name", metavar="NAME", help="the LLMDeployment")
    command.add_argument("-n", "--namespace", help="omitted: the one of the context")
    command.add_argument("--kubeconfig", help="omitted: KUBECONFIG, else ~/.kube/config")
    command.add_argument("--context", help="omitted: the current one")
    return command


if __name__ == "__main__":
    sys.exit(main())
