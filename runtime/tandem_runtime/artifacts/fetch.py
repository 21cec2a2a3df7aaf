"""`python -m tandem_runtime.artifacts.fetch`: brings a model from the hub or from S3 onto the volume, as it is.

The only program that has a network, and a secret: `HF_TOKEN`, or `AWS_ACCESS_KEY_ID` and the two that go with it.
Files that were fetched and checked stay on the volume until the artifact is published, so that another try goes on
where one was killed. Its last word is `Made`.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import time
from contextlib import suppress
from functools import partial
from pathlib import Path

from tandem_contracts.artifact_job import (
    ACCESS_KEY_VARIABLE,
    FETCH_MODULE,
    SECRET_KEY_VARIABLE,
    SESSION_TOKEN_VARIABLE,
    TOKEN_VARIABLE,
    HubSource,
    S3Source,
    source_from_data,
)
from tandem_contracts.model_reader import WEIGHTS_INDEX, read_model
from tandem_contracts.termination import ExitCode, Phase
from tandem_runtime.artifacts.last_word import ended, made_of
from tandem_runtime.artifacts.options import parser_of
from tandem_runtime.artifacts.origin import (
    Origin,
    RemoteFile,
    files_of_engines,
    is_as_told,
    require_no_code,
    require_weights,
)
from tandem_runtime.artifacts.progress import Progress
from tandem_runtime.artifacts.volume import Volume

MARGIN_BYTES = 64 << 20


def main(arguments: list[str]) -> ExitCode:
    """Fetch one model."""
    parser = parser_of(FETCH_MODULE, __doc__)
    parser.add_argument("--source", type=json.loads, required=True, help="HubSource or S3Source as JSON")
    parser.add_argument("--owner", required=True, help="what tells this try from others, such as the pod's uid")
    options = parser.parse_args(arguments)
    step = partial(_fetched, options)
    return ended(Phase.FETCH, step, termination_log=options.termination_log, volume=options.volume)


def _fetched(options: argparse.Namespace) -> str:
    source = source_from_data(options.source)
    volume, begun = Volume(options.volume), time.monotonic()
    there = volume.find(options.key)
    if there is not None:
        return made_of(volume, there, seconds=0.0)
    progress = Progress(port=options.metrics_port)
    progress.begin(Phase.FETCH, 0)

    origin = _origin_of(source)
    snapshot = origin.snapshot()
    require_weights(snapshot)
    kept = volume.kept(f"{options.key}.{snapshot.commit}")

    def is_kept(file: RemoteFile) -> bool:
        return (kept / file.path).exists() and is_as_told(kept / file.path, file)

    with volume.staging(options.key, options.owner) as folder:
        for file in snapshot.files:
            if file.path == WEIGHTS_INDEX and not is_kept(file):
                origin.download(snapshot, file, folder).replace(kept / file.path)
        files = files_of_engines(snapshot.files, kept / WEIGHTS_INDEX)
        missing = [file for file in files if not is_kept(file)]
        wanted, done = sum(file.bytes for file in missing), 0
        volume.require(wanted + MARGIN_BYTES)
        # Of what this try has to bring: its pace says nothing of files that were there before.
        progress.show(Phase.FETCH, lambda: bytes_brought(folder, done, wanted), float(wanted))
        # Small ones first: a configuration that is refused ends it before the weights are there.
        for file in sorted(files, key=lambda file: file.bytes):
            if file in missing:
                origin.download(snapshot, file, folder).replace(kept / file.path)
                done += file.bytes
            require_no_code(kept / file.path)
        _emptied(folder)
        for file in files:
            _linked(kept / file.path, folder / file.path)
        facts = read_model(folder)
        how = {**snapshot.provenance, "revision": snapshot.commit, "model": facts.to_data()}
        _, manifest = volume.publish(options.key, folder, how)
    shutil.rmtree(kept, ignore_errors=True)
    return made_of(volume, manifest, seconds=time.monotonic() - begun)


def bytes_brought(folder: Path, done: int, wanted: int) -> float:
    """Of `wanted` bytes: those of files that are whole, and of the one that is being written to `folder`."""
    written = 0
    for path in folder.rglob("*"):
        with suppress(OSError):  # whole by now, and moved away
            written += path.stat().st_size if path.is_file() else 0
    return float(min(done + written, wanted))


def _origin_of(source: HubSource | S3Source) -> Origin:
    """With what the environment has of secrets. Raises RefusedError.

    Only here are the libraries imported: it takes seconds, and what was fetched before needs none of them.
    """
    if isinstance(source, HubSource):
        from tandem_runtime.artifacts.hub import Hub

        return Hub(source, token=os.environ.get(TOKEN_VARIABLE, ""))
    from tandem_runtime.artifacts.s3 import S3, Credentials

    return S3(
        source,
        Credentials(
            access_key=os.environ.get(ACCESS_KEY_VARIABLE, ""),
            secret_key=os.environ.get(SECRET_KEY_VARIABLE, ""),
            session_token=os.environ.get(SESSION_TOKEN_VARIABLE, ""),
        ),
    )


def _emptied(folder: Path) -> None:
    """What downloads leave beside their files."""
    for path in folder.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def _linked(path: Path, target: Path) -> None:
    """The same file at a second place; a copy where the file system has no links."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with suppress(OSError):
        os.link(path, target)
        return
    shutil.copyfile(path, target)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
