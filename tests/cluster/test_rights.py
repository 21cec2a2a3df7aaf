"""The rights of the chart's Role are those that the operator uses: none is lacking, and none is there for nothing.

By the audit log, while the operator does all that it ever does: objects made, changed and taken away, pods marked, Jobs
made anew, and watches that say nothing, so that it has to fetch what a resync finds.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from deploy import chart
from deploy.local.cluster import Cluster
from deploy.place import Place
from tandem_operator import names
from tandem_operator.api.artifact import ModelArtifactSpec
from tandem_operator.cluster import KINDS, OPTIONAL_WATCHED, WATCHED
from tests import audit
from tests.cluster.told_loads import Engines, serving
from tests.cluster.world import IMAGES, ON_FAKE_NODES, Manifest, World, make_world, sample
from tests.faults.actions import drop, edit_events
from tests.faults.proxy import Proxy
from tests.faults.requests import verbs

CLAIMED = {"nvidia-l4-24gb": {"allocation": "ResourceClaim"}}
NOWHERE = {"cpu": {"nodeLabels": {"example.com/nowhere": "true"}}}
OURS = {names.LABEL_MANAGED_BY: names.MANAGED_BY}
KINDS_WATCHED = (*WATCHED, *OPTIONAL_WATCHED)
CLAIM = {"persistentVolumeClaim": {"claimName": "models", "path": "unheard"}}
SAFE = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "runAsNonRoot": True,
    "seccompProfile": {"type": "RuntimeDefault"},
}
POD: Manifest = {
    "containers": [{"name": "a", "image": "a", "securityContext": SAFE}],
    "nodeSelector": {"example.com/nowhere": "true"},
    "restartPolicy": "Never",
}


@pytest.fixture
def proxied(cluster: Cluster, place: Place, namespace: str, tmp_path: Path) -> Iterator[tuple[World, Proxy]]:
    """A world with the right to claims, whose operator asks the API server through a proxy."""
    world = make_world(cluster, place, namespace=namespace, folder=tmp_path)
    values = {"crds": {"install": False}, "rbac": {"create": True, "resourceClaims": True}}
    chart.install(place, namespace, values={**chart.values_of(IMAGES, replicas=0), **values})
    admin = yaml.safe_load(place.kubeconfig.read_text())["clusters"][0]["cluster"]["server"]
    tls = ssl.create_default_context(cafile=str(cluster.layout.pki / "ca.crt"))
    with Proxy(admin, tls=tls) as proxy:
        world.server = proxy.url
        yield world, proxy
        for operator in world.operators:
            operator.end()
    place.run("delete", "persistentvolume", f"models-{namespace}", "--wait=false")


def pair(**changes: object) -> Manifest:
    body = sample("gpu-pair", **changes)
    body["spec"]["verifier"] |= {"replicas": 1, "accelerator": {"classes": ["nvidia-h100-80gb"], "count": 1}}
    body["spec"]["draft"]["accelerator"] = {"classes": ["nvidia-l40s-48gb"], "count": 1}
    return body


def claimed() -> Manifest:
    """Its pods find no device."""
    body = sample("ngram")
    body["metadata"]["name"] = "claimed"
    body["spec"]["verifier"]["accelerator"] = {"classes": ["nvidia-l4-24gb"], "count": 1}
    return body


def scaled() -> Manifest:
    body = sample("autoscaled")
    body["spec"]["verifier"]["accelerator"] = {"classes": ["nvidia-h100-80gb"], "count": 1}
    body["spec"]["autoscaling"]["verifier"] = {"minReplicas": 3, "maxReplicas": 3}
    return body


def make_and_change(world: World, engines: Engines, **config: object) -> None:
    """Everything is made, and one pod of three goes; Jobs find no node, so that other settings have them made anew."""
    first = world.operator("first", accelerators={**NOWHERE, **CLAIMED}, resyncSeconds=1, **config).start()
    world.apply(pair(speculation={"method": "Remote", "tls": {"secretName": "drafts-tls"}}), claimed(), scaled())
    world.wait_for("llama-70b", "DraftTransportSecure", reason="DraftTransportTLS")
    world.wait_for("llama-70b", "Ready")
    world.wait_until(lambda: world.names("resourceclaimtemplates") != [], "a template of claims")
    world.wait_until(lambda: len(world.names("jobs")) > 3, "Jobs")
    world.wait_until(lambda: len(world.names("pods", "tandem.dev/deployment=llama-8b")) == 3, "three to scale")
    engines.running = dict.fromkeys(world.names("pods", "tandem.dev/deployment=llama-8b"), 1.0)
    world.wait_for("llama-8b", "ScalingActive", reason="Deciding")
    world.patch("llm/llama-8b", {"spec": {"autoscaling": {"verifier": {"minReplicas": 2, "maxReplicas": 2}}}})
    world.wait_until(lambda: len(world.names("pods", "tandem.dev/deployment=llama-8b")) == 2, "two of three")
    first.end()


def take_away(world: World, **config: object) -> None:
    """What was made goes again: Jobs, drafts, keys, claims, memory, revisions, artifacts. The new Jobs get no pods."""
    quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "none"}, "spec": {"hard": {"pods": "0"}}}
    world.apply(quota)
    world.wait_until(lambda: "hard" in world.get("resourcequota/none").get("status", {}), "the quota in force")
    accelerators = {**ON_FAKE_NODES["accelerators"], **CLAIMED}
    world.operator("second", accelerators=accelerators, resyncSeconds=1, artifactTtlSeconds=1, **config).start()
    listed = ("events.k8s.io", "events", "list")
    world.wait_until(lambda: listed in audit.rights_used(world.audited()), "a look at why a Job has no pod")
    world.run("delete", "resourcequota", "none")
    world.patch("llm/llama-70b", {"spec": {"speculation": {"method": "NGram", "tls": None}}})
    world.wait_until(lambda: world.names("deployments", "tandem.dev/role=draft") == [], "no drafts")
    leave_revisions(world)
    deleted = ("apps", "controllerrevisions", "delete")
    world.wait_until(lambda: deleted in audit.rights_used(world.audited()), "the oldest revision forgotten")
    other = {"spec": {"verifier": {"accelerator": {"classes": ["nvidia-h100-80gb"]}}}}
    world.patch("llm/claimed", other)
    world.wait_until(lambda: world.names("resourceclaimtemplates") == [], "no template of claims")
    world.patch("llm/llama-8b", {"spec": {"autoscaling": None}})
    world.wait_until(
        lambda: world.names("configmaps", "app.kubernetes.io/managed-by=tandem-operator") == [], "no memory"
    )
    world.run("delete", "llm", "--all", "--timeout=30s")
    world.wait_until(lambda: world.names("ma") == [], "no artifacts")


def leave_revisions(world: World) -> None:
    """As many as eleven rollouts leave behind."""
    (seen,) = world.get("controllerrevision -l tandem.dev/deployment=llama-70b,tandem.dev/role=verifier")["items"][:1]
    revision, metadata = seen["metadata"]["labels"][names.LABEL_REVISION], seen["metadata"]
    for number in range(11):
        other = f"a{number:07x}"
        world.apply(
            {
                **seen,
                "metadata": {
                    "name": metadata["name"].replace(revision, other),
                    "labels": {**metadata["labels"], names.LABEL_REVISION: other},
                    "ownerReferences": metadata["ownerReferences"],
                },
            }
        )


def unheard() -> list[Manifest]:
    """An object of every kind that the operator watches."""
    selector = {"matchLabels": {"app": "unheard"}}
    template = {"metadata": {"labels": selector["matchLabels"]}, "spec": POD}
    always = {**POD, "restartPolicy": "Always"}
    exactly = {"deviceClassName": "gpu.example.com"}
    bodies: dict[str, Manifest] = {
        names.KIND: {"spec": claimed()["spec"]},
        names.ARTIFACT_KIND: {"spec": {"source": CLAIM}},
        "Deployment": {"spec": {"replicas": 0, "selector": selector, "template": {**template, "spec": always}}},
        "ControllerRevision": {"revision": 1, "data": {}},
        "Service": {"spec": {"ports": [{"port": 80}]}},
        "ServiceAccount": {},
        "ConfigMap": {},
        "NetworkPolicy": {"spec": {"podSelector": selector}},
        "PodDisruptionBudget": {"spec": {"selector": selector, "maxUnavailable": 1}},
        names.CLAIM_TEMPLATE_KIND: {"spec": {"spec": {"devices": {"requests": [{"name": "a", "exactly": exactly}]}}}},
        "Job": {"spec": {"suspend": True, "template": template}},
        "Pod": {"spec": POD},
    }
    key = ModelArtifactSpec.parse({"source": CLAIM}).key
    return [
        {
            "apiVersion": KINDS[kind].api_version,
            "kind": kind,
            "metadata": {"name": key if kind == names.ARTIFACT_KIND else "unheard", "labels": OURS},
            **body,
        }
        for kind, body in bodies.items()
    ]


def fetch_what_no_watch_tells(world: World, proxy: Proxy) -> None:
    """Watches fall silent, then an object of every kind is made: the next resync has to fetch it."""
    proxy.add(verbs("watch"), edit_events(drop(lambda _: True)), times=None)
    begun = len(proxy.record)
    proxy.cut()
    plurals = {KINDS[kind].plural for kind in KINDS_WATCHED}

    def are_silent() -> bool:
        return plurals <= {each.request.resource for each in proxy.record[begun:] if each.request.verb == "watch"}

    world.wait_until(are_silent, "every watch begun anew")
    made = unheard()
    assert {manifest["kind"] for manifest in made} == set(KINDS_WATCHED)
    world.apply(*made)

    def is_fetched() -> bool:
        asked = {each.request.resource for each in proxy.record[begun:] if each.request.verb == "get"}
        return plurals <= asked

    world.wait_until(is_fetched, "an object of every kind fetched")


@pytest.mark.timeout(300)
def test_every_right_is_used_and_no_other_one_is_asked_for(proxied: tuple[World, Proxy]) -> None:
    world, proxy = proxied
    engines = Engines()
    with serving(engines) as address:
        prometheus = {"address": address, "abovePods": 0}
        make_and_change(world, engines, prometheus=prometheus)
        take_away(world, prometheus=prometheus)
        fetch_what_no_watch_tells(world, proxy)
    events = world.audited()
    granted = audit.rights_granted(world.get("role/tandem-operator")["rules"])
    used = audit.rights_used(events)
    assert audit.refusals_in(events) == []
    assert sorted(granted - used) == [], "rights that nothing uses"
    assert sorted(used - granted) == [], "rights from elsewhere"
