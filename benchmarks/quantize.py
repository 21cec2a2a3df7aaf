"""What quantizing costs and what it is worth: our Jobs' programs beside llm-compressor called directly, and vLLM.

Every round has each recipe both ways, in another order; ratios are of the same round. Needs a quiet machine and the
local cluster (`make cluster`); about an hour on two cores. `--part` runs a part, for trying, and writes nothing.
"""

from __future__ import annotations

import argparse
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from statistics import median

from benchmarks.quantized_engines import Compiled, Served, compiled, served
from benchmarks.quantized_hits import Hit, warm_hits
from benchmarks.report import RESULTS, report
from deploy.fixtures.environment import artifacts_environment
from deploy.fixtures.pair import model_pair
from deploy.local.layout import REPOSITORY
from tandem_contracts.artifact_job import (
    EVALUATE_MODULE,
    QUANTIZE_MODULE,
    Evaluated,
    Made,
    evaluate_arguments,
    quantize_arguments,
)
from tandem_contracts.quality import Quality
from tandem_contracts.recipe import Algorithm, CalibrationSettings, Recipe, Scheme
from tandem_runtime.artifacts.weights import predicted_bytes

ROUNDS = 3
SAMPLES = CalibrationSettings(samples=32, sequence_tokens=256)
FEW = CalibrationSettings(samples=8, sequence_tokens=256)
TIMED = (
    Recipe(scheme=Scheme.W8A8, algorithm=Algorithm.RTN),
    Recipe(scheme=Scheme.W4A16, algorithm=Algorithm.GPTQ),
    Recipe(scheme=Scheme.W8A8, algorithm=Algorithm.SMOOTH_QUANT_GPTQ),
)
LARGE = (
    Recipe(scheme=Scheme.FP8_DYNAMIC, algorithm=Algorithm.RTN),
    Recipe(scheme=Scheme.W4A16, algorithm=Algorithm.RTN),
    Recipe(scheme=Scheme.W4A16, algorithm=Algorithm.GPTQ),
)
SERVED = (
    Recipe(scheme=Scheme.W8A8, algorithm=Algorithm.RTN),
    Recipe(scheme=Scheme.W8A8, algorithm=Algorithm.SMOOTH_QUANT_GPTQ),
    Recipe(scheme=Scheme.W4A16, algorithm=Algorithm.RTN),
    Recipe(scheme=Scheme.W4A16, algorithm=Algorithm.GPTQ),
    Recipe(scheme=Scheme.W4A16_ASYM, algorithm=Algorithm.GPTQ),
    Recipe(scheme=Scheme.FP8_DYNAMIC, algorithm=Algorithm.RTN),
)
COMPILED = (
    Recipe(scheme=Scheme.W8A8, algorithm=Algorithm.RTN),
    Recipe(scheme=Scheme.W4A16, algorithm=Algorithm.GPTQ),
)
REPLICAS = (1, 4)
PARTS = ("hits", "compiled", "served", "memory", "steps")


@dataclass(frozen=True)
class Run:
    """One process: how long it took, and the most memory that it had."""

    seconds: float
    peak_bytes: int
    word: str = ""


@dataclass
class Results:
    """Everything that was measured."""

    ours: dict[str, list[Run]] = field(default_factory=dict)
    direct: dict[str, list[Run]] = field(default_factory=dict)
    floor_bytes: int = 0
    peaks: dict[str, float] = field(default_factory=dict)
    """Memory above the floor for each byte of the model."""
    sizes: dict[str, float] = field(default_factory=dict)
    """Real over predicted."""
    losses: dict[str, Quality] = field(default_factory=dict)
    served: dict[str, Served] = field(default_factory=dict)
    compiled: dict[str, Compiled] = field(default_factory=dict)
    """Engines that compile, which those of the class cpu do only where they are told to."""
    hits: list[Hit] = field(default_factory=list)


