"""What scaling costs the operator: processor time of a decision for 64 pods, and of reading N pods at their pods, and
from Prometheus.

The pages are one that vLLM has told, with its numbers replaced by others of as many digits; Prometheus' answers are the
same series with the labels that a scrape adds. Both are served from another process. The decision is made by all that
can be learned, for pods under a load that varies.
"""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import random
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import cycle
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median

from aiohttp import web
from prometheus_client.parser import text_string_to_metric_families

from benchmarks.report import options_of, report
from tandem_operator.config import PrometheusConfig
from tandem_operator.engine_readings import READ_EVERY_SECONDS as AT_PODS_SECONDS
from tandem_operator.engine_readings import EngineReadings
from tandem_operator.prometheus_readings import READ_EVERY_SECONDS as FROM_PROMETHEUS_SECONDS
from tandem_operator.prometheus_readings import PrometheusReadings
from tandem_operator.scaling import decide as module
from tandem_operator.scaling.decision import Decision
from tandem_operator.scaling.memory import Memory
from tandem_operator.scaling.observed import Observed
from tandem_operator.scaling.policy import Bounds, Policy
from tandem_operator.scaling.reading import FAMILIES
from tandem_operator.store import Key
from tests.unit.operator import scaling_world

PAGE = Path(__file__).parent / "scaling" / "vllm-page.txt"
DECIDED_PODS, READ_PODS = 64, 200
SIZES = (10, 50, 200, 500, 1000, 1500)
ROUNDS = 6
VARIANTS = 8
"""Of the page, which take turns."""
MOST_DECISION_MS, MOST_CORE_PERCENT = 50.0, 15.0
KEY = Key("chat", "llama-70b")
_COUNT = re.compile(r" (\d+\.\d+)$", re.MULTILINE)


@dataclass(frozen=True)
class Round:
    """Of reading all pods once."""

    core_percent: float
    """Processor time of this process, over the time that there is for a round."""
    seconds: float
    """From its begin to its end, the other process' work on the same cores included."""


def main() -> int:
    """Measure both and report."""
    options = options_of("scaling_costs", __doc__)
    decisions = decision_milliseconds()
    at_pods, from_prometheus = asyncio.run(_read_all())
    percent, most = at_pods[READ_PODS].core_percent, pods_within(at_pods, MOST_CORE_PERCENT)
    page_bytes = PAGE.stat().st_size
    figures = {
        "decision_ms_median": median(decisions),
        "decision_ms_most": max(decisions),
        "reading_core_percent": percent,
        "page_bytes": float(page_bytes),
        "pods_within_core_percent": most,
    }
    lines = [
        f"a decision for {DECIDED_PODS} pods    {median(decisions):.1f} ms, {max(decisions):.1f} at most"
        f"   (wanted: {MOST_DECISION_MS:.0f})",
        f"reading {READ_PODS} pods every {AT_PODS_SECONDS:.0f} s   {percent:.1f} % of a core"
        f"   (wanted: {MOST_CORE_PERCENT:.0f}), pages of {page_bytes / 1000:.0f} kB",
        "",
        f"pods   at the pods, every {AT_PODS_SECONDS:.0f} s     from Prometheus, every {FROM_PROMETHEUS_SECONDS:.0f} s",
    ]
    for size in SIZES:
        direct, asked = at_pods[size], from_prometheus[size]
        lines.append(
            f"{size:4}   {direct.core_percent:5.1f} % of a core, {direct.seconds:4.1f} s"
            f"   {asked.core_percent:5.1f} % of a core, {asked.seconds:4.1f} s"
        )
        figures |= {
            f"pods_{size}_core_percent": direct.core_percent,
            f"pods_{size}_seconds": direct.seconds,
            f"prometheus_{size}_core_percent": asked.core_percent,
            f"prometheus_{size}_seconds": asked.seconds,
        }
    lines.append(f"at the pods {MOST_CORE_PERCENT:.0f} % of a core are enough for {most:.0f}")
    report("scaling_costs", figures, table="\n".join(lines), path=options.json)
    return 0


def pods_within(measured: Mapping[int, Round], percent: float) -> float:
    """As many as can be read with so much of a core, by linear interpolation."""
    below = max((size for size, each in measured.items() if each.core_percent <= percent), default=0)
    above = min((size for size in measured if size > below), default=below)
    if below in {0, above}:
        return float(below)
    low, high = measured[below].core_percent, measured[above].core_percent
    return below + (above - below) * (percent - low) / (high - low)


