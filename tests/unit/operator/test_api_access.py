"""Sources, scheduling, access, drafts in the engine and rollouts: what may be written, and what it becomes in a pod."""

from __future__ import annotations

from typing import Any

import pytest

from tandem_contracts.launch import API_KEY_VARIABLE, Access, InEngineKind, LaunchOptions, Role, Speculation
from tandem_contracts.stopping import StopTimes
from tandem_operator.api.deployment import InvalidSpecError, Owner
from tandem_operator.facts import Manifest
from tandem_operator.inputs import RejectedSpecError
from tandem_operator.names import Reason
from tandem_operator.objects.ownership import labels_of
from tandem_operator.objects.pod_template import pod_template_of
from tests.builders import NAME, NAMESPACE, UID, make_deployment, make_inputs, make_role, make_spec

OWNER = Owner(name=NAME, namespace=NAMESPACE, uid=UID)
DIGEST = "sha256:" + "0" * 64
IMAGE = f"registry.example:5000/models/llama@{DIGEST}"
GPU = ("nvidia-h100-80gb",)


def role(**parts: Any) -> Manifest:
    return {**make_role(), **parts}


def from_image(**image: Any) -> Manifest:
    return role(model={"source": {"image": {"reference": IMAGE, **image}}})


def in_engine(kind: str, model: Manifest | None = None, **parts: Any) -> Manifest:
    drafts = {"kind": kind, **({} if model is None else {"model": model})}
    return make_spec(draft=None, speculation={"method": "InEngine", "inEngine": drafts, "maxDepth": 3}, **parts)


def pod_of(spec: Manifest, which: Role = Role.VERIFIER) -> Manifest:
    template = pod_template_of(OWNER, make_inputs(spec, which))
    found: Manifest = template["spec"]
    return found


def options_of(spec: Manifest, which: Role = Role.VERIFIER) -> LaunchOptions:
    return LaunchOptions.parse(pod_of(spec, which)["containers"][0]["args"])


def volumes_of(pod: Manifest) -> dict[str, Manifest]:
    return {volume["name"]: volume for volume in pod["volumes"]}


def mounts_of(pod: Manifest) -> dict[str, Manifest]:
    return {mount["name"]: mount for mount in pod["containers"][0]["volumeMounts"]}


def refusal_of(spec: Manifest) -> str:
    with pytest.raises(InvalidSpecError) as caught:
        make_deployment(spec)
    return str(caught.value)


# -- sources -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("path", "folder"), [({}, "/models"), ({"path": "a/b"}, "/models/a/b")])
def test_a_model_in_an_image_is_an_image_volume_that_nobody_can_write_to(path: Manifest, folder: str) -> None:
    spec = make_spec(verifier=from_image(**path))
    pod = pod_of(spec)
    assert volumes_of(pod)["models"] == {
        "name": "models",
        "image": {"reference": IMAGE, "pullPolicy": "IfNotPresent"},
    }
    assert mounts_of(pod)["models"] == {"name": "models", "mountPath": "/models", "readOnly": True}
    assert options_of(spec).model == folder


@pytest.mark.parametrize(
    "source",
    [{}, {"image": {"reference": IMAGE}, "persistentVolumeClaim": {"claimName": "models", "path": "m"}}],
    ids=["none", "both"],
)
def test_exactly_one_source_is_required(source: Manifest) -> None:
    expected = (
        "spec.verifier.model.source: exactly one source is required: persistentVolumeClaim, image, huggingFace or s3"
    )
    assert expected in refusal_of(make_spec(verifier=role(model={"source": source})))


# -- scheduling --------------------------------------------------------------------------------------------------


