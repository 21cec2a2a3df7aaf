"""What a draft costs on a GPU, what verifying costs there, and which speed-up both predict.

Needs torch and transformers. Models have the shapes of published ones and random weights: how long a pass takes does
not depend on them. What is accepted does, so the speed-up is computed for several acceptance rates. Where vLLM is
installed, too, it is measured end to end, with one rate (`benchmarks.gpu_engines`).
"""

from __future__ import annotations

import argparse
import gc
import importlib.metadata
import importlib.util
import json
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.report import RESULTS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from benchmarks.gpu_passes import Shape, Times
    from tandem_runtime.draft_server.graph_engine import GraphEngine

DEPTHS = (1, 2, 4, 8)
BATCHES = (1, 8, 32)
COMPILED, COMPILED_BATCHES = "0.5B", (1, 8)
"""Each shape of a pass is compiled anew, which takes minutes."""
CONTEXT = 512
ROUNDS = 15
ACCEPTANCES = (0.6, 0.75, 0.85)
ROUND_TRIP_MS = 0.5
"""Between two pods of one zone, beside the time of the draft itself."""


def _shape(*, hidden: int, layers: int, heads: int, key_value_heads: int, intermediate: int, vocabulary: int) -> Shape:
    return {
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": key_value_heads,
        "intermediate_size": intermediate,
        "vocab_size": vocabulary,
    }


DRAFTS = {
    "0.5B": _shape(hidden=896, layers=24, heads=14, key_value_heads=2, intermediate=4864, vocabulary=151936),
    "1B": _shape(hidden=2048, layers=16, heads=32, key_value_heads=8, intermediate=8192, vocabulary=128256),
}
VERIFIERS = {
    "7B": _shape(hidden=4096, layers=32, heads=32, key_value_heads=32, intermediate=11008, vocabulary=32000),
    "13B": _shape(hidden=5120, layers=40, heads=40, key_value_heads=40, intermediate=13824, vocabulary=32000),
}
"""Shapes of Qwen2.5-0.5B, Llama-3.2-1B, Llama-2-7B and Llama-2-13B."""


