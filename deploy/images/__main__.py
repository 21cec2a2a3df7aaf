"""The command line of the images: `python -m deploy.images COMMAND`. It parses and prints, nothing else."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import yaml

from deploy.images import api
from deploy.images.catalogue import NAMES, images_of
from deploy.images.errors import ImageError
from deploy.images.load import reference_in
from deploy.images.values import values_of
from deploy.local.cluster import Cluster
from deploy.local.errors import ClusterError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status: 0 done, 1 could not."""
    parsed = _parser().parse_args(arguments)
    try:
        match parsed.command:
            case "references":
                references = {image.name: image.reference for image in images_of(parsed.names or NAMES)}
                if parsed.registry:
                    references = {name: reference_in(parsed.registry, each) for name, each in references.items()}
            case "build":
                references = api.build(parsed.names)
            case "load":
                references = api.provide(parsed.names, cluster=Cluster())
            case _:
                references = api.provide(parsed.names, cluster=None, registry=parsed.registry)
        print("\n".join(f"{name}={reference}" for name, reference in references.items()))
        if parsed.values is not None:
            parsed.values.parent.mkdir(parents=True, exist_ok=True)
            parsed.values.write_text(yaml.safe_dump(values_of(references)), encoding="utf-8")
            print(f"for helm install: --values {parsed.values}")
    except (ImageError, ClusterError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m deploy.images",
        description="Tandem's images, built without a container engine. Everything lies in $TANDEM_CACHE/images.",
    )
    commands = parser.add_subparsers(dest="command", required=True)
    references = commands.add_parser("references", help="print name=reference of each image, built or not")
    building = commands.add_parser("build", help="build what is missing")
    references.add_argument("--registry", metavar="HOST/REPO", help="as they are called once they are pushed there")
    loading = commands.add_parser("load", help="build what is missing, and bring it to the local cluster's node")
    pushing = commands.add_parser("push", help="build what is missing, and push it to a registry")
    pushing.add_argument("registry", metavar="HOST/REPO")
    for command in (references, building, loading, pushing):
        command.add_argument(
            "--values", metavar="FILE", type=Path, help="write the chart's values that name these images into FILE"
        )
        command.add_argument(
            "names",
            nargs="*",
            metavar="NAME",
            help=f"{', '.join(NAMES)}; without a name, all but engine-gpu, which needs a registry",
        )
    return parser


if __name__ == "__main__":
    sys.exit(main())