def test_a_users_tolerations_come_after_those_of_the_accelerator_and_none_twice() -> None:
    given = [
        {"key": "team", "operator": "Equal", "value": "chat", "effect": "NoSchedule"},
        {"key": "nvidia.com/gpu", "effect": "NoSchedule"},
    ]
    pod = pod_of(make_spec(verifier={**make_role(classes=GPU, count=1), "scheduling": {"tolerations": given}}))
    assert pod["tolerations"] == [
        {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"},
        {"key": "team", "operator": "Equal", "value": "chat", "effect": "NoSchedule"},
    ]


@pytest.mark.parametrize(
    ("spread", "key"), [("Zone", "topology.kubernetes.io/zone"), ("Node", "kubernetes.io/hostname")]
)
def test_pods_of_one_revision_are_spread_as_far_as_there_is_room(spread: str, key: str) -> None:
    spec = make_spec(verifier=role(scheduling={"topologySpread": spread}))
    (constraint,) = pod_of(spec)["topologySpreadConstraints"]
    assert (constraint["topologyKey"], constraint["whenUnsatisfiable"]) == (key, "ScheduleAnyway")
    labels = labels_of(OWNER, Role.VERIFIER, revision=make_inputs(spec).revision)
    assert constraint["labelSelector"]["matchLabels"].items() <= labels.items()
    assert labels_of(OWNER, Role.VERIFIER, revision="other").items() != labels.items()
    assert "topologySpreadConstraints" not in pod_of(spec, Role.DRAFT)


def test_a_priority_class_is_named_in_the_pods_of_its_role_only() -> None:
    spec = make_spec(draft=role(scheduling={"priorityClassName": "low"}))
    assert pod_of(spec, Role.DRAFT)["priorityClassName"] == "low"
    assert "priorityClassName" not in pod_of(spec)


@pytest.mark.parametrize(
    ("toleration", "said"),
    [
        ({"key": "node-role.kubernetes.io/control-plane"}, "must not be a taint of the control plane"),
        ({"key": "node-role.kubernetes.io/master", "operator": "Exists"}, "must not be a taint of the control plane"),
        ({"key": "node.kubernetes.io/unschedulable"}, "or of a node in trouble"),
        ({"key": "control-plane"}, "must not be a taint of the control plane"),
        ({"operator": "Exists"}, "tolerations[0].key: is required"),
        ({"key": ""}, "tolerations[0].key (is '')"),
        ({"key": "a", "operator": "Exists", "value": "b"}, "tolerations[0].value: value must be left out when"),
        ({"key": "a", "effect": "Always"}, "tolerations[0].effect (is 'Always')"),
        ({"key": "a b"}, "tolerations[0].key (is 'a b')"),
    ],
)
def test_a_toleration_of_what_is_not_a_users_is_refused(toleration: Manifest, said: str) -> None:
    assert said in refusal_of(make_spec(verifier=role(scheduling={"tolerations": [toleration]})))


def test_a_priority_class_of_the_system_is_refused() -> None:
    spec = make_spec(verifier=role(scheduling={"priorityClassName": "system-cluster-critical"}))
    assert "must not be a priority class of the system" in refusal_of(spec)


# -- access ------------------------------------------------------------------------------------------------------


def test_a_key_reaches_the_verifier_by_reference_only_and_the_draft_not_at_all() -> None:
    spec = make_spec(access={"apiKey": {"secretKeyRef": {"name": "keys", "key": "chat"}}})
    reference = {"name": API_KEY_VARIABLE, "valueFrom": {"secretKeyRef": {"name": "keys", "key": "chat"}}}
    container = pod_of(spec)["containers"][0]
    assert reference in container["env"]
    assert not any("keys" in argument for argument in container["args"])
    assert options_of(spec).access is Access.API_KEY
    draft = pod_of(spec, Role.DRAFT)["containers"][0]
    assert API_KEY_VARIABLE not in {variable["name"] for variable in draft["env"]}
    assert options_of(spec, Role.DRAFT).access is Access.OPEN


def test_a_peer_is_read_as_it_is_written() -> None:
    labels = {"kubernetes.io/metadata.name": "web"}
    access = {"allowedFrom": [{"namespaceLabels": labels}, {"podLabels": {"app": "gate"}}]}
    web, gate = make_deployment(make_spec(access=access)).spec.access.allowed_from
    assert (web.namespace_labels, web.pod_labels) == (labels, {})
    assert (gate.namespace_labels, gate.pod_labels) == ({}, {"app": "gate"})


@pytest.mark.parametrize(
    ("access", "said"),
    [
        ({"allowedFrom": [{}]}, "allowedFrom[0]: namespaceLabels or podLabels is required"),
        ({"allowedFrom": [{"podLabels": {}}]}, "allowedFrom[0]: namespaceLabels or podLabels is required"),
        ({"allowedFrom": [{"podLabels": {"a b": "c"}}]}, "allowedFrom[0].podLabels: every key must be a label's"),
        ({"allowedFrom": [{"podLabels": {"a\n": "b"}}]}, "allowedFrom[0].podLabels: every key must be a label's"),
        ({"allowedFrom": [{"podLabels": {"a": "b\n"}}]}, "allowedFrom[0].podLabels.a"),
        ({"apiKey": {}}, "apiKey.secretKeyRef: is required"),
        ({"apiKey": {"secretKeyRef": {"name": "Keys", "key": "k"}}}, "apiKey.secretKeyRef.name (is 'Keys')"),
        ({"apiKey": {"secretKeyRef": {"name": "keys", "key": "../k"}}}, "apiKey.secretKeyRef.key (is '../k')"),
    ],
)
def test_access_that_names_nobody_is_refused(access: Manifest, said: str) -> None:
    assert f"spec.access.{said}" in refusal_of(make_spec(access=access))


# -- drafts in the verifier's engine -----------------------------------------------------------------------------

OTHER_CLAIM = {"source": {"persistentVolumeClaim": {"claimName": "heads", "path": "eagle"}}}
SAME_CLAIM = {"source": {"persistentVolumeClaim": {"claimName": "models", "path": "eagle"}}}


def test_weights_of_another_source_are_mounted_beside_the_verifiers() -> None:
    spec = in_engine("EAGLE3", OTHER_CLAIM)
    pod, options = pod_of(spec), options_of(spec)
    assert volumes_of(pod)["in-engine-models"]["persistentVolumeClaim"] == {"claimName": "heads", "readOnly": True}
    assert mounts_of(pod)["in-engine-models"]["readOnly"] is True
    assert options.in_engine_model == mounts_of(pod)["in-engine-models"]["mountPath"] + "/eagle"
    assert (options.speculation, options.in_engine, options.max_depth) == (
        Speculation.IN_ENGINE, InEngineKind.EAGLE3, 3,
    )  # fmt: skip


def test_the_same_claim_is_mounted_once() -> None:
    spec = in_engine("DraftModel", SAME_CLAIM)
    assert [name for name in volumes_of(pod_of(spec)) if "models" in name] == ["models"]
    assert options_of(spec).in_engine_model == "/models/eagle"


@pytest.mark.parametrize("kind", ["MTP", "Suffix"])
def test_a_kind_without_weights_needs_no_volume(kind: str) -> None:
    options = options_of(in_engine(kind))
    assert (options.in_engine, options.in_engine_model) == (InEngineKind(kind), "")


def test_the_weights_belong_to_the_verifiers_revision() -> None:
    revisions = {make_inputs(in_engine("EAGLE3", model)).revision for model in (OTHER_CLAIM, SAME_CLAIM)}
    assert len(revisions) == 2


@pytest.mark.parametrize(
    ("speculation", "said"),
    [
        ({"method": "InEngine"}, "inEngine: inEngine is required when method is InEngine"),
        ({"method": "Off", "inEngine": {"kind": "MTP"}}, "inEngine: inEngine must be left out unless method is"),
        ({"inEngine": {"kind": "MTP"}}, "inEngine: inEngine must be left out unless method is InEngine"),
        ({"method": "InEngine", "inEngine": {"kind": "EAGLE3"}}, "inEngine.model: model is required when kind is"),
        (
            {"method": "InEngine", "inEngine": {"kind": "Suffix", "model": SAME_CLAIM}},
            "inEngine.model: model must be left out when kind is MTP or Suffix",
        ),
        ({"method": "InEngine", "inEngine": {"kind": "Medusa"}}, "inEngine.kind (is 'Medusa')"),
    ],
)
def test_drafts_in_the_engine_that_do_not_fit_together_are_refused(speculation: Manifest, said: str) -> None:
    assert f"spec.speculation.{said}" in refusal_of(make_spec(speculation=speculation))


# -- rollout and the end of a pod --------------------------------------------------------------------------------


def test_a_rollout_that_is_left_out_has_the_documented_times() -> None:
    rollout = make_deployment().spec.rollout
    assert (rollout.strategy, rollout.on_failure) == ("Auto", "Rollback")
    times = (rollout.surge_wait_seconds, rollout.drain_timeout_seconds, rollout.progress_deadline_seconds)
    assert times == (120, 600, 1800)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("30s", 30), ("10m", 600), ("1h", 3600), ("0h30m", 1800), ("59m60s", 3600), ("0m90s", 90)],
)
def test_a_duration_is_read_as_go_reads_it(text: str, seconds: int) -> None:
    rollout = {"drainTimeout": text}
    assert make_deployment(make_spec(rollout=rollout)).spec.rollout.drain_timeout_seconds == seconds


