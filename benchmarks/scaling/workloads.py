"""Requests and setting of each scenario. S1 to S5 as in ../shared/background/autoscaling.md 7."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from random import Random

from benchmarks.scaling import traces
from benchmarks.scaling.requests import Request, random_of
from benchmarks.scaling.scraping import Fault
from benchmarks.scaling.simulation import Episode, Setting

Stages = list[list[Request]]

RAMP = ((2, 330), (4, 360), (6, 360), (8, 360), (10, 360), (4, 360), (1, 300))
"""Requests a second, and seconds: llm-d's scored episode, 12 480 requests."""
SMALL = Setting(least=3, most=8, start=3)
LARGE = Setting(least=1, most=16, start=3)


@dataclass(frozen=True)
class Workload:
    """Requests by seed, and what they meet."""

    name: str
    title: str
    setting: Setting
    draw: Callable[[Random], Stages]
    settled_at: float | None = None
    """Seconds from which on the load has long been what it is; None where it never is."""

    def stages(self, seed: int) -> Stages:
        """Fresh requests: a run writes into them."""
        return self.draw(random_of(self.name.partition("-")[0], seed))


def ramp_request(at: float, random: Random) -> Request:
    """4000 prompt and 1000 output tokens, as inference-perf draws them for llm-d."""
    prompt = min(4500.0, max(3500.0, random.gauss(4000, 300)))
    output = min(1100.0, max(900.0, random.gauss(1000, 80)))
    return Request(at, round(prompt), round(output))


def steady(rate: float, seconds: float, random: Random) -> list[Request]:
    """Exactly rate · seconds requests at random times: inference-perf's constant load."""
    gaps = [random.expovariate(1.0) for _ in range(int(rate * seconds))]
    scale, at, found = seconds / sum(gaps), 0.0, []
    for gap in gaps:
        at += gap * scale
        found.append(ramp_request(at, random))
    return found


def ramp_in_stages(random: Random) -> Stages:
    """As published: a stage begins once all of the one before is answered."""
    return [steady(rate, seconds, random) for rate, seconds in RAMP]


def ramp(random: Random) -> Stages:
    """The same without pauses, which is harder: load does not wait for the fleet."""
    found, begin = [], 0.0
    for (_, seconds), stage in zip(RAMP, ramp_in_stages(random), strict=True):
        for request in stage:
            request.arrival += begin
        found += stage
        begin += seconds
    return [found]


def _conversations(random: Random) -> Stages:
    file = traces.CONVERSATION_FILE
    arrivals = traces.read(file) if file.is_file() else traces.conversation(random)
    return [traces.scaled(arrivals, 6.0, random)]


def stand_ins(names: Collection[str]) -> list[str]:
    """A sentence for each of these workloads that is not what its title says, for want of a file."""
    file = traces.CONVERSATION_FILE
    if "S2" not in names or file.is_file():
        return []
    return [f"S2 without {file.name}: its requests are drawn by what is known of that trace, and its figures differ."]


def _code(random: Random) -> Stages:
    streams = [traces.code(random) for _ in range(4)]
    return [sorted((request for each in streams for request in traces.scaled(each, 1.0, random)), key=_arrival)]


def _day(random: Random) -> Stages:
    """Four hours as a day: 4 to 24 requests/s, and twice as much for five minutes that nobody has announced."""
    seconds, flash = 4 * 3600.0, 9000.0

    def rate_at(at: float) -> float:
        rate = 14.0 - 10.0 * math.cos(2 * math.pi * at / seconds)
        ramped = min(1.0, max(0.0, min((at - flash) / 60, (flash + 360 - at) / 60)))
        return rate * (1 + ramped)

    found, at = [], 0.0
    while (at := at + traces.gamma_gap(random, cv=1.1) / rate_at(at)) < seconds:
        prompt, output = traces.CONVERSATION_PROMPTS.draw(random), traces.CONVERSATION_OUTPUTS.draw(random)
        found.append(Request(at, prompt, output))
    return [found]


def _shift(random: Random) -> Stages:
    """Eight requests/s; from 20 to 50 minutes prompts are four times and answers twice as long."""
    found, at = [], 0.0
    while (at := at + random.expovariate(8.0)) < 4200.0:
        prompt, output = traces.CONVERSATION_PROMPTS.draw(random), traces.CONVERSATION_OUTPUTS.draw(random)
        is_long = 1200 <= at < 3000
        found.append(Request(at, prompt * 4 if is_long else prompt, output * 2 if is_long else output))
    return [found]


def _constant(rate: float) -> Workload:
    def draw(random: Random) -> Stages:
        return [steady(rate, 7200.0, random)]

    title = f"{rate:g} requests/s of 4000/1000 tokens for two hours"
    return Workload(f"constant-{rate:g}", title, replace(SMALL, start=5), draw, settled_at=1200.0)


def _arrival(request: Request) -> float:
    return request.arrival


def _during_peak(fault: Fault) -> Setting:
    """Six minutes from the middle of the stage of 8 requests/s on."""
    return replace(SMALL, episodes=(Episode(fault, 1250.0, 1610.0),))


MAIN = (
    Workload("S1", "llm-d's ramp, 2 to 10 and back to 1 requests/s of 4000/1000 tokens", SMALL, ramp),
    Workload("S2", "Azure conversations, 6 times", replace(LARGE, start=6), _conversations),
    Workload("S3", "Azure code, 4 times: bursts", LARGE, _code),
    Workload("S4", "a day in 4 hours, with a flash crowd", LARGE, _day),
    Workload("S5", "prompts 4 times as long for half an hour", LARGE, _shift),
)
MORE = (
    Workload("S1-staged", "the ramp with llm-d's pauses between stages", SMALL, ramp_in_stages),
    Workload("S1-outage", "the ramp, no scrape for 6 minutes at its peak", _during_peak(Fault.OUTAGE), ramp),
    Workload("S1-nan", "the ramp, NaN in every fourth pod's page for 6 minutes", _during_peak(Fault.NAN), ramp),
    Workload("S1-stale", "the ramp, pages that stand still for 6 minutes", _during_peak(Fault.STALE), ramp),
    Workload("S1-failures", "the ramp, the busiest pod lost twice", replace(SMALL, failures=(900.0, 1700.0)), ramp),
    Workload("S1-cold30", "the ramp, cold starts of 30 s", replace(SMALL, cold_start_seconds=30.0), ramp),
    Workload("S1-cold240", "the ramp, cold starts of 240 s", replace(SMALL, cold_start_seconds=240.0), ramp),
    *map(_constant, (4, 6, 6.5)),
)
ALL = {workload.name: workload for workload in (*MAIN, *MORE)}


def traced(name: str, arrivals: Sequence[traces.Arrival], rate: float | None) -> Workload:
    """A trace at its own rate, or brought to another mean."""
    factor = 1.0 if rate is None else rate / traces.mean_rate(arrivals)

    def draw(random: Random) -> Stages:
        return [traces.scaled(arrivals, factor, random)]

    return Workload(name, f"{name}, {factor:.2f} times its load", LARGE, draw)
