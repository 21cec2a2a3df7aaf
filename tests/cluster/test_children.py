"""The objects that Tandem owns: applied once, repaired when somebody changes them, never taken from anybody else."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from deploy.place import Place
from tandem_contracts.benchmark import Load
from tandem_contracts.launch import Role
from tandem_operator.api.access import Peer, SecretKeyRef
from tandem_operator.api.deployment import Owner
from tandem_operator.cli.plan import plan_of
from tandem_operator.config import OperatorConfig
from tandem_operator.drift import contains, needs_apply
from tandem_operator.objects.benchmark_job import benchmark_job_of
from tandem_operator.objects.gate import GateTerms, gate_of
from tandem_operator.objects.pod_template import pod_template_of
from tandem_operator.objects.protection import Watchers, gate_network_policy_of, network_policy_of
from tandem_operator.objects.service import serving_service_of, verifiers_service_of
from tests.builders import make_inputs
from tests.cluster.world import World, sample

OURS = "app.kubernetes.io/managed-by=tandem-operator"


@pytest.mark.parametrize("name", ["cpu-pair", "gpu-pair", "ngram"])
def test_what_the_api_server_stores_contains_what_each_builder_wrote(
    place: Place, namespace: str, *, name: str
) -> None:
    body = sample(name)
    body["metadata"]["namespace"] = namespace
    place.apply(body)
    body["metadata"]["uid"] = place.get("llm", body["metadata"]["name"], "-n", namespace)["metadata"]["uid"]
    applies = plan_of(body, OperatorConfig()).apply
    assert len(applies) >= 3
    for apply in applies:
        manifest = apply.manifest
        place.apply(manifest)
        there = place.get(manifest["kind"], manifest["metadata"]["name"], "-n", namespace)
        assert not needs_apply(manifest, there), manifest["kind"]


def test_what_the_api_server_stores_contains_what_each_builder_of_the_wake_gate_wrote(
    place: Place, namespace: str
) -> None:
    body = sample("cpu-pair")
    place.apply({**body, "metadata": {**body["metadata"], "namespace": namespace}})
    uid = place.get("llm", "pair", "-n", namespace)["metadata"]["uid"]  # the garbage collector knows no other
    owner = Owner(name="pair", namespace=namespace, uid=uid)
    key = SecretKeyRef(name="keys", key="chat")
    terms = GateTerms("tandem.local/operator:1", "pair", 1000, hold_seconds=600, api_key=key, pull_secrets=("pull",))
    peers = (Peer(pod_labels={"app": "client"}),)
    for manifest in (
        gate_network_policy_of(owner, allowed_from=peers, watchers=Watchers(("monitoring",))),
        network_policy_of(owner, Role.VERIFIER, allowed_from=peers, watchers=Watchers(), has_gate=True),
        verifiers_service_of(owner),
        gate_of(owner, terms, left_since=datetime(2030, 1, 1, tzinfo=UTC)),
        gate_of(owner, replace(terms, api_key=None, pull_secrets=())),
        serving_service_of(owner, "0badcafe", is_at_gate=True),
    ):
        place.apply(manifest)
        there = place.get(manifest["kind"], manifest["metadata"]["name"], "-n", namespace)
        assert not needs_apply(manifest, there), manifest["kind"]
    pod = gate_of(owner, terms)["spec"]["template"]
    metadata = {"name": "gate", "namespace": namespace, "labels": pod["metadata"]["labels"]}
    place.apply({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": pod["spec"]})


def test_what_the_api_server_stores_contains_the_job_of_a_benchmark(place: Place, namespace: str) -> None:
    body = sample("cpu-pair")
    place.apply({**body, "metadata": {**body["metadata"], "namespace": namespace}})
    uid = place.get("llm", "pair", "-n", namespace)["metadata"]["uid"]
    owner = Owner(name="pair", namespace=namespace, uid=uid)
    template = pod_template_of(owner, make_inputs(body["spec"]))
    pods = {Role.VERIFIER: ["10.0.0.1"], Role.DRAFT: ["10.0.0.2"]}
    job = benchmark_job_of(
        owner, Load(), ending="1a2b3c", template=template, revision="0badcafe", pods=pods, deadline_seconds=60
    )
    place.apply(job)
    assert contains(place.get("job", job["metadata"]["name"], "-n", namespace), job)


def test_a_converged_deployment_causes_no_write_also_after_an_operator_restart(tandem: World) -> None:
    tandem.apply(sample("gpu-pair"))
    tandem.wait_for("llama-70b", "Ready")
    tandem.wait_for("llama-70b", "ArtifactsReady")
    before = len(tandem.writes())
    assert before > 0
    tandem.operators[0].end()
    operator = tandem.operator("restarted", resyncSeconds=0.5).start()
    reads_before = len(tandem.audited())
    # Two lists come from the start; each later one is a resync, which runs a pass over the deployment.
    tandem.wait_until(lambda: _lists(tandem, reads_before) >= 7, "five resyncs of the restarted operator")
    assert [(w["verb"], w["objectRef"]) for w in tandem.writes()[before:]] == []
    assert "Traceback" not in operator.says()


def _lists(world: World, start: int) -> int:
    lists = Counter(
        event["objectRef"]["resource"]
        for event in world.audited()[start:]
        if event["verb"] == "list" and event["objectRef"]["resource"] != "leases"
    )
    return lists["controllerrevisions"]


def test_creating_a_deployment_takes_few_writes_and_few_events(tandem: World) -> None:
    tandem.apply(sample("gpu-pair"))
    tandem.wait_for("llama-70b", "Ready")
    written = Counter(
        (w["verb"], w["objectRef"]["resource"], w["objectRef"].get("subresource", "")) for w in tandem.writes()
    )
    assert written["patch", "deployments", ""] == 2
    assert written["patch", "services", ""] == 2
    assert written["patch", "controllerrevisions", ""] == 2
    assert 0 < written["create", "events", ""] <= 6
    assert written["patch", "llmdeployments", ""] == 0


@pytest.mark.parametrize(
    "kind",
    ["deployments", "services", "controllerrevisions", "serviceaccounts", "networkpolicies", "poddisruptionbudgets"],
)
def test_a_child_that_is_deleted_comes_back_once(tandem: World, kind: str) -> None:
    tandem.apply(sample("gpu-pair"))
    tandem.wait_for("llama-70b", "Ready")
    before = tandem.names(kind, OURS)
    uids = {name: tandem.get(f"{kind}/{name}")["metadata"]["uid"] for name in before}
    written = len(tandem.writes())
    tandem.run("delete", kind, *before, "--wait=false")

    def is_back() -> bool:
        return tandem.names(kind, OURS) == before and all(
            tandem.get(f"{kind}/{name}")["metadata"]["uid"] != uids[name] for name in before
        )

    tandem.wait_until(is_back, f"{kind} {before} made again")
    tandem.wait_for("llama-70b", "Ready")
    made = Counter(
        write["objectRef"]["name"]
        for write in tandem.writes()[written:]
        if write["objectRef"]["resource"] == kind and write["responseStatus"]["code"] == 201
    )
    assert made == Counter(before)


def test_a_child_that_is_deleted_while_the_operator_is_down_comes_back(tandem: World) -> None:
    tandem.apply(sample("gpu-pair"))
    tandem.wait_for("llama-70b", "Ready")
    tandem.operators[0].end()
    tandem.run("delete", "service", "llama-70b")
    tandem.operator("second").start()
    tandem.wait_until(lambda: "llama-70b" in tandem.names("services", OURS), "the Service made again")


def test_fields_of_ours_are_restored_and_others_left_alone(tandem: World) -> None:
    tandem.apply(sample("gpu-pair"))
    tandem.wait_for("llama-70b", "Ready")
    tandem.patch("service/llama-70b", {"spec": {"selector": {"tandem.dev/role": "draft"}}})
    tandem.patch("service/llama-70b", {"metadata": {"annotations": {"team.example/owner": "chat"}}})

    def is_restored() -> bool:
        return tandem.get("service/llama-70b")["spec"]["selector"]["tandem.dev/role"] == "verifier"

    tandem.wait_until(is_restored, "the Service's selector restored")
    assert tandem.get("service/llama-70b")["metadata"]["annotations"]["team.example/owner"] == "chat"


def test_labels_that_somebody_overwrites_are_restored(tandem: World) -> None:
    tandem.apply(sample("gpu-pair"))
    tandem.wait_for("llama-70b", "Ready")
    tandem.run("label", "service/llama-70b", "app.kubernetes.io/managed-by=someone", "--overwrite")
    tandem.wait_until(lambda: "llama-70b" in tandem.names("services", OURS), "the Service's label restored")


def test_a_foreign_object_of_our_name_is_named_and_never_touched(world: World) -> None:
    foreign = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "llama-70b"},
        "spec": {"selector": {"app": "somebody-else"}, "ports": [{"port": 80}]},
    }
    world.apply(foreign)
    before = world.get("service/llama-70b")["metadata"]["resourceVersion"]
    world.operator().start()
    world.apply(sample("gpu-pair"))
    stalled = world.wait_for("llama-70b", "Stalled", reason="NameConflict")
    assert "Service llama-70b exists and nothing controls it" in stalled["message"]
    assert world.get("service/llama-70b")["metadata"]["resourceVersion"] == before
    world.run("delete", "service", "llama-70b")
    world.wait_for("llama-70b", "Ready")


def test_the_operator_needs_no_right_that_the_chart_does_not_grant(tandem: World) -> None:
    tandem.apply(sample("gpu-pair"))
    tandem.wait_for("llama-70b", "Ready")
    tandem.patch("llm/llama-70b", {"spec": {"servedName": "renamed"}})
    tandem.wait_for("llama-70b", "Ready")
    tandem.operators[0].end()
    codes = Counter(event["responseStatus"]["code"] for event in tandem.audited())
    assert codes[403] == 0
    assert codes[200] > 0
    rules = json.loads(tandem.run("get", "role", "tandem-operator", "-o", "json"))["rules"]
    assert not any("secrets" in rule["resources"] or "*" in rule["resources"] + rule["verbs"] for rule in rules)


def test_kopf_leaves_no_annotation_and_no_finalizer_on_the_resource(tandem: World) -> None:
    tandem.apply(sample("gpu-pair"))
    tandem.wait_for("llama-70b", "Ready")
    metadata = tandem.get("llm/llama-70b")["metadata"]
    assert "finalizers" not in metadata
    assert set(metadata["annotations"]) == {"kubectl.kubernetes.io/last-applied-configuration"}
