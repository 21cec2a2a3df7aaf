"""Runs inside the engine environment: our launcher, for a verifier that is strained more than a user can ask for.

Its KV cache has so few blocks that requests are preempted, and its drafts are always as deep as can be: the measured
depth would soon be 0 with drafts as bad as those of the tests. Its log tells of each step.
"""

import os
import sys
from typing import Any

from tandem_runtime.launch import __main__ as launcher
from tandem_runtime.launch import engine

BLOCKS_VARIABLE = "PROOF_BLOCKS"


def strained_command(*options: Any, **more: Any) -> list[str]:
    command = engine.engine_command(*options, **more)
    return [*command, "--num-gpu-blocks-override", os.environ[BLOCKS_VARIABLE], "--enable-logging-iteration-details"]


engine.PROPOSER = "deep_proposer.DeepProposer"
launcher.engine_command = strained_command  # type: ignore[attr-defined]
sys.exit(launcher.main(sys.argv[1:]))
