"""`python -m tandem_runtime.artifacts.inspect --model DIR`: says what model a folder holds.

Reads the folder and nothing else; no network, no engine, so it starts in a moment. Its last word is `ModelFacts`
when it ends with 0, else a `TerminationMessage`.
"""

import argparse
import sys
import traceback
from collections.abc import Mapping
from pathlib import Path

from tandem_contracts.launch import TERMINATION_LOG
from tandem_contracts.model_reader import UnreadableModelError, read_model
from tandem_contracts.termination import ExitCode, Phase, Reason, TerminationMessage

CODES: Mapping[Reason, ExitCode] = {
    Reason.MODEL_NOT_FOUND: ExitCode.SOURCE_NOT_FOUND,
    Reason.PICKLES_ONLY: ExitCode.SOURCE_UNSAFE,
    Reason.NO_WEIGHTS: ExitCode.SOURCE_INVALID,
    Reason.WEIGHTS_INVALID: ExitCode.SOURCE_INVALID,
    Reason.CONFIG_INVALID: ExitCode.SOURCE_INVALID,
    Reason.READ_FAILED: ExitCode.READ_FAILED,
}
"""The exit code of each reason that a folder can be refused for."""


def main(arguments: list[str]) -> ExitCode:
    """Inspect one folder. The last word goes to the termination log and to standard output."""
    parser = argparse.ArgumentParser(prog="python -m tandem_runtime.artifacts.inspect", description=__doc__)
    parser.add_argument("--model", type=Path, required=True, help="the model folder")
    parser.add_argument("--termination-log", type=Path, default=Path(TERMINATION_LOG), help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    code, last_word = _inspected(options.model)
    print(last_word)  # the pod's log, for a person
    try:
        options.termination_log.write_text(last_word)
    except OSError as failure:
        sys.stderr.write(f"the termination log cannot be written: {failure}\n")
        return code or ExitCode.READ_FAILED
    return code


def _inspected(folder: Path) -> tuple[ExitCode, str]:
    try:
        return ExitCode.OK, read_model(folder).encode()
    except UnreadableModelError as cause:
        code, reason, message = CODES[cause.reason], cause.reason, str(cause)
    except Exception as cause:  # noqa: BLE001 - whatever it is, it is told where the operator looks for it
        traceback.print_exc()
        code, reason = ExitCode.READ_FAILED, Reason.READ_FAILED
        message = f"{folder} cannot be read: {type(cause).__name__}: {cause}"
    return code, TerminationMessage(code=code, phase=Phase.INSPECT, reason=reason, message=message).encode()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