def main() -> int:
    """Measure, print and write; nothing of it where there is no GPU."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.drafting_gpu", description=__doc__)
    parser.add_argument(
        "--json", type=Path, default=RESULTS / "drafting_gpu.json", help="where the results are written"
    )
    options = parser.parse_args()
    if missing := _missing():
        print(f"nothing was measured: {missing}")
        return 0
    found = measured(DRAFTS, VERIFIERS, device="cuda")
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    return 0


def _missing() -> str:
    for package in ("torch", "transformers"):
        if importlib.util.find_spec(package) is None:
            return f"{package} is not installed"
    import torch

    return "" if torch.cuda.is_available() else "there is no GPU that torch can use"


def measured(drafts: dict[str, Shape], verifiers: dict[str, Shape], *, device: str) -> dict[str, Any]:
    """All figures, printed as they come."""
    import torch

    from benchmarks.gpu_passes import WAYS, checked_drafts, compiled

    drafted, same = checked_drafts(device)
    print(f"drafts that are what Transformers generates, contexts cut back between them: {same} of {drafted}")
    draft_ms: dict[str, Times] = {}
    failed: dict[str, str] = {}
    for name, shape in drafts.items():
        for way, make in WAYS.items():
            if make is compiled and name != COMPILED:
                continue
            begun = time.monotonic()
            try:
                draft_ms[f"{name}, {way}"] = _draft_ms(
                    shape, make, batches=COMPILED_BATCHES if make is compiled else BATCHES, device=device
                )
                print(_table(f"a draft by {name}, {way}, in ms", draft_ms[f"{name}, {way}"]))
            except RuntimeError as failure:  # a way that fails is told, and the others are measured
                failed[f"{name}, {way}"] = str(failure).splitlines()[0]
                print(f"{name}, {way}: {type(failure).__name__}: {failure}")
            print(f"({time.monotonic() - begun:.0f} s)", flush=True)
            _emptied(device)
    verify_ms: dict[str, Times] = {}
    for name, shape in verifiers.items():
        try:
            verify_ms[name] = _verify_ms(shape, device)
        except RuntimeError as failure:
            failed[name] = str(failure).splitlines()[0]
            print(f"{name}: {type(failure).__name__}: {failure}", flush=True)
        else:
            print(_table(f"verifying by {name}, in ms; k=0 is a plain step", verify_ms[name]), flush=True)
        _emptied(device)
    predicted = {
        f"{draft} for {verifier}": predictions(verify, draft_ms[draft])
        for verifier, verify in verify_ms.items()
        for draft in draft_ms
    }
    print(_predicted_table(predicted))
    engines: dict[str, Any] = {"vllm": "not installed: no end to end"}
    if importlib.util.find_spec("vllm") is not None:
        from benchmarks.gpu_engines import end_to_end

        shared = {"vocab_size": VERIFIERS["7B"]["vocab_size"]}
        engines = {
            "vllm": importlib.metadata.version("vllm"),
            "end_to_end": end_to_end(VERIFIERS["7B"], {**DRAFTS["0.5B"], **shared}, batches=BATCHES),
        }
    print(json.dumps(engines, indent=2))
    return {
        "benchmark": "drafting_gpu",
        "at": datetime.now(UTC).strftime("%Y-%m-%d"),
        "machine": {
            "gpu": torch.cuda.get_device_name() if device == "cuda" else "none",
            "torch": torch.__version__,
            "transformers": importlib.metadata.version("transformers"),
        },
        "context_tokens": CONTEXT,
        "round_trip_ms_assumed": ROUND_TRIP_MS,
        "checked_drafts": drafted,
        "checked_drafts_same": same,
        "draft_ms": _rounded(draft_ms),
        "failed": failed,
        "verify_ms": _rounded(verify_ms),
        "predicted": predicted,
        **engines,
    }


def _draft_ms(shape: Shape, make: Callable[..., GraphEngine], *, batches: Sequence[int], device: str) -> Times:
    from benchmarks.gpu_passes import Drafting

    drafting = Drafting(shape, make, most=max(BATCHES), depth=max(DEPTHS), device=device)
    return {
        batch: {depth: drafting.milliseconds(batch, depth, context=CONTEXT, rounds=ROUNDS) for depth in DEPTHS}
        for batch in batches
    }


def _verify_ms(shape: Shape, device: str) -> Times:
    from benchmarks.gpu_passes import Verifying

    verifying = Verifying(shape, context=CONTEXT, depth=max(DEPTHS), device=device)
    return {
        batch: {depth: verifying.milliseconds(batch, depth, rounds=ROUNDS) for depth in (0, *DEPTHS)}
        for batch in BATCHES
    }


def _emptied(device: str) -> None:
    import torch

    gc.collect()
    if device == "cuda":
        torch.cuda.empty_cache()


def predictions(verify_ms: Times, draft_ms: Times) -> dict[str, dict[str, float]]:
    """S = E(k) V(0) / (V(k) + R + D(k)), E(k) = (1 - a^(k+1)) / (1 - a), at the best depth (arXiv 2211.17192).

    Depth 0, a speed-up of 1, where every other one loses.
    """
    best: dict[str, dict[str, float]] = {}
    for batch in draft_ms:
        for acceptance in ACCEPTANCES:
            speedups = {0: 1.0} | {
                depth: (1 - acceptance ** (depth + 1))
                / (1 - acceptance)
                * verify_ms[batch][0]
                / (verify_ms[batch][depth] + ROUND_TRIP_MS + draft_ms[batch][depth])
                for depth in DEPTHS
            }
            depth = max(speedups, key=speedups.__getitem__)
            best[f"batch {batch}, acceptance {acceptance}"] = {"depth": depth, "speedup": round(speedups[depth], 2)}
    return best


def _rounded(times: dict[str, Times]) -> dict[str, Times]:
    return {
        name: {batch: {depth: round(value, 3) for depth, value in row.items()} for batch, row in rows.items()}
        for name, rows in times.items()
    }


def _table(title: str, times: Times) -> str:
    depths = sorted(next(iter(times.values())))
    lines = [title, "batch " + "".join(f"{f'k={depth}':>9}" for depth in depths)]
    lines += [f"{batch:>5} " + "".join(f"{row[depth]:>9.2f}" for depth in depths) for batch, row in times.items()]
    return "\n".join(lines)


def _predicted_table(predicted: dict[str, dict[str, dict[str, float]]]) -> str:
    lines = [f"predicted speed-up at the best depth, with a round trip of {ROUND_TRIP_MS} ms"]
    for pair, best in predicted.items():
        lines.append(pair)
        lines += [f"  {case}: {found['speedup']:.2f} at k={found['depth']}" for case, found in best.items()]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
