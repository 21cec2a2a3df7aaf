"""An operator of the whole cluster leaves a namespace to an operator of its own for as long as that one lives."""

from __future__ import annotations

import asyncio

import pytest
from pydantic import ValidationError

from tandem_operator.config import OperatorConfig, Scope
from tandem_operator.handlers import Shell
from tandem_operator.lease import Lease
from tandem_operator.neighbours import ASKED_EVERY_SECONDS, Neighbours
from tests.unit.operator.lease_world import PATH, World, play


async def neighbours(world: World) -> Neighbours:
    lease = await world.operator("wide")
    return Neighbours(lambda namespace: Lease(lease._cluster, namespace, identity="wide", terms=lease._terms))


def test_a_namespace_without_a_lease_or_with_one_that_was_released_is_nobodys() -> None:
    async def script(world: World) -> None:
        asking = await neighbours(world)
        assert await asking.leads("chat") == ""
        world.held_by("")
        await asyncio.sleep(ASKED_EVERY_SECONDS)
        assert await asking.leads("chat") == ""

    play(script)


def test_a_namespace_is_left_to_the_operator_that_renews_its_lease_and_taken_over_when_it_is_dead() -> None:
    async def script(world: World) -> None:
        asking = await neighbours(world)
        for second in range(0, 120, 10):
            world.held_by("narrow", renewTime=f"{second}")
            assert await asking.leads("chat") == "narrow"
            assert await asking.leads("other") == ""
            await asyncio.sleep(10)
        waited = 0.0
        while await asking.leads("chat"):
            await asyncio.sleep(1)
            waited += 1
        assert waited <= 15 + 2 * ASKED_EVERY_SECONDS
        world.held_by("narrow", renewTime="back")
        await asyncio.sleep(ASKED_EVERY_SECONDS)
        assert await asking.leads("chat") == "narrow"

    play(script)


def test_a_lease_of_its_own_is_no_neighbours() -> None:
    async def script(world: World) -> None:
        world.held_by("wide")
        assert await (await neighbours(world)).leads("chat") == ""

    play(script)


def test_the_api_server_is_asked_once_in_a_while_and_not_by_each_pass() -> None:
    async def script(world: World) -> None:
        asking = await neighbours(world)
        for _ in range(60):
            await asking.leads("chat")
            await asyncio.sleep(1)
        asked = [request for request in world.server.requests if request.path == PATH]
        assert 60 / ASKED_EVERY_SECONDS <= len(asked) <= 60 / ASKED_EVERY_SECONDS + 1

    play(script)


@pytest.mark.parametrize("given", [{"scope": "Cluster"}, {"operatorNamespace": "tandem-system"}])
def test_an_operator_of_the_whole_cluster_knows_where_it_runs_and_no_other_one_says_so(given: dict[str, str]) -> None:
    with pytest.raises(ValidationError, match=r"operatorNamespace \(is '.*'\): must be the operator's own namespace"):
        OperatorConfig.model_validate(given)
    assert OperatorConfig().scope is Scope.NAMESPACE
    wide = OperatorConfig.model_validate({"scope": "Cluster", "operatorNamespace": "tandem-system"})
    assert Shell(namespace="tandem-system", identity="me", config=wide).served == ""
    assert Shell(namespace="chat", identity="me", config=OperatorConfig()).served == "chat"
