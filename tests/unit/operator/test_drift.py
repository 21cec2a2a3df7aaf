"""When an object has to be applied again: ours changed, or somebody changed what we set; and never otherwise."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest

from tandem_contracts.launch import Role
from tandem_operator import names
from tandem_operator.api.deployment import Owner
from tandem_operator.drift import contains, needs_apply
from tandem_operator.facts import Manifest
from tandem_operator.objects.protection import Watchers, network_policy_of
from tandem_operator.objects.service import serving_service_of
from tandem_operator.objects.workload import workload_of
from tests.builders import NAME, NAMESPACE, UID, make_revision, make_role, make_spec

OWNER = Owner(name=NAME, namespace=NAMESPACE, uid=UID)
GPU = make_spec(verifier=make_role(classes=("nvidia-h100-80gb",)))


def deployment() -> Manifest:
    return workload_of(OWNER, make_revision(GPU), replicas=2, progress_deadline_seconds=1800)


def service() -> Manifest:
    return serving_service_of(OWNER, "aaaaaaaa")


def pod(manifest: Manifest) -> Any:
    return manifest["spec"]["template"]["spec"]


def test_what_was_just_applied_needs_no_apply() -> None:
    for wanted in (deployment(), service()):
        assert not needs_apply(wanted, copy.deepcopy(wanted))


def _server_defaults(there: Manifest) -> None:
    there["metadata"].update(uid="u", resourceVersion="4", generation=1, creationTimestamp="2020-01-01T00:00:00Z")
    there["metadata"]["annotations"]["deployment.kubernetes.io/revision"] = "1"
    there["spec"]["strategy"] = {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%"}}
    pod(there).update(restartPolicy="Always", dnsPolicy="ClusterFirst", schedulerName="default-scheduler")
    pod(there)["containers"][0]["terminationMessagePath"] = "/dev/termination-log"
    there["status"] = {"replicas": 2}


def _sidecar(there: Manifest) -> None:
    pod(there)["containers"].insert(0, {"name": "sidecar", "image": "mesh:1"})
    pod(there)["volumes"].append({"name": "mesh", "emptyDir": {}})
    pod(there)["containers"][1]["env"].append({"name": "MESH", "value": "1"})


def _other_order(there: Manifest) -> None:
    pod(there)["volumes"].reverse()
    pod(there)["containers"][0]["env"].reverse()


def _annotated(there: Manifest) -> None:
    there["metadata"]["annotations"]["a-user"] = "says hello"
    there["metadata"]["labels"]["team"] = "chat"


@pytest.mark.parametrize("change", [_server_defaults, _sidecar, _other_order, _annotated])
def test_what_others_add_is_no_reason_to_apply(change: Callable[[Manifest], None]) -> None:
    there = deployment()
    change(there)
    assert not needs_apply(deployment(), there)


def _scaled(there: Manifest) -> None:
    there["spec"]["replicas"] = 5


def _image(there: Manifest) -> None:
    pod(there)["containers"][0]["image"] = "other:1"


def _label_gone(there: Manifest) -> None:
    del there["metadata"]["labels"][names.LABEL_ROLE]


def _pod_label_gone(there: Manifest) -> None:
    del there["spec"]["template"]["metadata"]["labels"][names.LABEL_REVISION]


def _argument_gone(there: Manifest) -> None:
    pod(there)["containers"][0]["args"].pop()


def _argument_added(there: Manifest) -> None:
    pod(there)["containers"][0]["args"].append("--more")


def _arguments_swapped(there: Manifest) -> None:
    pod(there)["containers"][0]["args"].reverse()


def _volume_gone(there: Manifest) -> None:
    pod(there)["volumes"] = [volume for volume in pod(there)["volumes"] if volume["name"] != "tmp"]


def _volume_of_another_kind(there: Manifest) -> None:
    pod(there)["volumes"] = [{"name": v["name"], "hostPath": {"path": "/"}} for v in pod(there)["volumes"]]


def _limit_gone(there: Manifest) -> None:
    del pod(there)["containers"][0]["resources"]["limits"]


def _toleration_changed(there: Manifest) -> None:
    pod(there)["tolerations"][0]["effect"] = "NoExecute"


def _owner_gone(there: Manifest) -> None:
    del there["metadata"]["ownerReferences"]


def _security_weakened(there: Manifest) -> None:
    pod(there)["securityContext"]["runAsNonRoot"] = False


def _hash_gone(there: Manifest) -> None:
    del there["metadata"]["annotations"]


@pytest.mark.parametrize(
    "change",
    [
        _scaled, _image, _label_gone, _pod_label_gone, _argument_gone, _argument_added, _arguments_swapped,
        _volume_gone, _volume_of_another_kind, _limit_gone, _toleration_changed, _owner_gone, _security_weakened,
        _hash_gone,
    ],
)  # fmt: skip
def test_what_somebody_changes_of_ours_is_applied_again(change: Callable[[Manifest], None]) -> None:
    there = deployment()
    change(there)
    assert needs_apply(deployment(), there)


def test_an_object_of_an_older_wish_is_applied_again_even_where_it_contains_the_new_one() -> None:
    older = deployment()
    older["metadata"]["annotations"][names.ANNOTATION_APPLIED] = "an-older-hash"
    assert needs_apply(deployment(), older)


def test_a_key_that_somebody_adds_to_a_selector_is_drift_since_it_selects_nothing_then() -> None:
    there = service()
    there["spec"]["selector"]["debug"] = "yes"
    assert needs_apply(service(), there)


def _rule_added(spec: Manifest) -> None:
    spec["ingress"].append({})


def _rule_narrowed(spec: Manifest) -> None:
    spec["ingress"][0]["from"] = [{"podSelector": {}}]


def _peer_widened(spec: Manifest) -> None:
    spec["egress"][1]["to"][0]["namespaceSelector"] = {}


def _port_widened(spec: Manifest) -> None:
    spec["egress"][1]["ports"][0]["endPort"] = 65535


def _pods_narrowed(spec: Manifest) -> None:
    spec["podSelector"]["matchExpressions"] = [{"key": "app", "operator": "Exists"}]


@pytest.mark.parametrize("change", [_rule_added, _rule_narrowed, _peer_widened, _port_widened, _pods_narrowed])
def test_whatever_somebody_adds_to_a_network_policy_is_drift(change: Callable[[Manifest], None]) -> None:
    wanted = network_policy_of(OWNER, Role.VERIFIER, allowed_from=(), watchers=Watchers())
    there = copy.deepcopy(wanted)
    assert not needs_apply(wanted, there)
    change(there["spec"])
    assert needs_apply(wanted, there)


@pytest.mark.parametrize("part", ["matchExpressions", "matchFields"])
def test_a_node_affinity_that_somebody_narrows_is_drift(part: str) -> None:
    there = deployment()
    required = pod(there)["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    narrower = {"key": "zone", "operator": "In", "values": ["a"]}
    required["nodeSelectorTerms"][0].setdefault(part, []).append(narrower)
    assert needs_apply(deployment(), there)


@pytest.mark.parametrize(
    ("there", "wanted", "expected"),
    [
        ({"emptyDir": {}}, {"emptyDir": {}}, True),
        ({"emptyDir": {"sizeLimit": "1Gi"}}, {"emptyDir": {}}, True),
        ({}, {"emptyDir": {}}, False),
        ({"emptyDir": None}, {"emptyDir": {}}, False),
        ({"a": 1, "b": 2}, {"a": 1}, True),
        ({"a": None}, {"a": 1}, False),
        ([1, 2], [1, 2], True),
        ([1, 2, 3], [1, 2], False),
        ([2, 1], [1, 2], False),
        ([], [], True),
        (None, [], False),
        ("1", 1, False),
        ([{"name": "b"}, {"name": "a", "x": 1}], [{"name": "a"}], True),
        ([{"name": "a", "x": 1}], [{"name": "a", "x": 2}], False),
        ([{"name": "b"}], [{"name": "a"}], False),
        ([{"key": "a", "more": 1}], [{"key": "a"}], True),
        ("text", [{"name": "a"}], False),
        ([None, {"name": "a"}], [{"name": "a"}], True),
    ],
)
def test_containment(there: Any, wanted: Any, expected: bool) -> None:
    assert contains(there, wanted) is expected


def test_the_draft_role_has_the_same_rules() -> None:
    wanted = workload_of(OWNER, make_revision(make_spec(), Role.DRAFT), replicas=1, progress_deadline_seconds=1800)
    there = copy.deepcopy(wanted)
    assert not needs_apply(wanted, there)
    there["spec"]["template"]["spec"]["containers"][0]["image"] = "other:1"
    assert needs_apply(wanted, there)
