"""Launches an engine as the product does, but for its proposer: see `benchmarks.switched_proposer`."""

import sys

from tandem_runtime.launch import engine
from tandem_runtime.launch.__main__ import main

if __name__ == "__main__":
    engine.PROPOSER = "benchmarks.switched_proposer.SwitchedProposer"
    sys.exit(main(sys.argv[1:]))
