"""The wake gate: what 1,000 held requests cost in memory, and what the gate adds to the wake of a pod.

The gate is a process of its own, on loopback. What it adds is measured from the moment at which a pod listens: to the
first byte of its answer by way of the gate, which held the request, less the same for a client that connects to the
pod at that very moment. The pod answers at once, so that nothing but the gate and the connections takes time.
"""

from __future__ import annotations

import asyncio
import os
import random
import resource
import socket
import statistics
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Self

import aiohttp
from aiohttp import web

from benchmarks.report import options_of, report
from tandem_contracts import metrics
from tandem_contracts.gate import GATE_MODULE, GateOptions

HOST = "127.0.0.1"
PATH = "/v1/chat/completions"
HELD = 1000
BODY_BYTES = 4096
TRIALS = 100
LOOKED_SECONDS = 5.0
LIMIT_SECONDS = 60.0
MEBIBYTE = 1024 * 1024
FILES = 8192


async def main() -> int:
    """Measure both and report."""
    options = options_of("wake_gate", __doc__)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(FILES, hard), hard))
    figures = {"held_requests": float(HELD), "body_bytes": float(BODY_BYTES), "trials": float(TRIALS)}
    async with asyncio.timeout(20 * LIMIT_SECONDS):
        figures |= await _single_wakes()
        figures |= await _crowd()
    report("wake_gate", figures, table=_table(figures), path=options.json)
    return 0


# -- one request -----------------------------------------------------------------------------------------------------


async def _single_wakes() -> dict[str, float]:
    """Milliseconds from a pod's listening to the first byte, by the gate and directly; what looking costs."""
    pod = Pod()
    gated, direct = [], []
    async with Gate(pod.port) as gate:
        for _ in range(TRIALS):
            asked = asyncio.create_task(_first_byte_at(gate.port))
            await gate.until_held(1)
            await asyncio.sleep(random.uniform(0.05, 0.08))  # noqa: S311 -- any moment between two looks
            begun = await pod.listen()
            gated.append(1000 * (await asked - begun))
            await pod.close()
            begun = await pod.listen()
            direct.append(1000 * (await _first_byte_at(pod.port) - begun))
            await pod.close()
        asked = asyncio.create_task(_first_byte_at(gate.port))
        await gate.until_held(1)
        before = gate.cpu_seconds()
        await asyncio.sleep(LOOKED_SECONDS)
        share = (gate.cpu_seconds() - before) / LOOKED_SECONDS
        await pod.listen()
        await asked
    await pod.close()
    middle = statistics.median(direct)
    return {
        "direct_p50_ms": middle,
        "gate_p50_ms": statistics.median(gated),
        "added_p50_ms": statistics.median(gated) - middle,
        "added_mean_ms": statistics.mean(gated) - statistics.mean(direct),
        "added_p95_ms": sorted(gated)[int(0.95 * TRIALS)] - middle,
        "added_max_ms": max(gated) - middle,
        "looking_cpu_percent": 100 * share,
    }


# -- many requests ---------------------------------------------------------------------------------------------------


async def _crowd() -> dict[str, float]:
    """Memory while requests are held, and milliseconds until the last of them has its first byte."""
    pod = Pod()
    async with Gate(pod.port) as gate:
        first = asyncio.create_task(_first_byte_at(gate.port))
        await gate.until_held(1)
        before = gate.memory_bytes("VmRSS")
        asked = [first, *(asyncio.create_task(_first_byte_at(gate.port)) for _ in range(HELD))]
        await gate.until_held(HELD + 1)
        held = gate.memory_bytes("VmRSS")
        begun = await pod.listen()
        by_gate = await asyncio.gather(*asked)
        peak = gate.memory_bytes("VmHWM")
        gate_seconds = max(by_gate) - begun
        await pod.close()
    begun = await pod.listen()
    directly = await asyncio.gather(*(_first_byte_at(pod.port) for _ in range(HELD)))
    await pod.close()
    return {
        "idle_mib": before / MEBIBYTE,
        "held_added_mib": (held - before) / MEBIBYTE,
        "held_added_kib_a_request": (held - before) / HELD / 1024,
        "released_peak_added_mib": (peak - before) / MEBIBYTE,
        "crowd_gate_last_ms": 1000 * gate_seconds,
        "crowd_direct_last_ms": 1000 * (max(directly) - begun),
    }


# -- client, pod, gate -----------------------------------------------------------------------------------------------


async def _first_byte_at(port: int) -> float:
    """When the first byte of the answer's body was here, on the loop's clock."""
    reader, writer = await asyncio.open_connection(HOST, port)
    body = b"x" * BODY_BYTES
    writer.write(f"POST {PATH} HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: {BODY_BYTES}\r\n\r\n".encode() + body)
    head = await reader.readuntil(b"\r\n\r\n")
    await reader.readexactly(1)
    came = asyncio.get_running_loop().time()
    writer.close()
    if not head.startswith(b"HTTP/1.1 200 "):
        raise RuntimeError(head.decode())
    return came


