"""What the operator costs and how fast it is: children of 1, 100 and 500 resources, a restart, rest, memory, repair.

Runs on the local control plane with fake GPU nodes; the operator is a process of this machine under the chart's
ServiceAccount. When an object exists is taken from the API server's audit log, to the microsecond.
"""

from __future__ import annotations

import asyncio
import base64
import json
import random
import secrets
import ssl
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import aiohttp
import yaml
from prometheus_client.parser import text_string_to_metric_families

from benchmarks.report import options_of, report
from deploy.local.addresses import free_ports
from deploy.local.cluster import Cluster
from tandem_operator import names
from tandem_operator.cli.plan import UNKNOWN_UID, plan_of
from tandem_operator.cluster import CHILD_KINDS, KINDS, WATCHED
from tandem_operator.config import OperatorConfig
from tandem_operator.facts import Manifest, Ref
from tests.cluster.world import World, make_place, make_world, sample
from tests.clusters import make_namespace

SIZES = (1, 100, 500)
ALONE_RUNS = 20
HEALTHY = 50
TURNS = 4
REPAIRS = 40
NODES = {"nvidia-h100-80gb": 66, "nvidia-l40s-48gb": 66}
REST_SECONDS = 180.0
LIMIT_SECONDS = 600.0
AT_ONCE = 64


def main() -> int:
    """Measure and report."""
    options = options_of("control_plane", __doc__)
    figures = asyncio.run(_measure())
    report("control_plane", figures, table=_table(figures), path=options.json)
    return 0


# -- the API server from outside -----------------------------------------------------------------------------------


class Made:
    """When each object was last made, as the API server's audit log tells. Seconds of the wall clock.

    The log costs nothing that an operator in production would not have too; watches would take the processors' time.
    """

    def __init__(self, log: Path, namespace: str) -> None:
        self._log, self._namespace = log, namespace
        self._read = log.stat().st_size
        self._kinds = {KINDS[kind].plural: kind for kind in (names.KIND, *CHILD_KINDS)}
        self.at: dict[Ref, float] = {}

    async def wait_for(self, condition: Callable[[], bool], what: str) -> None:
        """Read on until `condition()` holds. Raises TimeoutError."""
        deadline = time.monotonic() + LIMIT_SECONDS
        while not condition():
            if time.monotonic() > deadline:
                raise TimeoutError(f"waited {LIMIT_SECONDS:.0f} s: {what}")
            await asyncio.sleep(0.02)
            self._read_on()

    def _read_on(self) -> None:
        with self._log.open("rb") as log:
            log.seek(self._read)
            whole, newline, _ = log.read().rpartition(b"\n")
        self._read += len(whole) + len(newline)
        ours = f'"namespace":"{self._namespace}"'.encode()
        for line in whole.splitlines():
            if ours in line and b'"code":201' in line:
                self._note(json.loads(line))

    def _note(self, event: dict[str, Any]) -> None:
        about = event["objectRef"]
        kind = self._kinds.get(about["resource"])
        if kind and event["responseStatus"]["code"] == 201 and "subresource" not in about:
            self.at[Ref(kind, about["name"])] = datetime.fromisoformat(event["stageTimestamp"]).timestamp()


