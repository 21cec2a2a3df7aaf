"""How a Job's program ends: its last word, in the termination log and in the log, and the exit code."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable
from pathlib import Path

from tandem_contracts.artifact_job import Made
from tandem_contracts.manifest import Manifest
from tandem_contracts.model_facts import ModelFacts
from tandem_contracts.model_reader import UnreadableModelError
from tandem_contracts.recipe import InvalidRecipeError
from tandem_contracts.termination import ExitCode, Phase, Reason, TerminationMessage
from tandem_runtime.artifacts.texts import InvalidTextsError
from tandem_runtime.artifacts.volume import Volume, VolumeFullError, is_of_full_volume

CODES = {
    Reason.SOURCE_DENIED: ExitCode.SOURCE_DENIED,
    Reason.SOURCE_NOT_FOUND: ExitCode.SOURCE_NOT_FOUND,
    Reason.SOURCE_UNSAFE: ExitCode.SOURCE_UNSAFE,
    Reason.NETWORK_FAILED: ExitCode.NETWORK_FAILED,
    Reason.CHECKSUM_MISMATCH: ExitCode.CHECKSUM_MISMATCH,
    Reason.MODEL_NOT_FOUND: ExitCode.SOURCE_NOT_FOUND,
    Reason.PICKLES_ONLY: ExitCode.SOURCE_UNSAFE,
    Reason.NO_WEIGHTS: ExitCode.SOURCE_INVALID,
    Reason.WEIGHTS_INVALID: ExitCode.SOURCE_INVALID,
    Reason.CONFIG_INVALID: ExitCode.SOURCE_INVALID,
    Reason.SOURCE_CHANGED: ExitCode.SOURCE_INVALID,
    Reason.READ_FAILED: ExitCode.READ_FAILED,
    Reason.RECIPE_UNSUPPORTED: ExitCode.RECIPE_UNSUPPORTED,
    Reason.TEXTS_INVALID: ExitCode.TEXTS_INVALID,
    Reason.TASKS_INVALID: ExitCode.TASKS_INVALID,
    Reason.VOLUME_FULL: ExitCode.VOLUME_FULL,
    Reason.STEP_FAILED: ExitCode.STEP_FAILED,
    Reason.SMOKE_FAILED: ExitCode.SMOKE_FAILED,
    Reason.DIFFERS_FROM_REFERENCE: ExitCode.DIFFERS_FROM_REFERENCE,
    Reason.ARTIFACT_MISSING: ExitCode.ARTIFACT_MISSING,
}
"""The exit code of each reason that a Job's program can end with."""


class RefusedError(Exception):
    """The step cannot be done, for a reason that the program knows; the message is the root cause."""

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason = reason


def ended(phase: Phase, step: Callable[[], str], *, termination_log: Path, volume: Path | None = None) -> ExitCode:
    """Do the step, whose result is the last word of a good end; the code to exit with.

    `volume`: the folder whose free bytes are told when it is full.
    """
    try:
        code, last_word = ExitCode.OK, step()
    except Exception as error:  # noqa: BLE001 - whatever it is, it is told where the operator looks for it
        reason, message = _cause(error, volume)
        if reason in {Reason.STEP_FAILED, Reason.READ_FAILED}:
            traceback.print_exc()
        code = CODES[reason]
        last_word = TerminationMessage(code=code, phase=phase, reason=reason, message=message).encode()
    sys.stdout.write(f"{last_word}\n")  # the pod's log, for a person
    try:
        termination_log.write_text(last_word)
    except OSError as failure:
        sys.stderr.write(f"the termination log cannot be written: {failure}\n")
        return code or ExitCode.READ_FAILED
    return code


def made_of(volume: Volume, manifest: Manifest, *, seconds: float) -> str:
    """The last word of a program that has published an artifact, or found it published."""
    volume.prepare_compiled()
    how, space = manifest.provenance, volume.space()
    return Made(
        model=ModelFacts.from_data(how["model"]),
        bytes=manifest.bytes,
        manifest=manifest.digest,
        free_bytes=space.free,
        capacity_bytes=space.capacity,
        seconds=seconds,
        revision=str(how.get("revision", "")),
        source=manifest.content if "revision" in how else "",
    ).encode()


def _cause(error: Exception, volume: Path | None) -> tuple[Reason, str]:
    if isinstance(error, RefusedError | UnreadableModelError):
        return error.reason, str(error)
    if isinstance(error, InvalidRecipeError):
        return Reason.RECIPE_UNSUPPORTED, str(error)
    if isinstance(error, InvalidTextsError):
        return Reason.TEXTS_INVALID, str(error)
    if isinstance(error, VolumeFullError):
        return Reason.VOLUME_FULL, str(error)
    if is_of_full_volume(error):
        return Reason.VOLUME_FULL, _full(volume)
    kind = Reason.READ_FAILED if isinstance(error, OSError) else Reason.STEP_FAILED
    return kind, f"{type(error).__name__}: {error}"


def _full(volume: Path | None) -> str:
    free = f", {Volume(volume).space().free} bytes are free" if volume else ""
    return f"the volume is full: a file could not be written{free}"
