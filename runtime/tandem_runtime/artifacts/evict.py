"""`python -m tandem_runtime.artifacts.evict`: deletes an artifact that nothing refers to, and what tries left.

What engines compiled for it goes, too.

The artifact is none any more at once, by one rename; its files go then. Running it again changes nothing.
"""

from __future__ import annotations

import argparse
import json
import sys
from functools import partial

from tandem_contracts.artifact_job import EVICT_MODULE
from tandem_contracts.compile_cache import is_of
from tandem_contracts.termination import ExitCode, Phase
from tandem_runtime.artifacts.last_word import ended
from tandem_runtime.artifacts.options import parser_of
from tandem_runtime.artifacts.volume import Volume


def main(arguments: list[str]) -> ExitCode:
    """Delete one artifact."""
    options = parser_of(EVICT_MODULE, __doc__).parse_args(arguments)
    return ended(Phase.EVICT, partial(_evicted, options), termination_log=options.termination_log)


def _evicted(options: argparse.Namespace) -> str:
    volume = Volume(options.volume)
    volume.retire(options.key)
    compiled = volume.compiled
    for name in compiled.names():
        if is_of(name, options.key):
            compiled.retire(name)
    gone = volume.sweep() + compiled.sweep()
    return json.dumps({"deleted": list(gone)[:32], "freeBytes": volume.space().free})


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