class Api:
    """The cluster as an administrator sees it."""

    def __init__(self, session: aiohttp.ClientSession, server: str, made: Made) -> None:
        self._session, self._server, self.made = session, server, made

    async def apply(self, manifest: Manifest) -> None:
        """Server-side apply."""
        metadata = manifest["metadata"]
        path = KINDS[manifest["kind"]].path(metadata["namespace"], metadata["name"])
        headers = {"Content-Type": "application/apply-patch+yaml"}
        query = {"fieldManager": "benchmark", "force": "true"}
        url = self._server + path
        async with self._session.patch(url, params=query, headers=headers, data=yaml.safe_dump(manifest)) as answer:
            if answer.status >= 300:
                raise RuntimeError(f"{path}: {answer.status} {await answer.text()}")

    async def delete(self, ref: Ref, namespace: str) -> None:
        async with self._session.delete(self._server + KINDS[ref.kind].path(namespace, ref.name)) as answer:
            answer.raise_for_status()

    async def items(self, kind: str, namespace: str) -> list[Manifest]:
        async with self._session.get(self._server + KINDS[kind].path(namespace)) as answer:
            answer.raise_for_status()
            found: list[Manifest] = (await answer.json())["items"]
            return found

    async def made_again(self, ref: Ref, namespace: str) -> float:
        """Delete an object; seconds until it is there again."""
        begun = time.time()
        await self.delete(ref, namespace)
        await self.made.wait_for(lambda: self.made.at.get(ref, 0.0) > begun, f"{ref} is there again")
        return self.made.at[ref] - begun


@asynccontextmanager
async def _api(cluster: Cluster, namespace: str) -> AsyncIterator[Api]:
    config = yaml.safe_load(cluster.kubeconfig.read_text())
    with tempfile.TemporaryDirectory() as folder:
        context = _tls(config, Path(folder))
    server = config["clusters"][0]["cluster"]["server"]
    connector = aiohttp.TCPConnector(ssl=context, limit=0)
    timeout = aiohttp.ClientTimeout(total=60)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
        yield Api(session, server, Made(cluster.layout.audit_log, namespace))


def _tls(config: dict[str, Any], folder: Path) -> ssl.SSLContext:
    cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
    for name, data in (
        ("ca", cluster["certificate-authority-data"]),
        ("crt", user["client-certificate-data"]),
        ("key", user["client-key-data"]),
    ):
        (folder / name).write_bytes(base64.b64decode(data))
    context = ssl.create_default_context(cafile=str(folder / "ca"))
    context.load_cert_chain(folder / "crt", folder / "key")
    return context


# -- resources -----------------------------------------------------------------------------------------------------


def _resource(namespace: str, name: str) -> Manifest:
    body = sample("gpu-pair")
    body["metadata"].update(name=name, namespace=namespace)
    body["spec"]["verifier"].update(accelerator={"classes": ["nvidia-h100-80gb"], "count": 1}, replicas=1)
    body["spec"]["draft"].update(accelerator={"classes": ["nvidia-l40s-48gb"], "count": 1}, replicas=1)
    return body


def _children(body: Manifest) -> list[Ref]:
    completed = {**body, "metadata": {**body["metadata"], "uid": UNKNOWN_UID}}
    return [
        Ref.of(apply.manifest)
        for apply in plan_of(completed, OperatorConfig()).apply
        if Ref.of(apply.manifest).kind in CHILD_KINDS
    ]


async def _children_seconds(api: Api, namespace: str, prefix: str, count: int) -> tuple[list[float], float]:
    """For each of `count` resources applied at once: until the last child exists; and until that is so of all."""
    bodies = [_resource(namespace, f"{prefix}-{number}") for number in range(count)]
    children = {body["metadata"]["name"]: _children(body) for body in bodies}
    gate = asyncio.Semaphore(AT_ONCE)

    async def apply(body: Manifest) -> None:
        async with gate:
            await api.apply(body)

    begun, made = time.time(), api.made.at
    await asyncio.gather(*(apply(body) for body in bodies))
    every = [Ref(names.KIND, name) for name in children] + [ref for refs in children.values() for ref in refs]
    await api.made.wait_for(lambda: all(ref in made for ref in every), f"all children of {count} resources")
    last = {name: max(made[ref] for ref in refs) for name, refs in children.items()}
    return [max(last[name] - made[Ref(names.KIND, name)], 0.0) for name in children], max(last.values()) - begun


async def _until_ready(api: Api, namespace: str, count: int) -> None:
    """Every resource of the namespace but broken ones is Ready."""
    deadline = time.monotonic() + LIMIT_SECONDS
    while True:
        items = await api.items(names.KIND, namespace)
        ready = sum(
            any((c["type"], c["status"]) == ("Ready", "True") for c in (item.get("status") or {}).get("conditions", []))
            for item in items
        )
        if ready >= count:
            return
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {LIMIT_SECONDS:.0f} s: {ready} of {count} resources are Ready")
        await asyncio.sleep(1)


