"""`python -m tandem_runtime.artifacts.quantize`: makes a quantized model from another one, and publishes it.

Needs no network and reads the source only. Its last word is `Made` when it ends with 0. Killed at any point it leaves
nothing that anybody could take for an artifact; started again it starts anew, unless somebody has published meanwhile.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from functools import partial
from pathlib import Path

from tandem_contracts.artifact_job import QUANTIZE_MODULE
from tandem_contracts.model_reader import read_model
from tandem_contracts.recipe import CalibrationSettings, Recipe
from tandem_contracts.termination import ExitCode, Phase
from tandem_runtime.artifacts.last_word import ended, made_of
from tandem_runtime.artifacts.options import parser_of
from tandem_runtime.artifacts.origin import leave_wanted, require_no_code_in
from tandem_runtime.artifacts.progress import Progress
from tandem_runtime.artifacts.volume import Volume, content_of
from tandem_runtime.artifacts.weights import predicted_bytes, require_predicted

MARGIN_PERCENT = 5
"""Room that must be there beyond what the files are predicted to take."""


def main(arguments: list[str]) -> ExitCode:
    """Make one artifact."""
    parser = parser_of(QUANTIZE_MODULE, __doc__)
    parser.add_argument("--source", type=Path, required=True, help="folder of the model that is quantized")
    parser.add_argument("--owner", required=True, help="what tells this try from others, such as the pod's uid")
    parser.add_argument("--recipe", type=json.loads, required=True, help="Recipe as JSON")
    parser.add_argument("--calibration", type=json.loads, default=None, help="CalibrationSettings as JSON")
    parser.add_argument("--texts", type=Path, default=None, help="texts to calibrate with; omitted: built-in ones")
    options = parser.parse_args(arguments)
    step = partial(_quantized, options)
    return ended(Phase.QUANTIZE, step, termination_log=options.termination_log, volume=options.volume)


def _quantized(options: argparse.Namespace) -> str:
    recipe = Recipe.from_data(options.recipe)
    calibration = CalibrationSettings.from_data(options.calibration or {})
    volume = Volume(options.volume)
    there, source = volume.find(options.key), content_of(options.source)
    # Of another source: somebody has deleted the ModelArtifact so that it is made anew. One that lies has no content.
    is_outdated = there is not None and bool(source) and there.provenance.get("source") not in {"", source}
    if there is not None and not is_outdated:
        return made_of(volume, there, seconds=0.0)
    begun = time.monotonic()
    read_model(options.source)  # says what is wrong with it before anything large is imported
    require_no_code_in(options.source)  # one that lies somewhere was not fetched, so nobody has looked yet
    predicted = predicted_bytes(options.source, recipe)
    volume.require(predicted * (100 + MARGIN_PERCENT) // 100)
    progress = Progress(port=options.metrics_port)
    progress.begin(Phase.QUANTIZE, 0)

    # Read when the libraries are imported: nothing is looked for on a network, what is missing is an error.
    os.environ["HF_HUB_OFFLINE"] = "1"
    # They take seconds to import, and only what gets here needs them.
    from tandem_runtime.artifacts.llm_compressor import quantize

    with volume.staging(options.key, options.owner) as folder:
        provenance = quantize(
            options.source, folder, recipe, calibration=calibration, texts=options.texts, progress=progress
        )
        leave_wanted(folder)  # llm-compressor copies all that lies beside the weights
        facts = read_model(folder)
        require_predicted(facts.weights_bytes, predicted)
        how = {**provenance, "recipe": recipe.to_data(), "model": facts.to_data(), "source": source}
        if is_outdated:
            volume.retire(options.key)
        _, manifest = volume.publish(options.key, folder, how)
    return made_of(volume, manifest, seconds=time.monotonic() - begun)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
