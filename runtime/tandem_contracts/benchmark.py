"""A benchmark of a deployment: how its Job's program is started, what it asks for, and what its last word is. Pure.

Must not know what the flags of vLLM's benchmark client are called, nor who starts the Job.
"""

import dataclasses
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, Self

from tandem_contracts.launch import TERMINATION_LOG
from tandem_contracts.options import OptionsParser, arguments_of, flag_of, refusal_of
from tandem_contracts.ports import HTTP_PORT, METRICS_PORT
from tandem_contracts.termination import MESSAGE_LIMIT_BYTES

BENCHMARK_MODULE = "tandem_runtime.benchmark"
ERROR_LIMIT = 1000
"""Characters of the first error that is told."""
MOST = 1e15
"""Of every figure: more is no measurement."""


class InvalidBenchmarkOptionsError(ValueError):
    """An option is unknown, missing or outside its range; the message names flag, value and range."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Load:
    """What is asked of a deployment: prompts of random tokens, and answers that are never shorter than is said.

    `rate` is requests a second, whatever is still being answered. 0: `concurrency` of them at any time. The same seed
    asks the same prompts, which the engines' prefix cache then knows.
    """

    prompts: int = 100
    input_tokens: int = 512
    output_tokens: int = 128
    concurrency: int = 8
    rate: float = 0.0
    temperature: float = 0.0
    seed: int = 0

    def to_data(self) -> dict[str, Any]:
        """JSON values."""
        return {_wire(name): value for name, value in dataclasses.asdict(self).items()}

    @classmethod
    def from_data(cls, data: object) -> Self:
        """The reverse. Raises ValueError."""
        given = _object(data, "load")
        kinds = {field.name: field.type for field in dataclasses.fields(cls)}
        values: dict[str, Any] = {}
        for name, kind in kinds.items():
            values[name] = int(_number(given, name)) if kind is int else float(_number(given, name))
        return cls(**values)


RANGES: Mapping[str, tuple[float, float]] = {
    "prompts": (1, 100_000),
    "input_tokens": (1, 1_000_000),
    "output_tokens": (1, 100_000),
    "concurrency": (1, 4_096),
    "rate": (0, 10_000),
    "temperature": (0, 2),
    "seed": (0, 2**31 - 1),
}
"""Least and most of each figure of a load."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class BenchmarkOptions(Load):
    """All that the program is told. Raises InvalidBenchmarkOptionsError for values out of their ranges.

    `address` is the Service's, `http://HOST`. `tokenizer` is a folder. `verifiers` and `drafts` are addresses of pods,
    with commas between them: what they say of themselves is read while they answer.
    """

    address: str
    served_name: str
    tokenizer: str
    verifiers: str = ""
    drafts: str = ""
    http_port: int = HTTP_PORT
    metrics_port: int = METRICS_PORT
    termination_log: str = TERMINATION_LOG

    def __post_init__(self) -> None:
        for name, (least, most) in RANGES.items():
            value = getattr(self, name)
            if not least <= value <= most:
                allowed = f"from {least:g} to {most:.12g}"
                raise InvalidBenchmarkOptionsError(refusal_of(flag_of(name), value, allowed=allowed))

    @property
    def load(self) -> Load:
        """What is asked."""
        return Load(**{field.name: getattr(self, field.name) for field in dataclasses.fields(Load)})

    def to_arguments(self) -> list[str]:
        """The arguments after `python -m tandem_runtime.benchmark`; what equals its default is left out."""
        return arguments_of(self, dataclasses.fields(self))

    @classmethod
    def parse(cls, arguments: Sequence[str]) -> Self:
        """What `arguments` spell: the inverse of `to_arguments`. Raises InvalidBenchmarkOptionsError."""
        parser = OptionsParser(BENCHMARK_MODULE, error_type=InvalidBenchmarkOptionsError)
        parser.add_fields(dataclasses.fields(cls))
        return cls(**vars(parser.parse_args(arguments)))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Latency:
    """Seconds: the mean, and what so many percent took at most."""

    mean: float
    p50: float
    p95: float
    p99: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class Benchmarked:
    """What was measured, at the client; None: not known.

    `first_token`, `output_token`, `piece` and `request` are latencies: to the first token, per token after it, between
    two pieces of an answer (a step of the engine, which with drafts gives several tokens), of the whole request.
    `acceptance` is the share of drafted tokens that verifiers took; `kv_usage` the most that was in use of any
    verifier's KV cache, from 0 to 1; memory is the most that a pod of the role had as its working set.
    """

    load: Load
    completed: int
    failed: int
    seconds: float
    input_tokens: int
    output_tokens: int
    requests_per_second: float
    output_tokens_per_second: float
    first_token: Latency | None = None
    output_token: Latency | None = None
    piece: Latency | None = None
    request: Latency | None = None
    acceptance: float | None = None
    kv_usage: float | None = None
    verifier_memory_bytes: int | None = None
    draft_memory_bytes: int | None = None
    error: str = ""
    """Of the first request that failed."""

    def encode(self) -> str:
        """JSON of at most MESSAGE_LIMIT_BYTES, numbers with six digits; the error is left out where it is too long."""
        text = _json(self)
        return text if len(text.encode()) <= MESSAGE_LIMIT_BYTES else _json(dataclasses.replace(self, error=""))

    @classmethod
    def decode(cls, text: str) -> Self:
        """The reverse. Raises ValueError for anything else, NaN and infinity included."""
        given = _object(json.loads(text), "benchmark")
        values: dict[str, Any] = {"load": Load.from_data(given.get("load"))}
        for name in ("completed", "failed", "input_tokens", "output_tokens"):
            values[name] = int(_number(given, name))
        for name in ("seconds", "requests_per_second", "output_tokens_per_second"):
            values[name] = _number(given, name)
        for name in ("first_token", "output_token", "piece", "request"):
            values[name] = _latency(given[_wire(name)]) if _wire(name) in given else None
        for name in ("acceptance", "kv_usage"):
            values[name] = _number(given, name) if _wire(name) in given else None
        for name in ("verifier_memory_bytes", "draft_memory_bytes"):
            values[name] = int(_number(given, name)) if _wire(name) in given else None
        return cls(**values, error=str(given.get("error", ""))[:ERROR_LIMIT])