# -- measuring -----------------------------------------------------------------------------------------------------


async def _measure() -> dict[str, float]:
    cluster = Cluster()
    cluster.up()
    place = make_place(cluster, nodes=NODES)
    figures: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        for size in SIZES:
            namespace = f"bench-{size}-{secrets.token_hex(2)}"
            make_namespace(cluster.kubectl, namespace)
            (path := Path(folder) / namespace).mkdir()
            world = make_world(cluster, place, namespace=namespace, folder=path)
            try:
                async with _api(cluster, namespace) as api:
                    await _measure_size(world, api, size, figures)
            finally:
                for operator in world.operators:
                    operator.end()
                place.run("delete", "namespace", namespace, "--wait=true", limit_seconds=LIMIT_SECONDS)
                place.run("delete", "persistentvolume", f"models-{namespace}", "--wait=false")
    return figures


async def _measure_size(world: World, api: Api, size: int, figures: dict[str, float]) -> None:
    namespace = world.namespace
    operator = world.operator().start()
    await _children_seconds(api, namespace, "warm", 1)
    if size == 1:
        seconds = [(await _children_seconds(api, namespace, f"alone{run}", 1))[0][0] for run in range(ALONE_RUNS)]
    else:
        seconds, figures[f"children_all_seconds_{size}"] = await _children_seconds(api, namespace, "many", size)
    print(f"children of {size}: seen", flush=True)
    figures[f"children_p50_seconds_{size}"] = _percentile(seconds, 50)
    figures[f"children_p95_seconds_{size}"] = _percentile(seconds, 95)
    if size == 1:
        await _broken_neighbour(world, api, figures)
    if size == SIZES[-1]:
        await _until_ready(api, namespace, size + 1)
        figures[f"peak_memory_mib_{size}"] = operator.peak_memory_mib()
        await _restart(world, size, figures)
        figures[f"restart_peak_memory_mib_{size}"] = world.operators[-1].peak_memory_mib()
        before = len(world.writes())
        await asyncio.sleep(REST_SECONDS)
        figures["rest_writes"] = len(world.writes()) - before
        await _repair(world, api, size, figures)


async def _broken_neighbour(world: World, api: Api, figures: dict[str, float]) -> None:
    """How much longer 50 resources take beside three that can never be carried out: in turns, since each lot leaves
    more behind for the next one to be slower by, and the median of the turns.
    """
    namespace, there = world.namespace, ALONE_RUNS + 1
    unknown, refused, taken = (_resource(namespace, f"broken-{number}") for number in range(3))
    unknown["spec"]["verifier"]["accelerator"]["classes"] = ["no-such-class"]
    refused["spec"]["verifier"]["engine"] = {"image": "not.allowed/engine:1"}
    world.apply(
        {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "broken-2"}, "spec": {"ports": [{"port": 1}]}}
    )
    seconds: dict[bool, list[float]] = {False: [], True: []}
    for turn in range(2 * TURNS):
        is_beside = turn % 4 in {1, 2}  # neither is always the first of its pair
        for broken in (unknown, refused, taken):
            if turn % 4 == 1:
                await api.apply(broken)
            elif turn % 4 == 3:
                await api.delete(Ref(names.KIND, broken["metadata"]["name"]), namespace)
        found, _ = await _children_seconds(api, namespace, f"healthy{turn}", HEALTHY)
        seconds[is_beside].append(_percentile(found, 95))
        await _until_ready(api, namespace, there := there + HEALTHY)
    alone, beside = median(seconds[False]), median(seconds[True])
    figures["healthy_alone_p95_seconds"] = alone
    figures["healthy_beside_broken_p95_seconds"] = beside
    figures["broken_neighbour_delay_p95_seconds"] = max(beside - alone, 0.0)


