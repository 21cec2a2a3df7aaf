"""The API server's published keys in passes: read once a resync, copied when they change, kept when nobody tells."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from tandem_operator.cluster import KINDS, Cluster, ClusterError
from tandem_operator.facts import IssuerKeys, Manifest
from tandem_operator.issuer_keys import PublishedKeys
from tandem_operator.outcome import Outcome
from tests.builders import NAMESPACE, make_spec
from tests.unit.operator.fake_api_server import Answer, connect, serve
from tests.unit.operator.reconcile_world import World, play
from tests.unit.operator.virtual_time import run

DISCOVERY, KEYS = "/.well-known/openid-configuration", "/openid/v1/jwks"
CONFIG_MAP = KINDS["ConfigMap"].path(NAMESPACE, "pair-draft")
SECURED = make_spec(speculation={"method": "Remote", "tls": {"secretName": "drafts-tls"}})
FORBIDDEN = Answer(403, json.dumps({"message": 'User "x" cannot get path "/openid/v1/jwks"'}))


def publish(world: World, *kids: str) -> None:
    world.server.objects[DISCOVERY] = {"issuer": "https://issuer", "jwks_uri": "https://elsewhere", "metadata": {}}
    world.server.objects[KEYS] = {"keys": [{"kid": kid} for kid in kids], "metadata": {}}


def copied(world: World) -> list[str]:
    keys: list[Manifest] = json.loads(world.server.objects[CONFIG_MAP]["data"]["jwks.json"])["keys"]
    return [key["kid"] for key in keys]


def reads(world: World) -> int:
    return sum(request.path == KEYS for request in world.server.requests)


async def settle(world: World) -> None:
    """The passes that follow each other at once."""
    for _ in range(5):
        if not (await world.run()).again_after_seconds:
            return


def test_keys_are_copied_and_read_once_a_resync() -> None:
    async def script(world: World) -> None:
        publish(world, "a")
        world.user_writes(SECURED)
        await world.converge()
        assert copied(world) == ["a"]
        assert world.server.objects[CONFIG_MAP]["data"]["issuer"] == "https://issuer"
        assert reads(world) == 1
        world.server.requests.clear()
        await world.reconciler.resync(NAMESPACE)
        assert await world.run() == Outcome()
        assert (reads(world), world.writes()) == (1, [])

    play(script)


def test_passes_beside_each_other_share_one_read() -> None:
    async def script(world: World) -> None:
        publish(world, "a")
        async with connect(world.server) as cluster:
            keys = PublishedKeys(cluster)
            one, other = await asyncio.gather(keys.latest(), keys.latest())
        assert one == other
        assert [key["kid"] for key in json.loads(one.jwks)["keys"]] == ["a"]
        assert reads(world) == 1

    play(script)


def test_keys_that_become_due_while_they_are_read_are_read_again() -> None:
    async def script(world: World) -> None:
        publish(world, "a")
        async with connect(world.server) as cluster:

            class Interrupted(Cluster):
                """Answers as ever, and meanwhile a resync comes."""

                async def issuer_keys(self) -> IssuerKeys:
                    found = await cluster.issuer_keys()
                    keys.outdate()
                    return found

            keys = PublishedKeys(object.__new__(Interrupted))
            await keys.latest()
            publish(world, "b")
            latest = await keys.latest()
        assert [key["kid"] for key in json.loads(latest.jwks)["keys"]] == ["b"]

    play(script)


def test_a_rotated_key_is_copied_with_the_next_resync() -> None:
    async def script(world: World) -> None:
        publish(world, "a")
        world.user_writes(SECURED)
        await world.converge()
        publish(world, "a", "b")
        await settle(world)
        assert copied(world) == ["a"]
        await world.reconciler.resync(NAMESPACE)
        await settle(world)
        assert copied(world) == ["a", "b"]

    play(script)


def test_who_uses_no_tls_reads_no_keys() -> None:
    async def script(world: World) -> None:
        world.user_writes(make_spec())
        await world.converge()
        assert reads(world) == 0
        assert CONFIG_MAP not in world.server.objects

    play(script)


@pytest.mark.parametrize("path", [DISCOVERY, KEYS])
@pytest.mark.parametrize("answer", [FORBIDDEN, Answer(503), Answer(404)], ids=["refused", "unavailable", "absent"])
def test_keys_that_are_not_told_keep_nothing_back_and_are_asked_for_again(path: str, answer: Answer) -> None:
    async def script(world: World) -> None:
        publish(world, "a")
        world.server.answer_next("GET", answer, about=path)
        world.user_writes(SECURED)
        await world.converge()
        assert len(world.paths("Deployment")) == 2
        found = world.condition("DraftTransportSecure")
        assert found is not None
        assert found[:2] == ("False", "DraftKeysUnavailable")
        assert str(answer.status) in found[2]
        await world.reconciler.resync(NAMESPACE)
        await settle(world)
        assert copied(world) == ["a"]
        found = world.condition("DraftTransportSecure")
        assert found is not None
        assert found[:2] == ("True", "DraftTransportTLS")

    play(script)


def test_keys_that_are_no_longer_told_stay_as_they_were() -> None:
    async def script(world: World) -> None:
        publish(world, "a")
        world.user_writes(SECURED)
        await world.converge()
        world.server.answer_next("GET", FORBIDDEN, about=KEYS)
        await world.reconciler.resync(NAMESPACE)
        await settle(world)
        assert copied(world) == ["a"]
        found = world.condition("DraftTransportSecure")
        assert found is not None
        assert found[0] == "True"
        assert "could not be read anew" in found[2]

    play(script)


def test_keys_that_somebody_changes_are_put_right() -> None:
    async def script(world: World) -> None:
        publish(world, "a")
        world.user_writes(SECURED)
        await world.converge()
        there = world.server.objects[CONFIG_MAP]
        world.write(CONFIG_MAP, {**there, "data": {**there["data"], "jwks.json": "{}"}})
        await world.converge()
        assert copied(world) == ["a"]

    play(script)


@pytest.mark.parametrize(
    ("discovery", "keys"), [({}, {"keys": [1]}), ({"issuer": "https://issuer"}, {"keys": []})], ids=["issuer", "keys"]
)
def test_a_page_without_issuer_or_keys_is_an_error(discovery: Any, keys: Any) -> None:
    async def main() -> None:
        async with serve() as server, connect(server) as cluster:
            server.objects.update({DISCOVERY: discovery, KEYS: keys})
            with pytest.raises(ClusterError, match="publishes no issuer of tokens, or no keys of it"):
                await cluster.issuer_keys()
            assert server.requests[-1].headers["accept"] == "application/jwk-set+json"

    run(main())
