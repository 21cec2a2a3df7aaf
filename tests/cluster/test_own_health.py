"""The operator's own health, asked as the kubelet and Prometheus ask it; its log as a collector reads it."""

from __future__ import annotations

import contextlib
import json
import socket
import urllib.error
import urllib.request
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from tests.cluster.world import Operator, World, sample

NAME = "llama-70b"


def free_port() -> int:
    with contextlib.closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


def observed(world: World, name: str = "operator", **config: Any) -> Operator:
    """An operator whose ports can be asked, started."""
    operator = world.operator(name, **config)
    operator.health_port, operator.metrics_port = free_port(), free_port()
    return operator.start()


def asked(port: int, path: str) -> tuple[int, str]:
    """Status and text; status 0 while nobody answers."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()
    except OSError:
        return 0, ""


def is_ready(operator: Operator) -> bool:
    return asked(operator.health_port, "/readyz")[0] == 200


def metrics(operator: Operator) -> dict[tuple[str, tuple[str, ...]], float]:
    """Values by name and label values, in the order of the labels' names."""
    families = text_string_to_metric_families(asked(operator.metrics_port, "/metrics")[1])
    return {
        (sample.name.removeprefix("tandem_operator_"), tuple(sample.labels.values())): sample.value
        for family in families
        for sample in family.samples
    }


def test_the_leader_is_ready_and_counts_what_it_does(world: World) -> None:
    operator = observed(world)
    world.wait_until(lambda: is_ready(operator), "the operator ready")
    status, told = asked(operator.health_port, "/healthz")
    assert (status, json.loads(told)["faults"]) == (200, [])
    world.apply(sample("gpu-pair"))
    world.wait_for(NAME, "Ready")
    world.wait_until(lambda: metrics(operator).get(("store_objects", ("Pod",)), 0) >= 2, "pods in the store")
    counted = metrics(operator)
    up = {labels[0]: value for (name, labels), value in counted.items() if name == "watch_up"}
    assert {"LLMDeployment", "Pod", "Deployment", "Service"} <= up.keys()
    assert set(up.values()) == {1.0}
    assert counted["leader", ()] == 1
    assert counted["queue_depth", ()] == 0
    assert counted["passes_total", ("done",)] > 0
    assert counted["queue_wait_seconds_count", ()] > 0
    assert counted["lease_renewals_total", ("renewed",)] > 0
    assert counted["resync_age_seconds", ()] > 0
    audited = sum(w["objectRef"]["resource"] == "deployments" for w in world.writes())
    applied = sum(
        value
        for (name, labels), value in counted.items()
        if name == "api_requests_total" and (labels[0], labels[2]) == ("Deployment", "apply")
    )
    assert applied == audited == 2


def test_a_standby_is_ready_and_keeps_nothing(world: World) -> None:
    first = observed(world, "first")
    world.wait_until(lambda: is_ready(first), "the first operator ready")
    second = observed(world, "second")
    world.wait_until(lambda: is_ready(second), "the second operator ready")
    world.apply(sample("gpu-pair"))
    world.wait_for(NAME, "Ready")
    counted = metrics(second)
    assert counted["leader", ()] == 0
    assert {value for (name, _), value in counted.items() if name == "store_objects"} == {0.0}


def test_every_line_of_the_log_is_a_record(world: World) -> None:
    operator = observed(world)
    world.apply(sample("gpu-pair"))
    world.wait_for(NAME, "Ready")
    operator.end()
    records = [json.loads(line) for line in operator.says().splitlines()]
    assert {"time", "level", "logger", "message"} <= set.intersection(*(set(record) for record in records))
    assert "kopf" in {record["logger"].partition(".")[0] for record in records}
    assert {record["level"] for record in records} == {"INFO"}
