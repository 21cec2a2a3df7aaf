"""What the cluster's events say of pods that do not come up: read late, seldom, for few, and never a reason to fail."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from tandem_contracts.launch import Role
from tandem_operator.cluster import KINDS
from tandem_operator.facts import Manifest
from tandem_operator.mishaps import FIRST_LOOK_SECONDS, LOOKS_PER_SECOND, PODS_AT_ONCE, Mishaps
from tandem_operator.store import Key
from tests.builders import KEY, NAMESPACE, make_raw_pod
from tests.unit.operator.fake_api_server import Answer, FakeApiServer, connect, serve
from tests.unit.operator.virtual_time import now, run

MOUNT = 'MountVolume.SetUp failed for volume "keys" : secret "keys" not found'


def held_up(name: str = "p") -> Manifest:
    pod = make_raw_pod(Role.VERIFIER, "7f3a90c1", name=name, phase="Pending")
    return {**pod, "spec": {"nodeName": "gpu-1"}}


def podless(name: str = "j") -> Manifest:
    return {"kind": "Job", "metadata": {"name": name, "namespace": NAMESPACE, "uid": f"uid-{name}"}, "status": {}}


def event(server: FakeApiServer, child: Manifest, **parts: Any) -> None:
    told = {
        "type": "Warning",
        "reason": "FailedMount",
        "note": MOUNT,
        "deprecatedLastTimestamp": "2030-01-01T00:00:00Z",
    }
    uid = child["metadata"]["uid"]
    name = f"{child['metadata']['name']}.{len(server.objects)}"
    metadata = {"name": name, "namespace": NAMESPACE}
    server.put(
        KINDS["Event"].path(NAMESPACE, name),
        {"metadata": metadata, "regarding": {"kind": child["kind"], "uid": uid}, **told, **parts},
    )


def play(script: Callable[[FakeApiServer, Mishaps], Awaitable[None]]) -> None:
    async def main() -> None:
        async with serve() as server, connect(server) as cluster:
            await script(server, Mishaps(cluster))

    run(main())


def test_a_pod_that_should_have_come_up_is_looked_at_and_what_its_events_say_is_kept() -> None:
    async def script(server: FakeApiServer, mishaps: Mishaps) -> None:
        pod = held_up()
        event(server, pod)
        event(server, held_up("other"), note="of another pod")
        assert await mishaps.look(KEY, [pod]) == {}
        assert server.requests == [], "it has only just been made"
        assert 0 < mishaps.due_seconds(KEY) <= FIRST_LOOK_SECONDS
        await asyncio.sleep(mishaps.due_seconds(KEY))
        told = {pod["metadata"]["uid"]: f"FailedMount: {MOUNT}"}
        assert await mishaps.look(KEY, [pod]) == told
        assert await mishaps.look(KEY, [pod]) == told
        assert len(server.requests) == 1, "what is known is not read again at once"

    play(script)


def test_a_job_that_may_make_no_pod_is_looked_at_until_it_has_one() -> None:
    quota = 'Error creating: pods "j-k2x4q" is forbidden: exceeded quota: q'

    async def script(server: FakeApiServer, mishaps: Mishaps) -> None:
        job = podless()
        event(server, job, reason="FailedCreate", note=quota)
        assert await mishaps.look(KEY, [job]) == {}
        await asyncio.sleep(mishaps.due_seconds(KEY))
        told = 'FailedCreate: Error creating: pods "j-*" is forbidden: exceeded quota: q'
        assert await mishaps.look(KEY, [job]) == {"uid-j": told}
        later = "2030-01-01T00:00:09Z"
        event(server, job, type="Normal", reason="SuccessfulCreate", note="", deprecatedLastTimestamp=later)
        await asyncio.sleep(mishaps.due_seconds(KEY))
        assert await mishaps.look(KEY, [job]) == {}, "it has been made, which the Job's status will say"
        assert await mishaps.look(KEY, [{**job, "status": {"active": 1}}]) == {}
        assert mishaps.due_seconds(KEY) == 0

    play(script)


def test_looks_become_rarer_and_go_on() -> None:
    async def script(server: FakeApiServer, mishaps: Mishaps) -> None:
        pod = held_up()
        begun = now()
        while now() - begun < 1800:
            await mishaps.look(KEY, [pod])
            await asyncio.sleep(mishaps.due_seconds(KEY))
        assert 28 <= len(server.requests) <= 36

    play(script)


def test_a_pod_that_came_up_is_forgotten() -> None:
    async def script(server: FakeApiServer, mishaps: Mishaps) -> None:
        pod = held_up()
        event(server, pod)
        await mishaps.look(KEY, [pod])
        await asyncio.sleep(FIRST_LOOK_SECONDS)
        assert await mishaps.look(KEY, [pod])
        up = {**pod, "status": {"phase": "Running"}}
        assert await mishaps.look(KEY, [up]) == {}
        assert mishaps.due_seconds(KEY) == 0
        assert not mishaps._looks

    play(script)


def test_what_the_pod_itself_says_needs_no_look() -> None:
    async def script(server: FakeApiServer, mishaps: Mishaps) -> None:
        unscheduled = {**held_up(), "spec": {}}
        await mishaps.look(KEY, [unscheduled])
        assert mishaps.due_seconds(KEY) == 0

    play(script)


def test_few_pods_of_a_deployment_and_few_in_a_second_are_looked_at() -> None:
    async def script(server: FakeApiServer, mishaps: Mishaps) -> None:
        keys = [Key(NAMESPACE, f"d{number}") for number in range(20)]
        pods = [held_up(f"p{number}") for number in range(8)]
        for key in keys:
            await mishaps.look(key, pods)
        await asyncio.sleep(FIRST_LOOK_SECONDS)
        for key in keys:
            await mishaps.look(key, pods)
        assert len(server.requests) <= LOOKS_PER_SECOND + 3
        for _ in range(20):
            await asyncio.sleep(1)
            for key in keys:
                await mishaps.look(key, pods)
        assert len({r.query["fieldSelector"] for r in server.requests}) == PODS_AT_ONCE

    play(script)


def test_events_that_cannot_be_read_are_no_news() -> None:
    async def script(server: FakeApiServer, mishaps: Mishaps) -> None:
        pod = held_up()
        event(server, pod)
        await mishaps.look(KEY, [pod])
        await asyncio.sleep(FIRST_LOOK_SECONDS)
        server.answer_next("GET", Answer(403, '{"message": "events is forbidden"}'))
        assert await mishaps.look(KEY, [pod]) == {}
        await asyncio.sleep(mishaps.due_seconds(KEY))
        assert await mishaps.look(KEY, [pod])

    play(script)