async def _restart(world: World, size: int, figures: dict[str, float]) -> None:
    """Writes and lists of an operator that starts on converged resources, until it has looked at all of them."""
    world.operators[-1].end()
    writes, requests = len(world.writes()), len(world.audited())
    operator = world.operator("restarted")
    operator.metrics_port = free_ports(["metrics"])["metrics"]
    operator.start()
    await _until_passed(operator.metrics_port, size + 1)
    await asyncio.sleep(5)
    # A long listing comes in pages; its first page stands for it.
    lists = Counter(
        event["objectRef"]["resource"]
        for event in world.audited()[requests:]
        if event["verb"] == "list" and "continue=" not in event["requestURI"]
    )
    figures["restart_writes"] = len(world.writes()) - writes
    figures["restart_lists_per_kind"] = max(lists[KINDS[kind].plural] for kind in WATCHED)


async def _until_passed(port: int, count: int) -> None:
    """Until an operator has made so many passes. Raises TimeoutError."""
    deadline, passed = time.monotonic() + LIMIT_SECONDS, 0.0
    async with aiohttp.ClientSession() as session:
        while passed < count:
            if time.monotonic() > deadline:
                raise TimeoutError(f"waited {LIMIT_SECONDS:.0f} s: {passed:.0f} of {count} passes")
            await asyncio.sleep(0.2)
            try:
                async with session.get(f"http://127.0.0.1:{port}/metrics") as answer:
                    page = await answer.text()
            except aiohttp.ClientError:
                continue  # it is only starting
            samples = (sample for family in text_string_to_metric_families(page) for sample in family.samples)
            passed = sum(sample.value for sample in samples if sample.name == "tandem_operator_passes_total")


async def _repair(world: World, api: Api, size: int, figures: dict[str, float]) -> None:
    """Until a child that somebody deletes is there again."""
    namespace, chosen = world.namespace, random.Random(7)  # noqa: S311 -- a fixed choice
    seconds = []
    for _ in range(REPAIRS):
        ref = chosen.choice(_children(_resource(namespace, f"many-{chosen.randrange(size)}")))
        seconds.append(await api.made_again(ref, namespace))
    figures["repair_p50_seconds"] = _percentile(seconds, 50)
    figures["repair_p95_seconds"] = _percentile(seconds, 95)


def _percentile(values: list[float], percent: int) -> float:
    return quantiles(values, n=100, method="inclusive")[percent - 1] if len(values) > 1 else values[0]


def _table(figures: dict[str, float]) -> str:
    bars = {1: "0.3 s"}
    rows = [
        (
            f"children of {size}, p50 / p95",
            f"children_p50_seconds_{size}",
            f"children_p95_seconds_{size}",
            bars.get(size, ""),
        )
        for size in SIZES
    ]
    rows += [
        ("a broken neighbour delays 50, p95", "broken_neighbour_delay_p95_seconds", "", "1 s"),
        ("restart with 500: writes", "restart_writes", "", "0"),
        ("restart with 500: lists a kind", "restart_lists_per_kind", "", "2"),
        (f"at rest for {REST_SECONDS:.0f} s: writes", "rest_writes", "", "0"),
        ("peak memory with 500, MiB", "peak_memory_mib_500", "", "150"),
        ("peak memory of a restart with 500, MiB", "restart_peak_memory_mib_500", "", ""),
        ("until all children of 500 are there", "children_all_seconds_500", "", "60 s"),
        ("a deleted child is back, p50 / p95", "repair_p50_seconds", "repair_p95_seconds", "5 s"),
    ]  # fmt: skip
    lines = []
    for text, first, second, bar in rows:
        shown = f"{figures[first]:8.2f}" + (f" / {figures[second]:.2f}" if second else "")
        lines.append(f"{text:44}{shown:22}{'bar: ' + bar if bar else ''}")
    return "\n".join(lines)


if __name__ == "__main__":
    raise SystemExit(main())
