"""What a pass leaves in a namespace that the operator serves from another one, where the chart has put nothing."""

from __future__ import annotations

from typing import Any

import pytest

from tandem_operator.cluster import KINDS, Cluster
from tandem_operator.objects.job_policies import benchmark_policy_of
from tandem_operator.reconcile import Reconciler
from tests.builders import NAMESPACE, make_config
from tests.unit.operator.fake_api_server import FakeApiServer, connect, serve
from tests.unit.operator.reconcile_world import ALONE, NOW, World
from tests.unit.operator.virtual_time import run

POLICY = KINDS["NetworkPolicy"].path(NAMESPACE, "tandem-benchmarks")
FROM_ELSEWHERE = {"scope": "Cluster", "operatorNamespace": "tandem-system"}


async def converged(server: FakeApiServer, cluster: Cluster, **config: Any) -> World:
    """The world of an operator with this configuration, after its passes."""
    world = World(server, cluster)
    world.reconciler = Reconciler(cluster, world.store, config=make_config(**config), clock=lambda: NOW)
    world.user_writes(ALONE)
    await world.converge()
    return world


def test_benchmarks_are_closed_before_anybody_makes_one() -> None:
    async def main() -> None:
        async with serve() as server, connect(server) as cluster:
            world = await converged(server, cluster, **FROM_ELSEWHERE)
            assert server.objects[POLICY]["spec"] == benchmark_policy_of(NAMESPACE)["spec"]
            before = world.writes()
            await world.converge()
            assert world.writes() == before, "it is written once"
            server.put(POLICY, {**server.objects[POLICY], "spec": {"podSelector": {}}})
            await world.converge()
            assert server.objects[POLICY]["spec"] == benchmark_policy_of(NAMESPACE)["spec"], "put right again"

    run(main())


@pytest.mark.parametrize(
    "config", [{}, {"scope": "Cluster", "operatorNamespace": NAMESPACE}], ids=["its own", "its own of the cluster"]
)
def test_in_the_operators_own_namespace_the_chart_closes_them(config: dict[str, Any]) -> None:
    async def main() -> None:
        async with serve() as server, connect(server) as cluster:
            await converged(server, cluster, **config)
            assert POLICY not in server.objects

    run(main())
