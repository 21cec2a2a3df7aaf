"""The model repository that Triton serves: our Python model, the exported graph beside it, and what both must know.

`python -m tandem_runtime.draft_server.triton.repository MODEL FOLDER` writes one for a Triton server of your own, whose
Python needs numpy and onnxruntime.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path

import tandem_runtime
from tandem_runtime.draft_server.triton.frames import MODEL
from tandem_runtime.draft_server.triton.graph import export_graph
from tandem_runtime.draft_server.triton.served_model import Settings

DEFAULT_CACHES = 64
VERSION = "1"
_SERVED = Path(__file__).with_name("served")


def write_repository(model: Path, folder: Path, *, caches: int) -> None:
    """Write a repository into `folder`, which must not exist.

    Raises UnservedModelError for a model that cannot be exported, OSError for files that cannot be read or written.
    """
    served = folder / MODEL
    shutil.copytree(_SERVED, served, ignore=shutil.ignore_patterns("__pycache__"))
    shape = export_graph(model, served / VERSION)
    settings = Settings(shape=shape, caches=caches)
    # The backend's Python ignores PYTHONPATH, but it does search the folder of the model.
    package = Path(tandem_runtime.__file__).parent
    shutil.copytree(package, served / VERSION / package.name, ignore=shutil.ignore_patterns("__pycache__"))
    with (served / "config.pbtxt").open("a") as file:
        file.write(settings.to_configuration())


def _main() -> int:
    parser = argparse.ArgumentParser(description="Write a model repository that Triton can serve drafts from.")
    parser.add_argument("model", type=Path, help="a folder with config.json and safetensors")
    parser.add_argument("folder", type=Path, help="where to write; must not exist")
    parser.add_argument("--caches", type=int, default=DEFAULT_CACHES, help="contexts whose keys and values are kept")
    given = parser.parse_args()
    write_repository(given.model, given.folder, caches=given.caches)
    return 0


if __name__ == "__main__":
    sys.exit(_main())