class Pod:
    """An engine that answers at once. Its port refuses connections until it listens, and again once it is closed."""

    def __init__(self) -> None:
        self._socket = _bound(0)
        self.port: int = self._socket.getsockname()[1]
        self._runner: web.AppRunner | None = None

    async def listen(self) -> float:
        """When it listened, on the loop's clock."""
        application = web.Application()
        application.router.add_get("/health", self._health)
        application.router.add_post(PATH, self._answer)
        self._runner = web.AppRunner(application, access_log=None, shutdown_timeout=0)
        await self._runner.setup()
        site = web.SockSite(self._runner, self._socket, backlog=2 * HELD)
        await site.start()
        return asyncio.get_running_loop().time()

    async def close(self) -> None:
        """Refuse connections."""
        if self._runner:
            await self._runner.cleanup()
        self._socket.close()
        self._socket = _bound(self.port)

    async def _health(self, _: web.Request) -> web.Response:
        return web.Response()

    async def _answer(self, request: web.Request) -> web.Response:
        await request.read()
        return web.Response(body=b"data: x\n\n")


class Gate:
    """A gate in a process of its own."""

    def __init__(self, pod_port: int) -> None:
        self.port, self._metrics_port = _free_ports()
        self._options = GateOptions(
            served_name="model",
            upstream=f"{HOST}:{pod_port}",
            most_held=2 * HELD,
            host=HOST,
            http_port=self.port,
            metrics_port=self._metrics_port,
        )

    async def __aenter__(self) -> Self:
        self._process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", GATE_MODULE, *self._options.to_arguments(), stdout=asyncio.subprocess.DEVNULL
        )
        await self._until(lambda held: held is not None)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._process.terminate()
        await self._process.wait()

    async def until_held(self, count: int) -> None:
        """Wait until it holds so many requests."""
        await self._until(lambda held: held == count)

    def memory_bytes(self, name: str) -> int:
        """`VmRSS`: what is resident; `VmHWM`: the most that ever was."""
        lines = Path(f"/proc/{self._process.pid}/status").read_text(encoding="utf-8").splitlines()
        (line,) = [line for line in lines if line.startswith(f"{name}:")]
        return int(line.split()[1]) * 1024

    def cpu_seconds(self) -> float:
        """Time that it has computed, in the kernel too."""
        fields = Path(f"/proc/{self._process.pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    async def _until(self, condition: Callable[[float | None], bool]) -> None:
        for _ in range(int(LIMIT_SECONDS / 0.01)):
            if condition(await self._held()):
                return
            await asyncio.sleep(0.01)
        raise TimeoutError("the gate is not there, or does not hold what it was sent")

    async def _held(self) -> float | None:
        """None: it does not answer yet."""
        url = f"http://{HOST}:{self._metrics_port}/metrics"
        try:
            async with aiohttp.ClientSession() as session, session.get(url) as answer:
                page = await answer.text()
        except aiohttp.ClientError:
            return None
        (value,) = [line.split()[1] for line in page.splitlines() if line.startswith(f"{metrics.GATE_HELD} ")]
        return float(value)


def _bound(port: int) -> socket.socket:
    made = socket.socket()
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    made.bind((HOST, port))
    return made


def _free_ports() -> tuple[int, int]:
    first, second = _bound(0), _bound(0)
    with first, second:
        return first.getsockname()[1], second.getsockname()[1]


def _table(figures: dict[str, float]) -> str:
    rows = [
        ("first byte after a pod listens, directly: median", "direct_p50_ms", "ms"),
        ("  by way of the gate, which held the request", "gate_p50_ms", "ms"),
        ("  added by the gate: median", "added_p50_ms", "ms"),
        ("  mean", "added_mean_ms", "ms"),
        ("  95th percentile", "added_p95_ms", "ms"),
        ("  largest", "added_max_ms", "ms"),
        ("looking for the pod meanwhile, of one core", "looking_cpu_percent", "%"),
        ("resident memory of the gate", "idle_mib", "MiB"),
        (f"  added by {HELD} held requests of {BODY_BYTES} bytes", "held_added_mib", "MiB"),
        ("  and at most while they were passed on", "released_peak_added_mib", "MiB"),
        (f"first byte of the last of {HELD}, directly", "crowd_direct_last_ms", "ms"),
        ("  by way of the gate", "crowd_gate_last_ms", "ms"),
    ]
    return "\n".join(f"{name:56}{figures[key]:9.1f} {unit}" for name, key, unit in rows)


if __name__ == "__main__":
    raise SystemExit(asyncio.run(main()))
