"""`python -m tandem_runtime.artifacts.evaluate`: measures what quantizing has cost, on text that it has not seen.

Reads the artifact and the model that it was made from, and writes nothing. Its last word is `Evaluated`. It does not
judge: what is good enough is the operator's to say, and may change without measuring again.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from tandem_contracts.artifact_job import EVALUATE_MODULE, Evaluated
from tandem_contracts.termination import ExitCode, Phase, Reason
from tandem_runtime.artifacts.last_word import RefusedError, ended
from tandem_runtime.artifacts.options import parser_of
from tandem_runtime.artifacts.progress import Progress
from tandem_runtime.artifacts.texts import InvalidTextsError, Texts, built_in, chat_of, read_texts
from tandem_runtime.artifacts.volume import Volume


def main(arguments: list[str]) -> ExitCode:
    """Evaluate one artifact."""
    parser = parser_of(EVALUATE_MODULE, __doc__)
    parser.add_argument("--source", type=Path, required=True, help="folder of the model that it was made from")
    parser.add_argument("--texts", type=Path, default=None, help="texts to evaluate with; omitted: built-in ones")
    options = parser.parse_args(arguments)
    return ended(Phase.EVALUATE, partial(_evaluated, options), termination_log=options.termination_log)


def _evaluated(options: argparse.Namespace) -> str:
    begun = time.monotonic()
    volume = Volume(options.volume)
    manifest = volume.find(options.key)
    if manifest is None:
        raise RefusedError(Reason.MODEL_NOT_FOUND, f"{volume.folder(options.key)} is no artifact, or not whole")
    progress = Progress(port=options.metrics_port)
    progress.begin(Phase.EVALUATE, 0)

    # Read when the libraries are imported: nothing is looked for on a network, what is missing is an error.
    os.environ["HF_HUB_OFFLINE"] = "1"
    # It takes seconds to import, and only what gets here needs it.
    from tandem_runtime.artifacts.comparison import compare, windows_in
    from tandem_runtime.artifacts.models import loaded, tokenizer_of

    tokenizer = tokenizer_of(options.source)
    texts = built_in()[1] if options.texts is None else read_texts(options.texts, chat=chat_of(tokenizer))
    require_unseen(texts, manifest.provenance)
    windows = windows_in(texts, tokenizer)
    models = loaded(options.source, volume.folder(options.key))
    quality = compare(models, windows, evaluation=texts.digest, progress=progress)
    return Evaluated(quality=quality, seconds=time.monotonic() - begun).encode()


def require_unseen(texts: Texts, provenance: Mapping[str, Any]) -> None:
    """Refuse texts that the model was calibrated with: its figures on them say nothing. Raises InvalidTextsError."""
    seen = set((provenance.get("calibration") or {}).get("documents") or ())
    shared = [at for at, digest in enumerate(texts.digests, 1) if digest in seen]
    if shared:
        told = ", ".join(map(str, shared[:5])) + (" and more" if len(shared) > 5 else "")
        raise InvalidTextsError(f"{texts.name}: the model was calibrated with {len(shared)} of the texts: {told}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
