"""`tandem debug bundle`: one archive with what somebody needs who is to help, and with nothing secret in it.

Reads with the user's own rights, and never a Secret. What may not be read is noted in the archive and is no error.
What is taken out of what was read, and how: `redaction.py`.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import tarfile
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from tandem_operator import __version__
from tandem_operator.cli.bundle_contents import Contents, collect
from tandem_operator.cli.command import Command, on_a_resource, with_output, written
from tandem_operator.cli.connection import Connection
from tandem_operator.cli.inputs import CommandError
from tandem_operator.cli.screen import BOLD, YELLOW, Paint, Screen
from tandem_operator.manifest_yaml import manifest_yaml
from tandem_operator.yaml_files import told_of

LINES = 500
TAKEN_OUT = (
    "Secrets are not read. Values of environment variables and of foreign annotations, binary data, fields whose name "
    "says that they are secret, and what looks like a credential is replaced by ***. Names, images, addresses of "
    "models and what programs log are there: read it before you send it to anybody."
)


def _lines(text: str) -> int:
    lines = int(text)
    if not 1 <= lines <= 100_000:
        raise argparse.ArgumentTypeError(f"(is {text}): must be from 1 to 100000")
    return lines


def _add_arguments(command: argparse.ArgumentParser) -> None:
    on_a_resource(command)
    command.add_argument(
        "--out", type=Path, metavar="FILE", help="omitted: tandem-NAME-TIME.tar.gz here; never written over"
    )
    command.add_argument("--lines", type=_lines, default=LINES, help="so many last lines of each container's log")
    with_output(command)


def _run(options: argparse.Namespace, screen: Screen) -> int:
    connection, now = Connection.of(options), datetime.now(UTC)
    out = options.out or Path(f"tandem-{options.name}-{now:%Y%m%dT%H%M%SZ}.tar.gz")
    contents, files = run_bundle(connection, options.name, out=out, lines=options.lines, now=now)
    if options.output:
        place = {"name": options.name, "namespace": connection.namespace, "archive": str(out)}
        screen.write(written({**place, "files": files, "missing": list(contents.missing)}, options.output))
    else:
        screen.write(_told(out, contents, files, screen.paint))
    return 0


BUNDLE = Command(
    "collect what somebody needs who is to help, without secrets, in one archive",
    _run,
    add_arguments=_add_arguments,
    description="Collect what somebody needs who is to help in one archive: the resource, its objects, events, the "
    "last lines of its pods' logs (also of containers that have ended), metrics pages, its ModelArtifacts with their "
    "Jobs, and the operator's log, version and configuration. " + TAKEN_OUT + " What you have no right to read is "
    "noted in the archive's index.yaml and is no error.",
    keys={
        "name": "of the resource",
        "namespace": "of the resource",
        "archive": "its file",
        "files": "their paths in the archive",
        "missing": "what could not be read, with the reason",
    },
)
DEBUG = Command("collect what helps to find a fault", subcommands={"bundle": BUNDLE})


def run_bundle(
    connection: Connection, name: str, *, out: Path, lines: int, now: datetime
) -> tuple[Contents, Sequence[str]]:
    """Write the archive; what was read, and which files are in it. Raises CommandError, with exit code 2 when there is
    no such resource.
    """
    contents = collect(connection, name, lines=lines, now=now)
    packed = contents.redacted()
    files = sorted(packed)
    index = _index(contents, files, name=name, namespace=connection.namespace, now=now)
    _write(out, {"index.yaml": index, **packed}, folder=out.name.removesuffix(".tar.gz"), now=now)
    return contents, files


def _told(out: Path, contents: Contents, files: Sequence[str], paint: Paint) -> str:
    told = f"{paint(str(out), BOLD)}: {len(files)} files"
    if contents.missing:
        told += "".join(["; not there:\n", *(paint(f"  {each}", YELLOW) + "\n" for each in contents.missing)])
    else:
        told += "\n"
    return told + "Secrets are taken out as far as they can be told; read it before you send it to anybody.\n"


def _index(contents: Contents, files: Sequence[str], *, name: str, namespace: str, now: datetime) -> str:
    return manifest_yaml(
        {
            "name": name,
            "namespace": namespace,
            "made": now.isoformat(timespec="seconds").replace("+00:00", "Z"),
            "tandem": __version__,
            "apiServer": contents.server,
            "operator": contents.operator or "unknown",
            "takenOut": TAKEN_OUT,
            "files": list(files),
            "missing": list(contents.missing),
        }
    )


def _write(out: Path, files: dict[str, str], *, folder: str, now: datetime) -> None:
    """Readable for its owner alone; whole, or not there."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for path, text in files.items():
            raw = text.encode()
            entry = tarfile.TarInfo(f"{folder}/{path}")
            entry.size, entry.mtime, entry.mode = len(raw), int(now.timestamp()), 0o600
            archive.addfile(entry, io.BytesIO(raw))
    is_ours = False
    try:
        out.touch(mode=0o600, exist_ok=False)
        is_ours = True
        out.write_bytes(packed.getvalue())
    except OSError as error:
        if is_ours:
            with contextlib.suppress(OSError):
                out.unlink()
        wrong = "there is no such folder" if isinstance(error, FileNotFoundError) else told_of(error)
        raise CommandError(f"--out {out}: {wrong}") from error