@pytest.mark.parametrize(
    "text", ["", "10", "10 m", "1.5h", "m", "-1m", "1m1h", "1d", "1ms", "10m\n", "1h30", "٣m", 600]
)
def test_what_is_no_duration_is_refused(text: Any) -> None:
    assert "spec.rollout.drainTimeout" in refusal_of(make_spec(rollout={"drainTimeout": text}))


@pytest.mark.parametrize(
    ("rollout", "said"),
    [
        ({"surgeWait": "0s"}, "surgeWait (is '0s'): must be from 1s to 1h"),
        ({"surgeWait": "1h1s"}, "surgeWait (is '1h1s'): must be from 1s to 1h"),
        ({"drainTimeout": "61m"}, "drainTimeout (is '61m'): must be from 1s to 1h"),
        ({"progressDeadline": "9s", "surgeWait": "1s"}, "progressDeadline (is '9s'): must be from 10s to 24h"),
        ({"progressDeadline": "24h1s"}, "progressDeadline (is '24h1s'): must be from 10s to 24h"),
        ({"progressDeadline": "2m"}, "progressDeadline: progressDeadline must be longer than surgeWait"),
        ({"surgeWait": "30m"}, "progressDeadline: progressDeadline must be longer than surgeWait"),
        ({"strategy": "Canary"}, "strategy (is 'Canary')"),
        ({"onFailure": "Ignore"}, "onFailure (is 'Ignore')"),
    ],
)
def test_a_rollout_outside_its_ranges_is_refused(rollout: Manifest, said: str) -> None:
    assert f"spec.rollout.{said}" in refusal_of(make_spec(rollout=rollout))


