"""The chart's releases under a deployment that is being rolled out: upgraded, rolled back and removed, by both Helms.

Nothing of that restarts a pod. The operator runs beside the cluster, as in the other tests here; each release has one
with settings of its own, as an upgrade brings them.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from deploy import chart, model_volume
from deploy.local.cluster import Cluster
from deploy.place import Place, PlaceError, local_place
from tests.cluster.world import Manifest, World, make_world, sample

pytestmark = pytest.mark.timeout(300)

NAME = "llama-70b"
PODS = f"tandem.dev/deployment={NAME}"
REVISION = {"engineImages": {"cpu": "tandem.local/engine-cpu:next", "gpu": "tandem.local/engine-gpu:next"}}
QUIET = {"image": {"tag": "none"}, "replicas": 0, "crds": {"install": False}}


def previous_chart(folder: Path) -> Path:
    """The chart as a version before it was: without what has been added, and with less in the Role."""
    made = folder / "previous"
    shutil.copytree(chart.CHART, made)
    described = yaml.safe_load((made / "Chart.yaml").read_text())
    (made / "Chart.yaml").write_text(yaml.safe_dump({**described, "version": "0.0.9", "appVersion": "0.0.9"}))
    for name in ("poddisruptionbudget", "podmonitor", "servicemonitor", "networkpolicy-artifacts"):
        (made / "templates" / f"{name}.yaml").unlink()
    return made


@pytest.fixture(params=["helm3", "helm4"])
def upgraded(cluster: Cluster, place: Place, namespace: str, tmp_path: Path, request: pytest.FixtureRequest) -> World:
    """A world whose chart is of the version before."""
    place = local_place(cluster, request.param)
    values = tmp_path / "values.yaml"
    values.write_text(yaml.safe_dump(QUIET))
    install = ("install", chart.RELEASE, str(previous_chart(tmp_path)), "-n", namespace, "-f", str(values), "--wait")
    place.run_helm(*install)
    place.apply(model_volume.volume_of(namespace, tmp_path), model_volume.claim_of(namespace))
    return World(cluster, place, namespace, tmp_path)


@pytest.fixture
def tidy(upgraded: World) -> Iterator[World]:
    """The same, of which nothing is left running."""
    yield upgraded
    for operator in upgraded.operators:
        operator.end()
    upgraded.place.run("delete", "persistentvolume", f"models-{upgraded.namespace}", "--wait=false")


def uids(world: World) -> dict[str, str]:
    """Who the pods are."""
    items = world.get(f"pods -l {PODS}")["items"]
    return {item["metadata"]["name"]: item["metadata"]["uid"] for item in items}


def pass_by(world: World, name: str, **config: object) -> None:
    """An operator of another version takes over, looks at everything more than once, and ends."""
    operator = world.operator(name, resyncSeconds=0.5, **config)
    read = len(world.audited())
    operator.start()

    def lists() -> int:
        events = world.audited()[read:]
        return sum(event["verb"] == "list" and event["objectRef"]["resource"] == "deployments" for event in events)

    world.wait_until(lambda: lists() >= 5, f"resyncs of operator {name}")
    assert operator.is_running()
    operator.end()


def test_no_release_restarts_a_pod_in_the_middle_of_a_rollout(tidy: World) -> None:
    world = tidy
    first = world.operator("previous").start()
    world.apply(sample("gpu-pair"))
    world.wait_for(NAME, "Ready")
    verifier = sample("gpu-pair")["spec"]["verifier"]
    verifier["accelerator"] = {"classes": ["nvidia-h200-141gb"], "count": 2}  # no node has it
    world.patch(f"llm/{NAME}", {"spec": {"verifier": verifier}})
    world.wait_for(NAME, "Ready", status="False", reason="RollingOut")
    world.wait_until(lambda: len(world.names("deployments", f"{PODS},tandem.dev/role=verifier")) == 2, "two revisions")
    world.wait_until(lambda: len(uids(world)) == 5, "pods of both, and a draft")
    pods = uids(world)
    first.end()

    values = world.folder / "values.yaml"
    release = (chart.RELEASE, "-n", world.namespace)
    upgrade = ("upgrade", chart.RELEASE, str(chart.CHART), "-n", world.namespace, "-f", str(values), "--wait")
    world.place.run_helm(*upgrade)
    assert "tandem-operator-artifacts" in world.names("networkpolicies")
    pass_by(world, "next", **REVISION)
    assert uids(world) == pods
    assert world.conditions(NAME)["Available"]["status"] == "True"

    world.place.run_helm("rollback", *release, "1", "--wait")
    assert "tandem-operator-artifacts" not in world.names("networkpolicies")
    pass_by(world, "previous-again")
    assert uids(world) == pods

    world.place.run_helm(*upgrade)
    last = world.operator("last", **REVISION).start()
    world.apply(sample("gpu-pair"))
    world.wait_for(NAME, "Ready")
    last.end()
    serving = uids(world)
    assert serving.items() <= pods.items(), "the pods that served all the time"

    world.place.run_helm("uninstall", *release, "--wait")
    assert (
        world.names("roles,serviceaccounts", "app.kubernetes.io/part-of=tandem,app.kubernetes.io/component=operator")
        == []
    )
    assert world.names("llm") == [NAME]
    assert uids(world) == serving


def dependent(folder: Path, body: Manifest) -> Path:
    """A chart of somebody's application that brings a deployment."""
    made = folder / "application"
    (made / "templates").mkdir(parents=True)
    (made / "Chart.yaml").write_text(yaml.safe_dump({"apiVersion": "v2", "name": "application", "version": "1.0.0"}))
    (made / "templates" / "llm.yaml").write_text(yaml.safe_dump(body))
    return made


@pytest.fixture
def application(cluster: Cluster, place: Place, namespace: str, tmp_path: Path) -> Iterator[World]:
    """The operator running, for a chart of somebody else."""
    world = make_world(cluster, place, namespace=namespace, folder=tmp_path)
    world.operator().start()
    yield world
    world.operators[0].end()
    place.run("delete", "persistentvolume", f"models-{namespace}", "--wait=false")


def test_helm_4_waits_until_a_deployment_of_somebodys_chart_is_ready(application: World, tmp_path: Path) -> None:
    made = dependent(tmp_path, sample("gpu-pair"))
    application.place.run_helm(
        "install", "application", str(made), "-n", application.namespace, "--wait", "--timeout=60s"
    )
    assert application.conditions(NAME)["Ready"]["status"] == "True"


def test_helm_4_does_not_call_a_deployment_installed_that_cannot_become_ready(
    application: World, tmp_path: Path
) -> None:
    body = sample("gpu-pair")
    body["spec"]["verifier"]["accelerator"]["classes"] = ["nvidia-h1000"]
    made = dependent(tmp_path, body)
    with pytest.raises(PlaceError, match="LLMDeployment"):
        application.place.run_helm(
            "install", "application", str(made), "-n", application.namespace, "--wait", "--timeout=10s"
        )
    assert application.conditions(NAME)["Stalled"]["reason"] == "UnknownAcceleratorClass"
