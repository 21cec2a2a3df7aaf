"""Runs inside the environment of drafts by Triton: what a real Triton server drafts, and what an exported graph does.

Arguments: a model folder, a folder with small models, and a scratch folder.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from array import array
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from draft_scenario import CACHES, DEPTH, transcript_of

from tandem_runtime.draft_server.engines import Ask, DraftEngine
from tandem_runtime.draft_server.triton.engine import TritonEngine, TritonFailedError
from tandem_runtime.draft_server.triton.graph import export_graph
from tandem_runtime.draft_server.triton.onnx_engine import OnnxEngine
from tandem_runtime.launch.triton import TritonEndedError, TritonServer

CUT_DEPTH = 400
LIMIT_SECONDS = 30.0


def transcript(engine: DraftEngine) -> list[list[list[int]]]:
    keys: dict[int, tuple[int, int]] = {}

    def draft(contexts: Sequence[array[int]]) -> list[list[int]]:
        asks = [Ask(keys.setdefault(id(context), (0, len(keys))), context, DEPTH) for context in contexts]
        return engine.draft(asks, is_due=lambda: False)

    found = transcript_of(draft, engine.vocabulary)
    engine.forget(keys.values())
    return found


def cut(engine: DraftEngine) -> dict[str, Any]:
    """A draft that is due at once, and what is drafted after the same context then."""
    context = array("i", range(1, 9))
    short = engine.draft([Ask((1, 1), context, CUT_DEPTH)], is_due=lambda: True)[0]
    again = engine.draft([Ask((1, 1), context, DEPTH)], is_due=lambda: False)[0]
    anew = engine.draft([Ask((1, 2), context, DEPTH)], is_due=lambda: False)[0]
    return {"tokens": len(short), "wanted": CUT_DEPTH, "again": again, "anew": anew}


def lost(server: TritonServer, engine: TritonEngine) -> dict[str, str]:
    """What is said of a server that is killed: by a draft, and by who started it."""
    os.kill(server._program._process.pid, signal.SIGKILL)
    told = {"address": server.address}
    deadline = time.monotonic() + LIMIT_SECONDS
    while len(told) < 3 and time.monotonic() < deadline:  # a signal takes its time
        try:
            engine.draft([Ask((2, 1), array("i", [1]), DEPTH)], is_due=lambda: False)
        except TritonFailedError as error:
            told["draft"] = str(error)
        try:
            server.check()
        except TritonEndedError as error:
            told["check"] = str(error)
    return told


def main(model: Path, kinds: Path, scratch: Path) -> None:
    found: dict[str, Any] = {}
    with TritonServer(model, scratch / "triton", caches=CACHES) as server:
        server.wait_until_ready()
        engine = TritonEngine(server.address)
        found |= {"triton": transcript(engine), "cut": cut(engine), "lost": lost(server, engine)}
        engine.close()
    for kind in sorted(kinds.iterdir()):
        target = scratch / kind.name
        target.mkdir()
        found[kind.name] = transcript(OnnxEngine(target, export_graph(kind, target), caches=CACHES))
    sys.stdout.write(json.dumps(found) + "\n")


main(*map(Path, sys.argv[1:]))
