"""Launches an engine as the product does, but with what `benchmarks.gpu_engines` says of rejection."""

import json
import os
import sys
from typing import Any

VARIABLE = "TANDEM_BENCHMARK_REJECTION"
FLAG = "--speculative-config"


def command(*options: Any, **more: Any) -> list[str]:
    """vLLM's command line."""
    from tandem_runtime.launch import engine

    made = engine.engine_command(*options, **more)
    if FLAG in made:
        at = made.index(FLAG) + 1
        made[at] = json.dumps({**json.loads(made[at]), **json.loads(os.environ[VARIABLE])})
    return made


if __name__ == "__main__":
    from tandem_runtime.launch import __main__ as launcher

    launcher.engine_command = command  # type: ignore[attr-defined]
    sys.exit(launcher.main(sys.argv[1:]))
