"""Which pods the real ReplicaSet controller takes when scaling wants fewer: those with the least to do.

The pods are on fake nodes and have no engines: a server of the test's own tells of their load, as Prometheus would.
"""

from __future__ import annotations

from tests.cluster.told_loads import Engines, serving
from tests.cluster.world import World, sample

NAME = "llama-8b"
PODS = "tandem.dev/role=verifier"


def test_the_pods_with_the_least_to_do_go_and_nothing_but_a_mark_is_written_to_a_pod(world: World) -> None:
    engines = Engines()
    body = sample("autoscaled")
    body["spec"]["verifier"]["accelerator"] = {"classes": ["nvidia-h100-80gb"], "count": 1}
    body["spec"]["autoscaling"]["verifier"] = {"minReplicas": 4, "maxReplicas": 4}
    with serving(engines) as address:
        world.operator(prometheus={"address": address, "abovePods": 0}).start()
        world.apply(body)
        world.wait_until(lambda: len(world.names("pods", PODS)) == 4, "four verifiers")
        busy, idle, busier, bored = world.names("pods", PODS)
        engines.running = {busy: 5.0, idle: 0.0, busier: 9.0, bored: 1.0}
        world.wait_for(NAME, "ScalingActive", reason="Deciding")
        bounds = {"minReplicas": 2, "maxReplicas": 2}
        world.patch(f"llm/{NAME}", {"spec": {"autoscaling": {"verifier": bounds}}})
        world.wait_until(lambda: len(world.names("pods", PODS)) == 2, "two verifiers")
        assert world.names("pods", PODS) == sorted([busy, busier])
    writes = [each for each in world.writes() if each["objectRef"]["resource"] == "pods"]
    assert [(each["verb"], each["responseStatus"]["code"]) for each in writes] == [("patch", 200)] * 2
    assert sorted(each["objectRef"]["name"] for each in writes) == sorted([idle, bored])