def main() -> int:
    """Measure everything and report."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.quantize", description=__doc__)
    parser.add_argument("--json", type=Path, default=RESULTS / "quantize.json", help="where the results are written")
    parser.add_argument("--part", choices=PARTS, action="append", help="only this part; nothing is written")
    options = parser.parse_args()
    parts, results = options.part or PARTS, Results()
    source = model_pair().verifier
    with tempfile.TemporaryDirectory(prefix="tandem-quantize-") as scratch:
        measures: Mapping[str, Callable[[], None]] = {
            "steps": partial(_steps, source, Path(scratch) / "steps", results),
            "memory": partial(_memory, source, Path(scratch) / "memory", results),
            "served": partial(_served, source, Path(scratch) / "served", results),
            "compiled": partial(_compiled, source, Path(scratch) / "compiled", results),
            "hits": partial(_hits, results),
        }
        for part in parts:
            begun = time.monotonic()
            measures[part]()
            sys.stderr.write(f"{part}: {time.monotonic() - begun:.0f} s\n")
            sys.stderr.flush()
    table = _table(results)
    if options.part:
        sys.stdout.write(f"{table}\n")
        return 0
    report("quantize", _figures(results), table=table, path=options.json)
    return 0


def _steps(source: Path, folder: Path, results: Results) -> None:
    """The quantize step as a Job runs it, and the same call by itself."""
    order = random.Random(1)  # noqa: S311
    for number in range(ROUNDS):
        ways = [(recipe, way) for recipe in TIMED for way in ("ours", "direct")]
        order.shuffle(ways)
        for recipe, way in ways:
            name, target = _name(recipe), folder / f"{number}-{_name(recipe)}-{way}"
            if way == "ours":
                results.ours.setdefault(name, []).append(_quantized(source, target, recipe, SAMPLES))
            else:
                sizes = (str(SAMPLES.samples), str(SAMPLES.sequence_tokens))
                run = _direct("direct", str(source), str(target), recipe.scheme, recipe.algorithm, *sizes)
                results.direct.setdefault(name, []).append(run)


def _memory(source: Path, folder: Path, results: Results) -> None:
    """The most memory of a step above that of its imports, for each byte of a model of 409 M parameters."""
    results.floor_bytes = min(_direct("imports").peak_bytes for _ in range(2))
    model = folder / "large"
    model.mkdir(parents=True)
    _direct("large", str(model), str(source))
    size = sum(path.stat().st_size for path in model.glob("*.safetensors"))
    for recipe in LARGE:
        run = _quantized(model, folder / _name(recipe), recipe, FEW)
        results.peaks[_name(recipe)] = (run.peak_bytes - results.floor_bytes) / size
        results.sizes[f"large {_name(recipe)}"] = _size_of(run) / predicted_bytes(model, recipe)


def _served(source: Path, folder: Path, results: Results) -> None:
    """Each form as vLLM serves it, and what it has cost."""
    results.served["BF16"] = served(source, REPLICAS, folder / "engines")
    for recipe in SERVED:
        name = _name(recipe)
        run = _quantized(source, folder / name, recipe, SAMPLES)
        results.sizes[name] = _size_of(run) / predicted_bytes(source, recipe)
        results.losses[name] = _loss(source, folder / name)
        replicas = REPLICAS if name in {"W8A8 RTN", "W4A16 GPTQ"} else (1,)
        results.served[name] = served(folder / name / _KEY, replicas, folder / "engines")


def _compiled(source: Path, folder: Path, results: Results) -> None:
    """How soon replicas answer with and without what the smoke test has compiled for them."""
    results.compiled["BF16"] = compiled(source, REPLICAS, folder / "engines-0")
    for number, recipe in enumerate(COMPILED, 1):
        volume = folder / _name(recipe)
        _quantized(source, volume, recipe, FEW)
        results.compiled[_name(recipe)] = compiled(volume / _KEY, REPLICAS, folder / f"engines-{number}")


def _hits(results: Results) -> None:
    """What a second deployment of the same model costs."""
    results.hits = warm_hits()


_KEY = "v1-" + "a" * 26


def _quantized(source: Path, volume: Path, recipe: Recipe, calibration: CalibrationSettings) -> Run:
    """The program of the Job, on an empty volume. Raises RuntimeError where it does not succeed."""
    arguments = quantize_arguments(
        source=str(source), key=_KEY, owner="benchmark", recipe=recipe, calibration=calibration
    )
    volume.mkdir(parents=True)
    return _program(QUANTIZE_MODULE, arguments, volume)


def _loss(source: Path, volume: Path) -> Quality:
    run = _program(EVALUATE_MODULE, evaluate_arguments(source=str(source), key=_KEY), volume)
    return Evaluated.decode(run.word).quality


def _program(module: str, arguments: Sequence[str], volume: Path) -> Run:
    word = volume / ".last-word"
    options = [f"--volume={volume}", "--metrics-port=0", f"--termination-log={word}"]
    run = _timed([str(artifacts_environment()), "-m", module, *arguments, *options])
    return Run(run.seconds, run.peak_bytes, word.read_text(encoding="utf-8"))


def _direct(*arguments: str) -> Run:
    program = REPOSITORY / "benchmarks" / "quantize_direct.py"
    return _timed([str(artifacts_environment()), str(program), *arguments])


def _timed(command: Sequence[str]) -> Run:
    """Run a process to its end. Raises RuntimeError with the end of its output where it fails."""
    environment = {
        **os.environ,
        "PYTHONPATH": str(REPOSITORY / "runtime"),
        "OMP_WAIT_POLICY": "passive",
        "HF_HUB_OFFLINE": "1",
    }
    with tempfile.TemporaryFile() as output:
        begun = time.monotonic()
        process = subprocess.Popen(command, env=environment, stdout=output, stderr=subprocess.STDOUT)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.monotonic() - begun
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            output.seek(0)
            raise RuntimeError(f"{' '.join(command)}: exit code {process.returncode}\n{output.read()[-2000:].decode()}")
    return Run(seconds, usage.ru_maxrss * 1024)


def _size_of(run: Run) -> float:
    return float(Made.decode(run.word).model.weights_bytes)


def _name(recipe: Recipe) -> str:
    return f"{recipe.scheme} {recipe.algorithm}"


def _figures(results: Results) -> Mapping[str, float]:
    figures: dict[str, float] = {"import_floor_mb": results.floor_bytes / 1e6}
    for name, runs in results.ours.items():
        ratios = [ours.seconds / other.seconds for ours, other in zip(runs, results.direct[name], strict=True)]
        figures[f"{_key(name)}_over_direct"] = median(ratios)
        figures[f"{_key(name)}_over_direct_highest"] = max(ratios)
        figures[f"{_key(name)}_seconds"] = median(run.seconds for run in runs)
    figures |= {f"{_key(name)}_memory_per_byte": value for name, value in results.peaks.items()}
    figures["size_off_percent_most"] = max(abs(100 * (ratio - 1)) for ratio in results.sizes.values())
    for name, each in results.served.items():
        key = _key(name)
        figures[f"{key}_tokens_per_second"] = each.tokens_per_second
        figures[f"{key}_megabytes"] = each.weights_bytes / 1e6
        figures[f"{key}_served_perplexity"] = each.perplexity
        for replicas, seconds in each.ready_seconds.items():
            figures[f"{key}_ready_seconds_{replicas}"] = seconds
            figures[f"{key}_megabytes_read_{replicas}"] = replicas * each.weights_bytes / 1e6
    for name, pair in results.compiled.items():
        for replicas in REPLICAS:
            figures[f"{_key(name)}_compiling_ready_seconds_{replicas}"] = pair.cold[replicas]
            figures[f"{_key(name)}_compile_cache_ready_seconds_{replicas}"] = pair.warm[replicas]
        figures[f"{_key(name)}_compile_cache_megabytes"] = pair.cache_bytes / 1e6
    if results.hits:
        figures["warm_hit_jobs"] = max(hit.jobs for hit in results.hits)
        figures["warm_hit_operator_seconds"] = median(hit.operator_seconds for hit in results.hits)
        figures["warm_hit_operator_seconds_highest"] = max(hit.operator_seconds for hit in results.hits)
        figures["warm_hit_ready_seconds"] = median(hit.whole_seconds for hit in results.hits)
    for name, loss in results.losses.items():
        figures[f"{_key(name)}_kl"] = loss.kl_divergence
        figures[f"{_key(name)}_top1"] = loss.top1_agreement
        figures[f"{_key(name)}_perplexity_increase_percent"] = loss.increase_percent
        figures[f"{_key(name)}_perplexity_increase_percent_upper"] = loss.increase_percent_upper
    return figures


def _key(name: str) -> str:
    return name.replace(" ", "_").lower()


def _table(results: Results) -> str:
    return "\n".join(_lines(results))


def _lines(results: Results) -> Iterator[str]:
    for name, runs in results.ours.items():
        ratios = sorted(a.seconds / b.seconds for a, b in zip(runs, results.direct[name], strict=True))
        yield (
            f"{name:22} {median(run.seconds for run in runs):6.1f} s, over direct {median(ratios):.3f} "
            f"({ratios[0]:.3f} to {ratios[-1]:.3f}); bar 1.10"
        )
    for name, value in results.peaks.items():
        bar = 0.9 if name.endswith("RTN") else 2.3
        yield f"{name:22} {value:.2f} bytes of memory for each byte of the model; bar {bar}"
    for name, ratio in results.sizes.items():
        yield f"{name:28} size {100 * (ratio - 1):+.2f} % off what was predicted; bar 2 %"
    for name, each in results.served.items():
        loss = results.losses.get(name)
        cost = f"KL {loss.kl_divergence:.5f}, top-1 {100 * loss.top1_agreement:.1f} %" if loss else ""
        ready = ", ".join(f"{count} Ready in {seconds:.1f} s" for count, seconds in each.ready_seconds.items())
        yield (
            f"{name:22} {each.weights_bytes / 1e6:6.1f} MB, {each.tokens_per_second:6.1f} tokens/s, "
            f"perplexity {each.perplexity:.2f}, {ready}; {each.kernel or '-'}; {cost}"
        )
    for name, pair in results.compiled.items():
        for replicas, cold in pair.cold.items():
            yield (
                f"{name:22} {replicas} Ready in {cold:.1f} s compiling, in {pair.warm[replicas]:.1f} s with a compile "
                f"cache of {pair.cache_bytes / 1e6:.1f} MB: {pair.warm[replicas] / cold:.2f}"
            )
    if results.hits:
        seconds = sorted(hit.operator_seconds for hit in results.hits)
        yield (
            f"a model that is published: {max(hit.jobs for hit in results.hits)} Jobs (bar 0), Ready after "
            f"{median(seconds):.2f} s of operator time ({seconds[0]:.2f} to {seconds[-1]:.2f}; bar 3)"
        )


if __name__ == "__main__":
    sys.exit(main())
