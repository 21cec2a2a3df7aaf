"""A deployment that something scales: its verifiers, and who writes how many they are."""

from __future__ import annotations

from collections import Counter
from typing import Any

from tests import audit
from tests.cluster.world import Manifest, World, sample

NAME = "llama-8b"
HPA = "horizontal-pod-autoscaler"


def make_deployment(**spec: Any) -> Manifest:
    """The autoscaled sample on accelerators that the cluster has; `spec` replaces parts of its spec."""
    body = sample("autoscaled")
    body["spec"]["verifier"]["accelerator"] = {"classes": ["nvidia-h100-80gb"], "count": 1}
    body["spec"] |= spec
    return body


def workload(world: World) -> Manifest:
    """Its verifiers' Deployment."""
    (name,) = world.names("deployments", f"tandem.dev/deployment={NAME}")
    return world.get(f"deployment/{name}")


def wait_for_replicas(world: World, number: int) -> None:
    """Wanted and Ready."""

    def holds() -> bool:
        found = workload(world)
        return found["spec"]["replicas"] == number == found["status"].get("readyReplicas", 0)

    # The HPA controller hears of a kind that is new to the cluster within half a minute.
    world.wait_until(holds, f"{number} verifiers", limit_seconds=60)


def log_end(world: World) -> int:
    """Of the audit log: where to begin to count."""
    return world.cluster.layout.audit_log.stat().st_size


def writes(world: World, resource: str, begin: int) -> Counter[tuple[str, str]]:
    """By who wrote and to which subresource, without the status, which says how many are Ready."""
    found = audit.writers_of(world.cluster, world.namespace, resource, begin=begin)
    return Counter(writer for writer in found if writer[1] != "status")