def test_the_drain_timeout_is_in_a_new_template_and_in_no_revision() -> None:
    short, long = (make_spec(rollout={"drainTimeout": text}) for text in ("1m", "20m"))
    assert make_inputs(short).revision == make_inputs(long).revision
    pod, times = pod_of(long), StopTimes.of_drain(1200)
    assert pod["terminationGracePeriodSeconds"] == times.grace_seconds
    assert pod["containers"][0]["lifecycle"] == {"preStop": {"sleep": {"seconds": times.pre_stop_seconds}}}
    assert options_of(long).drain_seconds == 1200


# -- accelerators of a replica -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("parts", "count", "tensor_parallel"),
    [
        ({"accelerator": {"classes": list(GPU), "count": 4}}, 4, 4),
        ({"accelerator": {"classes": list(GPU)}, "tensorParallel": 2}, 2, 2),
        ({"accelerator": {"classes": list(GPU), "count": 2}, "tensorParallel": 2}, 2, 2),
        ({"accelerator": {"classes": ["cpu"], "count": 4}, "tensorParallel": 2}, 4, 2),
        ({"accelerator": {"classes": ["cpu"], "count": 4}}, 4, 1),
    ],
)
def test_ranks_and_count_follow_from_each_other(parts: Manifest, count: int, tensor_parallel: int) -> None:
    inputs = make_inputs(make_spec(verifier=role(**parts)))
    assert (inputs.count, inputs.tensor_parallel) == (count, tensor_parallel)


def test_one_rank_on_cpus_written_out_is_no_other_revision() -> None:
    plain = {"accelerator": {"classes": ["cpu"], "count": 4}}
    one, several = (make_inputs(make_spec(verifier=role(**plain, tensorParallel=ranks))).revision for ranks in (1, 2))
    assert one == make_inputs(make_spec(verifier=role(**plain))).revision != several


def test_more_ranks_than_accelerators_and_idle_accelerators_are_refused() -> None:
    many = role(accelerator={"classes": list(GPU), "count": 2}, tensorParallel=4)
    said = "spec.verifier.tensorParallel: tensorParallel must not be above accelerator.count"
    assert said in refusal_of(make_spec(verifier=many))
    few = role(accelerator={"classes": list(GPU), "count": 4}, tensorParallel=2)
    with pytest.raises(RejectedSpecError, match=r"spec\.verifier\.tensorParallel \(is 2\): must be 4") as caught:
        make_inputs(make_spec(verifier=few))
    assert caught.value.reason is Reason.TENSOR_PARALLEL_MISMATCH
