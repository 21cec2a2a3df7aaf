"""`python -m deploy.demo up|quantized|scaling|down`: a story told step by step; the steps of `up` are in `steps.py`."""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Sequence

from deploy.demo.quantized import tell_quantized
from deploy.demo.scaling import tell_scaling
from deploy.demo.steps import DemoError, take_down, tell
from deploy.fixtures.environment import EnvironmentFailedError
from deploy.fixtures.pair import TrainingFailedError
from deploy.images.errors import ImageError
from deploy.local.errors import ClusterError
from deploy.place import PlaceError

_EXPECTED = (
    DemoError,
    ClusterError,
    PlaceError,
    ImageError,
    EnvironmentFailedError,
    TrainingFailedError,
    subprocess.SubprocessError,
    OSError,
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 1: a step failed, and standard error says which and why."""
    options = _parser().parse_args(arguments)
    try:
        if options.command == "up":
            tell(cluster=options.cluster, registry=options.registry)
        elif options.command == "quantized":
            tell_quantized()
        elif options.command == "scaling":
            tell_scaling()
        else:
            take_down(cluster=options.cluster)
    except KeyboardInterrupt:
        sys.stderr.write("\ndemo: stopped; what it made is still there, and goes by `make demo-down`\n")
        return 130
    except _EXPECTED as error:
        sys.stderr.write(f"demo: {error}\n")
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m deploy.demo", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("quantized", help="models that Jobs fetch, quantize and measure, on this machine's cluster")
    commands.add_parser("scaling", help="replicas by a latency target, under load and without, on this machine")
    for name, help_text in (("up", "from nothing to an answer"), ("down", "take away what `up` made")):
        command = commands.add_parser(name, help=help_text)
        command.add_argument(
            "--cluster",
            choices=["local", "current"],
            default="local",
            help="local: a cluster of our own on this machine; current: your kubeconfig's current context",
        )
        if name == "up":
            command.add_argument(
                "--registry", default="", help="HOST/REPO to push the images to; with --cluster current"
            )
    return parser


if __name__ == "__main__":
    sys.exit(main())
