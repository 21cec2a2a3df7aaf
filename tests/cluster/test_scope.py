"""One operator for the whole cluster: it serves every namespace as its own, and leaves alone what another one leads."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from deploy import chart, model_volume
from deploy.local.cluster import Cluster
from deploy.place import Place
from tandem_operator import names
from tandem_operator.neighbours import ASKED_EVERY_SECONDS
from tests import audit
from tests.cluster.world import IMAGES, World, make_world, sample
from tests.clusters import make_namespace

SCOPE = {"scope": "Cluster", "resyncSeconds": 5, "leaseSeconds": 15}


@pytest.fixture
def home(cluster: Cluster, place: Place, namespace: str, tmp_path: Path) -> Iterator[World]:
    """The namespace of an operator that may serve all of them."""
    made = make_world(cluster, place, namespace=namespace, folder=tmp_path)
    wide = {**chart.values_of(IMAGES, replicas=0), "crds": {"install": False}}
    chart.install(place, namespace, values={**wide, "config": {**wide.get("config", {}), "scope": "Cluster"}})
    yield made
    for operator in made.operators:
        operator.end()
    assert audit.refusals_in(made.audited()) == []
    chart.uninstall(place, namespace)  # or the right to the whole cluster would outlive it
    place.run("delete", "persistentvolume", f"models-{namespace}", "--wait=false")


@pytest.fixture
def others(home: World) -> Iterator[tuple[World, World]]:
    """Two more namespaces, with nothing but a claim of models."""
    made = []
    for _ in range(2):
        name = f"t-{secrets.token_hex(4)}"
        make_namespace(home.cluster.kubectl, name)
        home.place.apply(model_volume.volume_of(name, home.folder), model_volume.claim_of(name))
        made.append(replace(home, namespace=name, operators=[]))
    yield made[0], made[1]
    for world in made:
        home.place.run("delete", "namespace", world.namespace, "--wait=false")
        home.place.run("delete", "persistentvolume", f"models-{world.namespace}", "--wait=false")


def test_deployments_of_one_name_in_many_namespaces_are_served_each_by_itself(
    home: World, others: tuple[World, World]
) -> None:
    home.operator(**SCOPE, operatorNamespace=home.namespace).start()
    worlds = (home, *others)
    for world in worlds:
        world.apply(sample("gpu-pair"))
    for world in worlds:
        world.wait_for("llama-70b", "Ready")
    others[0].run("delete", "llm/llama-70b")
    kinds = "deployments,services,networkpolicies,pods"
    ours = "tandem.dev/deployment=llama-70b"
    others[0].wait_until(lambda: others[0].names(kinds, ours) == [], "nothing of the deleted one")
    for world in (home, others[1]):
        assert "llama-70b" in world.names("services", ours)
        world.wait_for("llama-70b", "Ready")


def test_pods_and_jobs_of_other_namespaces_are_reached_by_the_operator_and_closed_to_others(
    home: World, others: tuple[World, World]
) -> None:
    home.operator(**SCOPE, operatorNamespace=home.namespace).start()
    elsewhere = others[0]
    elsewhere.apply(sample("gpu-pair"))
    elsewhere.wait_for("llama-70b", "Ready")
    watched = {"kubernetes.io/metadata.name": home.namespace}
    assert set(elsewhere.names("networkpolicies")) == {
        "llama-70b-draft",
        "llama-70b-verifier",
        "tandem-artifacts",
        "tandem-benchmarks",
        "tandem-fetch",
    }
    measuring = elsewhere.get("networkpolicy/tandem-benchmarks")["spec"]
    assert ("ingress" in measuring, measuring["policyTypes"]) == (False, ["Ingress", "Egress"])
    for name in set(elsewhere.names("networkpolicies")) - {"tandem-benchmarks"}:
        rules = elsewhere.get(f"networkpolicy/{name}")["spec"]["ingress"]
        (figures,) = [rule for rule in rules if rule["ports"][0]["port"] == 8001]
        from_elsewhere = [peer for peer in figures["from"] if "namespaceSelector" in peer]
        assert [peer["namespaceSelector"]["matchLabels"] for peer in from_elsewhere] == [watched]
        components = {peer["podSelector"]["matchLabels"]["app.kubernetes.io/component"] for peer in figures["from"]}
        assert components <= {"operator", "benchmark"}


def test_a_namespace_is_left_to_its_own_operator_for_as_long_as_that_one_leads(
    home: World, others: tuple[World, World]
) -> None:
    kept, free = others
    chart.install(
        home.place, kept.namespace, values={**chart.values_of(IMAGES, replicas=0), "crds": {"install": False}}
    )
    narrow = replace(kept, folder=home.folder / "narrow")
    narrow.folder.mkdir()
    own = narrow.operator("own", leaseSeconds=15).start()
    narrow.wait_until(lambda: "this operator leads" in own.says(), "an operator of its own")
    wide = home.operator(**SCOPE, operatorNamespace=home.namespace).start()
    for world in (narrow, free):
        world.apply(sample("gpu-pair"))
        world.wait_for("llama-70b", "Ready")
    written = {event["objectRef"].get("namespace") for event in home.writes()}
    assert (free.namespace in written, kept.namespace in written) == (True, False)
    assert f"namespace {kept.namespace}: left to own" in wide.says()
    own.end()
    narrow.run("delete", f"lease/{names.LEASE}", "--ignore-not-found")
    narrow.run("delete", "service/llama-70b")
    limit = 2 * ASKED_EVERY_SECONDS + 10
    narrow.wait_until(lambda: narrow.names("services") != [], "the other operator's help", limit_seconds=limit)
    assert audit.writes_of(home.cluster, home.namespace)[-1]["objectRef"]["namespace"]
