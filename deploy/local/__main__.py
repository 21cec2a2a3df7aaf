"""The command line of the local cluster: `python -m deploy.local COMMAND`.

It parses and prints; `cluster.py` does the work.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from deploy.local.binaries import FURTHER_MODULES, MODULE_LIST, build, module_of
from deploy.local.cluster import Cluster
from deploy.local.errors import ClusterError
from deploy.local.kwok import NODE_CLASSES
from deploy.local.record import read_record

TOOLS = ("kubectl", "helm3", "helm4")
DEFAULT_CLASS = "nvidia-h100-80gb"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status: 0 done, 1 could not, 3 (status only) not running."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    cluster = Cluster()
    try:
        if given and given[0] in TOOLS:
            # argparse would take the tool's own options for ours.
            _become(cluster, given[0], given[1:])
        parsed = _parser().parse_args(given)
        match parsed.command:
            case "build":
                further = [module for module in FURTHER_MODULES if module.folder in parsed.further]
                build(cluster.layout, cluster.progress, modules=[*MODULE_LIST, *further])
            case "up":
                return _up(cluster, nodes=parsed.nodes, node_class=parsed.node_class)
            case "down":
                cluster.down()
            case "status":
                return _status(cluster)
            case "kubeconfig":
                print(cluster.kubeconfig)
            case "load-image":
                print("\n".join(cluster.load_image(parsed.archive)))
            case "add-nodes":
                print("\n".join(cluster.add_nodes(parsed.node_class, count=parsed.count)))
    except ClusterError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m deploy.local",
        description="A real Kubernetes cluster on this machine. State: $TANDEM_STATE; built programs: $TANDEM_CACHE.",
    )
    commands = parser.add_subparsers(dest="command", required=True)
    building = commands.add_parser("build", help="build the programs that the cache lacks")
    building.add_argument(
        "--with",
        dest="further",
        action="append",
        default=[],
        choices=[module.folder for module in FURTHER_MODULES],
        help="and what only tests need",
    )
    up = commands.add_parser("up", help="bring the cluster up (does nothing when it runs)")
    up.add_argument(
        "--nodes", type=int, default=0, metavar="N", help="fake nodes that there should be at least (default: 0)"
    )
    commands.add_parser("down", help="end the cluster and remove what it made; the cache stays")
    commands.add_parser("status", help="what runs, and what is missing; exit status 3 when it does not run")
    commands.add_parser("kubeconfig", help="print the path of the kubeconfig")
    load = commands.add_parser("load-image", help="import an OCI archive into the real node")
    load.add_argument("archive", type=Path, metavar="ARCHIVE")
    add = commands.add_parser("add-nodes", help="add fake nodes")
    add.add_argument("--count", type=int, default=1, metavar="N")
    for tool in TOOLS:
        commands.add_parser(tool, help=f"run {tool}, with its own arguments, on the cluster", add_help=False)
    for command in (up, add):
        command.add_argument(
            "--class",
            dest="node_class",
            default=DEFAULT_CLASS,
            metavar="CLASS",
            help=f"{', '.join(NODE_CLASSES)}, or the beginning of one",
        )
    return parser


def _become(cluster: Cluster, tool: str, arguments: Sequence[str]) -> NoReturn:
    """Run a tool in our place, on our cluster whatever KUBECONFIG says; its module is built when it has to be."""
    program = build(cluster.layout, cluster.progress, modules=[module_of(tool)])[tool]
    cache = {"KUBECACHEDIR": str(cluster.layout.cache / "kubectl")}
    sys.stdout.flush()
    os.execve(program, [tool, *arguments], {**os.environ, **cache, "KUBECONFIG": str(cluster.kubeconfig)})  # noqa: S606


def _up(cluster: Cluster, *, nodes: int, node_class: str) -> int:
    cluster.up()
    if not cluster.has_real_node:
        cluster.progress.say(f"no real node, pods run nowhere: {'; '.join(cluster.lacks())}")
    if (lacking := nodes - cluster.count_fake_nodes()) > 0:
        cluster.add_nodes(node_class, count=lacking)
    print(f"export KUBECONFIG={cluster.kubeconfig}")
    return 0


def _status(cluster: Cluster) -> int:
    record = read_record(cluster.layout)
    if record is None:
        print(f"no cluster in {cluster.layout.state}")
        return 3
    for name, process in cluster.processes().items():
        state = "not running" if process is None else f"pid {process.pid}"
        print(f"{name:20} {state:16} {cluster.layout.log_of(name)}")
    is_running = cluster.is_running()
    print(f"API server           {record.server if is_running else 'not ready'}")
    print(f"real node            {'yes' if record.has_real_node else 'no: ' + '; '.join(cluster.lacks())}")
    if is_running:
        print(f"fake nodes           {cluster.count_fake_nodes()}")
    print(f"kubeconfig           {cluster.kubeconfig}")
    print(f"audit log            {cluster.layout.audit_log}")
    return 0 if is_running else 3


if __name__ == "__main__":
    sys.exit(main())
