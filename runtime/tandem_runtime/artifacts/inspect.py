"""`python -m tandem_runtime.artifacts.inspect --model DIR`: says what model a folder holds.

Reads the folder and nothing else; no network, no engine, so it starts in a moment. Its last word is `ModelFacts`
when it ends with 0, else a `TerminationMessage`.
"""

import argparse
import sys
from pathlib import Path

from tandem_contracts.launch import TERMINATION_LOG
from tandem_contracts.model_reader import read_model
from tandem_contracts.termination import ExitCode, Phase
from tandem_runtime.artifacts.last_word import ended


def main(arguments: list[str]) -> ExitCode:
    """Inspect one folder. The last word goes to the termination log and to standard output."""
    parser = argparse.ArgumentParser(prog="python -m tandem_runtime.artifacts.inspect", description=__doc__)
    parser.add_argument("--model", type=Path, required=True, help="the model folder")
    parser.add_argument("--termination-log", type=Path, default=Path(TERMINATION_LOG), help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    folder: Path = options.model
    return ended(Phase.INSPECT, lambda: read_model(folder).encode(), termination_log=options.termination_log)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
