"""`python -m tandem_runtime.artifacts.evaluate`: measures what quantizing has cost, on text that it has not seen.

Reads the artifact and the model that it was made from, and writes nothing. Its last word is `Evaluated`, with what the
quantized model says of a few tokens, which the smoke test has the engine say again. It does not judge: what is good
enough is the operator's to say, and may change without measuring again.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from tandem_contracts.artifact_job import EVALUATE_MODULE, Evaluated, TaskSettings
from tandem_contracts.model_reader import read_model
from tandem_contracts.termination import ExitCode, Phase, Reason
from tandem_runtime.artifacts.last_word import RefusedError, ended
from tandem_runtime.artifacts.needles import tokens_within
from tandem_runtime.artifacts.options import parser_of
from tandem_runtime.artifacts.progress import Progress
from tandem_runtime.artifacts.task_files import read_tasks
from tandem_runtime.artifacts.texts import InvalidTextsError, Texts, built_in, chat_of, read_texts
from tandem_runtime.artifacts.volume import Volume, content_of


def main(arguments: list[str]) -> ExitCode:
    """Evaluate one artifact."""
    parser = parser_of(EVALUATE_MODULE, __doc__)
    parser.add_argument("--source", type=Path, required=True, help="folder of the model that it was made from")
    parser.add_argument("--texts", type=Path, default=None, help="texts to evaluate with; omitted: built-in ones")
    parser.add_argument("--tasks-folder", type=Path, default=None, help="YAML files of tasks, and their questions")
    parser.add_argument("--tasks", type=_tasks, default=(), help="list of TaskSettings as JSON")
    parser.add_argument("--long-context", type=int, default=0, help="tokens of a context; 0: recall is not measured")
    options = parser.parse_args(arguments)
    if options.tasks and options.tasks_folder is None:
        parser.error("--tasks needs --tasks-folder")
    return ended(Phase.EVALUATE, partial(_evaluated, options), termination_log=options.termination_log)


def _tasks(text: str) -> tuple[TaskSettings, ...]:
    return tuple(TaskSettings.from_data(data) for data in json.loads(text))


def _evaluated(options: argparse.Namespace) -> str:
    begun = time.monotonic()
    volume = Volume(options.volume)
    manifest = volume.find(options.key)
    if manifest is None:
        raise RefusedError(Reason.ARTIFACT_MISSING, f"{volume.folder(options.key)} is no artifact, or not whole")
    require_same_source(options.source, manifest.provenance)
    wanted_tokens: int = options.long_context
    tokens = tokens_within(read_model(options.source).max_positions, wanted_tokens) if wanted_tokens else 0
    names = [task.name for task in options.tasks]
    tasks = read_tasks(options.tasks_folder, names) if names else ()
    progress = Progress(port=options.metrics_port)
    progress.begin(Phase.EVALUATE, 0)

    # Read when the libraries are imported: nothing is looked for on a network, what is missing is an error.
    os.environ |= {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
    # They take seconds to import, and only what gets here needs them.
    from tandem_runtime.artifacts.comparison import compare, reference_of, windows_in
    from tandem_runtime.artifacts.long_context import long_context_of
    from tandem_runtime.artifacts.models import loaded, tokenizer_of

    tokenizer = tokenizer_of(options.source)
    texts = built_in()[1] if options.texts is None else read_texts(options.texts, chat=chat_of(tokenizer))
    require_unseen(texts, manifest.provenance)
    windows = windows_in(texts, tokenizer)
    if tasks:
        from tandem_runtime.artifacts.tasks import require_answerable, results_of

        require_answerable(tasks)
    models = loaded(options.source, volume.folder(options.key))
    quality = compare(models, windows, evaluation=texts.digest, progress=progress)
    reference = reference_of(models, windows, tokenizer, manifest=manifest.digest)
    used: dict[str, Any] = {"tokenizer": tokenizer, "progress": progress}
    if tokens:
        found = long_context_of(models, texts, tokens=tokens, wanted_tokens=wanted_tokens, **used)
        quality = replace(quality, long_context=found)
    if tasks:
        # Last: lm-eval gives the tokenizer a token to fill rows with.
        quality = replace(quality, tasks=results_of(models, tasks, options.tasks, **used))
    return Evaluated(quality=quality, seconds=time.monotonic() - begun, reference=reference).encode()


def require_same_source(source: Path, provenance: Mapping[str, Any]) -> None:
    """Refuse a source that is another one than the model was made from: a branch may have moved since it was fetched.

    Raises RefusedError. A source that was not fetched has nothing to compare.
    """
    made_from, there = provenance.get("source"), content_of(source)
    if made_from and there and made_from != there:
        raise RefusedError(
            Reason.SOURCE_CHANGED,
            "the source was fetched anew and is another one than the model was made from: name a commit as its "
            "revision, or delete the ModelArtifact so that it is made again",
        )


def require_unseen(texts: Texts, provenance: Mapping[str, Any]) -> None:
    """Refuse texts that the model was calibrated with: its figures on them say nothing. Raises InvalidTextsError."""
    seen = set((provenance.get("calibration") or {}).get("documents") or ())
    shared = [at for at, digest in enumerate(texts.digests, 1) if digest in seen]
    if shared:
        told = ", ".join(map(str, shared[:5])) + (" and more" if len(shared) > 5 else "")
        raise InvalidTextsError(f"{texts.name}: the model was calibrated with {len(shared)} of the texts: {told}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