def decision_milliseconds() -> list[float]:
    """Processor time of each decision, once the model of step times is full."""
    policy = scaling_world.make_policy(bounds=Bounds(DECIDED_PODS, DECIDED_PODS))
    world = scaling_world.World(policy=policy, wanted=DECIDED_PODS)
    world.vary(1800, low=20.0, high=380.0)
    found = []

    def timed(policy: Policy, seen: Observed, memory: Memory) -> tuple[Decision, Memory]:
        begun = time.process_time()
        decided = module.decide(policy, seen, memory)
        found.append(1000 * (time.process_time() - begun))
        return decided

    for i in range(300):
        world.rate = 20.0 + 60.0 * (i // 6 % 7)
        world.tick(decide=timed)
    return found


async def _read_all() -> tuple[dict[int, Round], dict[int, Round]]:
    """Of each number of pods: read at the pods, and from Prometheus."""
    ours, theirs = multiprocessing.Pipe()
    server = multiprocessing.get_context("spawn").Process(target=_serve, args=(theirs,), daemon=True)
    server.start()
    port = await asyncio.to_thread(ours.recv)
    now = [0.0]
    at_pods = EngineReadings(port=port, clock=lambda: now[0])
    config = PrometheusConfig(address=f"http://127.0.0.1:{port}", timeout_seconds=30)
    prometheus = PrometheusReadings(config, clock=lambda: now[0])
    try:
        return (
            {size: await _read(at_pods, size, now, AT_PODS_SECONDS) for size in SIZES},
            {size: await _read(prometheus, size, now, FROM_PROMETHEUS_SECONDS) for size in SIZES},
        )
    finally:
        await at_pods.close()
        await prometheus.close()
        server.terminate()


async def _read(readings: EngineReadings | PrometheusReadings, size: int, now: list[float], every: float) -> Round:
    """A round of all pods, by the median of some."""
    addresses = {_name(i): f"127.0.{i // 250}.{i % 250 + 1}" for i in range(size)}
    spent, took = [], []
    for _ in range(ROUNDS):
        now[0] += every
        begun, begun_at = time.process_time(), time.perf_counter()
        readings.latest(KEY, addresses)
        await readings.settle(KEY)
        found = readings.latest(KEY, addresses)
        spent.append(time.process_time() - begun)
        took.append(time.perf_counter() - begun_at)
        if len(found) != size:
            raise RuntimeError(f"only {len(found)} of {size} pods were read: {readings.trouble(KEY)}")
    readings.forget(KEY)
    return Round(100 * median(spent[1:]) / every, median(took[1:]))


def _name(number: int) -> str:
    return f"llama-70b-verifier-7f3a90c1-5d9c8b7f6-{number:05}"


def _serve(pipe: Connection) -> None:
    """Pages, on every address of this machine's loopback, and what Prometheus would answer of pods."""
    text = PAGE.read_text(encoding="utf-8")
    chance = random.Random(1)  # noqa: S311 -- no secret
    pages = [_COUNT.sub(lambda found: f" {_other(found[1], chance)}", text) for _ in range(VARIANTS)]
    turns = cycle(range(VARIANTS))
    answers: dict[str, str] = {}

    async def page(_: web.Request) -> web.Response:
        return web.Response(text=pages[next(turns)])

    async def query(request: web.Request) -> web.Response:
        asked = str((await request.post())["query"])
        if asked not in answers:
            pods = asked.partition('pod=~"')[2].partition('"')[0].split("|")
            answers[asked] = _answer(pods, pages[next(turns)])
        return web.Response(text=answers[asked], content_type="application/json")

    async def run() -> None:
        application = web.Application()
        application.router.add_get("/metrics", page)
        application.router.add_post("/api/v1/query", query)
        runner = web.AppRunner(application, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "0.0.0.0", 0).start()  # noqa: S104 -- for all of 127.0.0.0/8
        pipe.send(runner.addresses[0][1])
        await asyncio.Event().wait()

    asyncio.run(run())


def _answer(pods: list[str], page: str) -> str:
    """All that is read of a page, and the time of its scrape, for each pod."""
    lines = (line.rpartition(" ") for line in page.splitlines() if line.startswith(FAMILIES))
    known = [(_labels(series), value) for series, _, value in lines]
    known.append(({"engine": "0", "tandem_scraped": "1"}, "1700000000.123"))
    scraped = {"instance": "10.128.3.217:8000", "job": "tandem/verifiers", "namespace": KEY.namespace}
    result = [
        {"metric": dict(sorted({**labels, **scraped, "pod": pod}.items())), "value": [1700000000.123, value]}
        for pod in pods
        for labels, value in known
    ]
    answer = {"status": "success", "data": {"resultType": "vector", "result": result}}
    return json.dumps(answer, separators=(",", ":"))


def _labels(series: str) -> dict[str, str]:
    (family,) = text_string_to_metric_families(f"{series} 0\n")
    (sample,) = family.samples
    return {"__name__": sample.name, **sample.labels}


def _other(number: str, chance: random.Random) -> str:
    return "".join(chance.choice("123456789") if digit.isdigit() else digit for digit in number)


if __name__ == "__main__":
    raise SystemExit(main())