_BAR = re.compile(r"(\d+)/(\d+) \[")


def progress_in(log: str, prompts: int) -> int | None:
    """Requests that are over, by the client's own progress bar in a log; None before the first."""
    done = [int(found[1]) for found in _BAR.finditer(log) if int(found[2]) == prompts]
    return done[-1] if done else None


def _json(result: Benchmarked) -> str:
    data = {_wire(name): _rounded(value) for name, value in dataclasses.asdict(result).items() if value is not None}
    return json.dumps({**data, "load": result.load.to_data()}, ensure_ascii=False)


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _rounded(each) for name, each in value.items()}
    return float(f"{value:.6g}") if isinstance(value, float) else value


def _latency(data: object) -> Latency:
    given = _object(data, "latency")
    return Latency(**{field.name: _number(given, field.name) for field in dataclasses.fields(Latency)})


def _object(data: object, what: str) -> Mapping[str, Any]:
    if not isinstance(data, Mapping):
        raise ValueError(f"{what} (is {str(data)[:100]}): must be an object")  # noqa: TRY004 - one error for all
    return data


def _number(given: Mapping[str, Any], name: str) -> float:
    value = given.get(_wire(name))
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= MOST:  # NaN is neither
        raise ValueError(f"{_wire(name)} (is {str(value)[:100]}): must be a number from 0 to {MOST:g}")
    return value


def _wire(name: str) -> str:
    head, *rest = name.split("_")
    return head + "".join(word.capitalize() for word in rest)
