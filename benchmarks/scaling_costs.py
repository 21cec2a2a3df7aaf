"""What scaling costs the operator: processor time of a decision for 64 pods, and of reading 200 pods every 5 seconds.

The pages are one that vLLM has told, with its numbers replaced by others of as many digits at each reading, and are
served from another process. The decision is made by all that can be learned, for pods under a load that varies.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import random
import re
import time
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median

from aiohttp import web

from benchmarks.report import options_of, report
from tandem_operator.engine_readings import READ_EVERY_SECONDS, EngineReadings
from tandem_operator.scaling import decide as module
from tandem_operator.scaling.decision import Decision
from tandem_operator.scaling.memory import Memory
from tandem_operator.scaling.observed import Observed
from tandem_operator.scaling.policy import Bounds, Policy
from tandem_operator.store import Key
from tests.unit.operator import scaling_world

PAGE = Path(__file__).parent / "scaling" / "vllm-page.txt"
DECIDED_PODS, READ_PODS = 64, 200
ROUNDS = 12
MOST_DECISION_MS, MOST_CORE_PERCENT = 50.0, 15.0
_COUNT = re.compile(r" (\d+\.\d+)$", re.MULTILINE)


def main() -> int:
    """Measure both and report."""
    options = options_of("scaling_costs", __doc__)
    decisions = decision_milliseconds()
    percent = asyncio.run(reading_percent())
    page_bytes = PAGE.stat().st_size
    figures = {
        "decision_ms_median": median(decisions),
        "decision_ms_most": max(decisions),
        "reading_core_percent": percent,
        "page_bytes": float(page_bytes),
    }
    lines = [
        f"a decision for {DECIDED_PODS} pods    {median(decisions):.1f} ms, {max(decisions):.1f} at most"
        f"   (wanted: {MOST_DECISION_MS:.0f})",
        f"reading {READ_PODS} pods every {READ_EVERY_SECONDS:.0f} s   {percent:.1f} % of a core"
        f"   (wanted: {MOST_CORE_PERCENT:.0f}), pages of {page_bytes / 1000:.0f} kB",
    ]
    report("scaling_costs", figures, table="\n".join(lines), path=options.json)
    return 0


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


async def reading_percent() -> float:
    """Processor time of this process for a round of all pods, over the time that there is for one."""
    ours, theirs = multiprocessing.Pipe()
    server = multiprocessing.get_context("spawn").Process(target=_serve, args=(theirs,), daemon=True)
    server.start()
    port = await asyncio.to_thread(ours.recv)
    now = [0.0]
    key = Key("benchmark", "pods")
    readings = EngineReadings(port=port, clock=lambda: now[0])
    addresses = {f"pod-{i}": f"127.0.0.{i + 1}" for i in range(READ_PODS)}
    spent = []
    for _ in range(ROUNDS):
        now[0] += READ_EVERY_SECONDS
        begun = time.process_time()
        readings.latest(key, addresses)
        await readings.settle(key)
        found = readings.latest(key, addresses)
        spent.append(time.process_time() - begun)
        if len(found) != READ_PODS or any(each.at != now[0] for each in found.values()):
            raise RuntimeError(f"only {len(found)} of {READ_PODS} pods were read")
    await readings.close()
    server.terminate()
    return 100 * median(spent[1:]) / READ_EVERY_SECONDS


def _serve(pipe: Connection) -> None:
    """Pages, on every address of this machine's loopback."""
    text = PAGE.read_text(encoding="utf-8")
    chance = random.Random(1)  # noqa: S311 -- no secret

    async def page(_: web.Request) -> web.Response:
        return web.Response(text=_COUNT.sub(lambda found: f" {_other(found[1], chance)}", text))

    async def run() -> None:
        application = web.Application()
        application.router.add_get("/metrics", page)
        runner = web.AppRunner(application, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "0.0.0.0", 0).start()  # noqa: S104 -- for all of 127.0.0.0/8
        pipe.send(runner.addresses[0][1])
        await asyncio.Event().wait()

    asyncio.run(run())


def _other(number: str, chance: random.Random) -> str:
    return "".join(chance.choice("123456789") if digit.isdigit() else digit for digit in number)


if __name__ == "__main__":
    raise SystemExit(main())
