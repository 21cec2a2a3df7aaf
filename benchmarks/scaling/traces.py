"""Requests from a trace file, and generators with the statistics of two public ones for machines without the file.

The traces are Azure's "LLM inference trace 2023", conversation and code (AzurePublicDataset, CC-BY-4.0; Patel et al.,
"Splitwise", ISCA 2024). Load is scaled by superposing copies with other arrivals, or by leaving requests out, never
by another pace of time: that would change how fast load grows beside a cold start.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from random import Random

from benchmarks.scaling.requests import Request

TRACE_FOLDER = Path(__file__).parents[2].parent / "shared" / "traces"
CONVERSATION_FILE = TRACE_FOLDER / "azure-llm-2023-conv.csv"
COLUMNS = ("TIMESTAMP", "ContextTokens", "GeneratedTokens")
JITTER_SECONDS = 10.0
"""Of each request of a further copy, either way."""


@dataclass(frozen=True)
class Arrival:
    """Of a trace: seconds since its begin, and lengths."""

    at: float
    prompt_tokens: int
    output_tokens: int


@dataclass(frozen=True)
class Lengths:
    """A distribution by quantiles, with straight lines between them in the logarithm."""

    points: tuple[tuple[float, float], ...]

    def draw(self, random: Random) -> int:
        """One length, 1 at least."""
        share = random.random()
        for (low, below), (high, above) in zip(self.points, self.points[1:], strict=False):
            if share <= high:
                part = (share - low) / (high - low)
                return max(1, round(math.exp(math.log(below) + (math.log(above) - math.log(below)) * part)))
        return round(self.points[-1][1])


CONVERSATION_PROMPTS = Lengths(((0, 10), (0.01, 29), (0.1, 207), (0.5, 1020), (0.9, 2734), (0.99, 4142), (1, 4800)))
CONVERSATION_OUTPUTS = Lengths(
    ((0, 8), (0.01, 16), (0.1, 54), (0.5, 129), (0.68, 350), (0.9, 424), (0.99, 601), (1, 900))
)
"""With the second hump near 400."""
CODE_PROMPTS = Lengths(((0, 8), (0.01, 17), (0.1, 147), (0.5, 1469), (0.9, 5187), (0.99, 7436), (1, 7800)))
CODE_OUTPUTS = Lengths(((0, 5), (0.01, 6), (0.1, 7), (0.5, 13), (0.9, 55), (0.99, 251), (1, 1000)))


def read(path: Path) -> list[Arrival]:
    """A CSV with COLUMNS. Raises ValueError for another header or a row that cannot be read."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = csv.reader(file)
        header = tuple(name.strip() for name in next(rows, []))
        if header[:3] != COLUMNS:
            raise ValueError(f"{path}: its header is {','.join(header)}, it must begin with {','.join(COLUMNS)}")
        found = [_arrival(row, path, line) for line, row in enumerate(rows, start=2) if row]
    if not found:
        raise ValueError(f"{path}: no requests in it")
    found.sort(key=lambda each: each.at)
    return [Arrival(each.at - found[0].at, each.prompt_tokens, each.output_tokens) for each in found]


def _arrival(row: Sequence[str], path: Path, line: int) -> Arrival:
    try:
        at = _seconds(row[0])
        return Arrival(at, max(1, int(float(row[1]))), max(1, int(float(row[2]))))
    except (ValueError, IndexError) as error:
        raise ValueError(f"{path}, line {line}: {error}") from error


def _seconds(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        # Azure writes seven decimals, Python reads six.
        whole, _, fraction = text.strip().partition(".")
        return datetime.fromisoformat(f"{whole}+00:00").timestamp() + float(f"0.{fraction.rstrip('Z') or 0}")


def mean_rate(arrivals: Sequence[Arrival]) -> float:
    """Requests a second."""
    return len(arrivals) / max(arrivals[-1].at, 1e-9)


def scaled(arrivals: Sequence[Arrival], factor: float, random: Random) -> list[Request]:
    """So many times the load: whole copies, of which all but the first are jittered, and a part of one more."""
    end = arrivals[-1].at
    found = []
    copies = math.ceil(factor - 1e-9)
    for copy in range(copies):
        share = min(1.0, factor - copy)
        for each in arrivals:
            if share < 1 and random.random() >= share:
                continue
            at = each.at + (random.uniform(-JITTER_SECONDS, JITTER_SECONDS) if copy else 0.0)
            found.append(Request(min(max(at, 0.0), end), each.prompt_tokens, each.output_tokens))
    return sorted(found, key=lambda request: request.arrival)


def conversation(random: Random, *, seconds: float = 3500.0, rate: float = 5.53) -> list[Arrival]:
    """Poisson-like arrivals (CV 1.1) whose rate drifts from minute to minute between 0.58 and 1.52 of its mean."""
    minutes = [1.0]
    drift = 0.0
    for _ in range(int(seconds / 60) + 1):
        drift = 0.93 * drift + random.gauss(0.0, 0.085)
        minutes.append(min(1.52, max(0.58, 1 + drift)))
    mean = sum(minutes) / len(minutes)

    def rate_at(at: float) -> float:
        minute, part = divmod(at / 60, 1)
        low, high = minutes[int(minute)], minutes[min(int(minute) + 1, len(minutes) - 1)]
        return rate * (low + (high - low) * part) / mean

    found, at = [], 0.0
    while (at := at + gamma_gap(random, cv=1.1) / rate_at(at)) < seconds:
        found.append(Arrival(at, CONVERSATION_PROMPTS.draw(random), CONVERSATION_OUTPUTS.draw(random)))
    return found


def code(random: Random, *, seconds: float = 3436.0) -> list[Arrival]:
    """On and off by turns, exponential with means 38 s and 49 s; while on 5.8 requests/s with CV 2."""
    found, begin = [], 0.0
    while begin < seconds:
        end = min(seconds, begin + random.expovariate(1 / 38.0))
        at = begin
        while (at := at + gamma_gap(random, cv=2.0) / 5.8) < end:
            found.append(Arrival(at, CODE_PROMPTS.draw(random), CODE_OUTPUTS.draw(random)))
        begin = end + random.expovariate(1 / 49.0)
    return found


def gamma_gap(random: Random, *, cv: float) -> float:
    """Between two arrivals at one a second: mean 1, with a coefficient of variation."""
    shape = 1 / cv**2
    return random.gammavariate(shape, 1 / shape)
