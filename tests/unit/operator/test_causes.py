"""Why a pod is not Ready: one line from statuses as kubelet, scheduler and controllers write them."""

from __future__ import annotations

from typing import Any

import pytest

from tandem_contracts.termination import ExitCode, Phase, Reason, TerminationMessage
from tandem_operator.causes import is_held_up, lacks_pods, mishap_of, steady, trouble_of

Raw = dict[str, Any]
AT = "2030-01-01T00:00:00Z"
IMAGE = "registry.example/engine:1"
SCHEDULED = {"type": "PodScheduled", "status": "True", "lastTransitionTime": AT}
NOT_READY = {
    "type": "Ready",
    "status": "False",
    "reason": "ContainersNotReady",
    "message": "containers with unready status: [engine]",
    "lastTransitionTime": AT,
}
ROOT_CAUSE = TerminationMessage(
    code=ExitCode.MODEL_NOT_FOUND,
    phase=Phase.CHECK,
    reason=Reason.MODEL_NOT_FOUND,
    message="model path /models/llama does not exist",
).encode()


def pod(status: Raw, *, node: str = "gpu-1", **metadata: Any) -> Raw:
    spec = {"nodeName": node} if node else {}
    return {"kind": "Pod", "metadata": {"name": "p", "uid": "u", **metadata}, "spec": spec, "status": status}


def container(state: Raw, *, last: Raw | None = None, ready: bool = False, name: str = "engine") -> Raw:
    return {"name": name, "image": IMAGE, "ready": ready, "state": state, "lastState": last or {}, "restartCount": 3}


def pending(*containers: Raw, init: tuple[Raw, ...] = ()) -> Raw:
    status = {"phase": "Pending", "conditions": [SCHEDULED, NOT_READY], "containerStatuses": list(containers)}
    return status | ({"initContainerStatuses": list(init)} if init else {})


def running(*containers: Raw) -> Raw:
    return {"phase": "Running", "conditions": [SCHEDULED, NOT_READY], "containerStatuses": list(containers)}


def waiting(reason: str, message: str = "") -> Raw:
    return {"waiting": {"reason": reason} | ({"message": message} if message else {})}


def terminated(code: int, reason: str = "Error", message: str = "") -> Raw:
    return {
        "terminated": {
            "exitCode": code, "reason": reason, "startedAt": AT, "finishedAt": AT, "containerID": "containerd://1",
        } | ({"message": message} if message else {})
    }  # fmt: skip


PULL_ERROR = (
    'failed to pull and unpack image "registry.example/engine:1": failed to resolve reference '
    '"registry.example/engine:1": registry.example/engine:1: not found'
)
SCHEDULER = (
    "0/3 nodes are available: 3 Insufficient nvidia.com/gpu. preemption: 0/3 nodes are available: "
    "3 No preemption victims found for incoming pod."
)

CAUSES: dict[str, tuple[Raw, str]] = {
    "it is well": (
        pod({"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}),
        "",
    ),
    "it was only just made": (pod({"phase": "Pending"}, node=""), ""),
    "its containers are being made": (pod(pending(container(waiting("ContainerCreating")))), ""),
    "its engine loads": (pod(running(container({"running": {"startedAt": AT}}))), ""),
    "no node has room": (
        pod(
            {
                "phase": "Pending",
                "conditions": [
                    {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": SCHEDULER}
                ],
            },
            node="",
        ),
        f"Unschedulable: {SCHEDULER}",
    ),
    "its claim is missing": (
        pod(
            {
                "phase": "Pending",
                "conditions": [
                    {
                        "type": "PodScheduled",
                        "status": "False",
                        "reason": "Unschedulable",
                        "message": '0/1 nodes are available: persistentvolumeclaim "models" not found. not found',
                    }
                ],
            },
            node="",
        ),
        'Unschedulable: 0/1 nodes are available: persistentvolumeclaim "models" not found. not found',
    ),
    "its image cannot be pulled": (
        pod(pending(container(waiting("ErrImagePull", PULL_ERROR)))),
        f"ImagePullBackOff: {PULL_ERROR}",
    ),
    "its image cannot be pulled, and the kubelet waits before the next try": (
        pod(
            pending(
                container(waiting("ImagePullBackOff", f'Back-off pulling image "{IMAGE}": ErrImagePull: {PULL_ERROR}'))
            )
        ),
        f"ImagePullBackOff: {PULL_ERROR}",
    ),
    "its image has no valid name": (
        pod(pending(container(waiting("InvalidImageName", 'Failed to apply default image tag "A": bad')))),
        'InvalidImageName: Failed to apply default image tag "A": bad',
    ),
    "a Secret of its environment is missing": (
        pod(pending(container(waiting("CreateContainerConfigError", 'secret "keys" not found')))),
        'CreateContainerConfigError: secret "keys" not found',
    ),
    "a key of a Secret is missing": (
        pod(pending(container(waiting("CreateContainerConfigError", "couldn't find key chat in Secret ns/keys")))),
        "CreateContainerConfigError: couldn't find key chat in Secret ns/keys",
    ),
    "its command is not there": (
        pod(running(container(waiting("RunContainerError", 'exec: "python": executable file not found in $PATH')))),
        'RunContainerError: exec: "python": executable file not found in $PATH',
    ),
    "its engine said why it ended": (
        pod(running(container(terminated(41, message=ROOT_CAUSE)))),
        "ModelNotFound: model path /models/llama does not exist (phase check)",
    ),
    "its engine ends again and again, and waits now": (
        pod(
            running(
                container(
                    waiting("CrashLoopBackOff", "back-off 2m40s restarting failed container=engine pod=p_ns(u)"),
                    last=terminated(41, message=ROOT_CAUSE),
                )
            )
        ),
        "ModelNotFound: model path /models/llama does not exist (phase check)",
    ),
    "its engine ends again and again, and runs now": (
        pod(running(container({"running": {"startedAt": AT}}, last=terminated(41, message=ROOT_CAUSE)))),
        "ModelNotFound: model path /models/llama does not exist (phase check)",
    ),
    "its engine ended once and is well now": (
        pod(
            {
                "phase": "Running",
                "conditions": [{"type": "Ready", "status": "True"}],
                "containerStatuses": [container({"running": {}}, last=terminated(137, "OOMKilled"), ready=True)],
            }
        ),
        "",
    ),
    "its container left only the end of its log": (
        pod(running(container(terminated(1, message="Traceback (most recent call last):\n\nValueError: no\n")))),
        "container engine ended with exit code 1: ValueError: no",
    ),
    "its container was killed": (
        pod(running(container(terminated(137)))),
        "container engine ended with exit code 137 (SIGKILL)",
    ),
    "it succeeded without end": (
        pod(running(container(waiting("CrashLoopBackOff", "back-off 10s"), last=terminated(0, "Completed")))),
        "CrashLoopBackOff",
    ),
    "it had too little memory": (
        pod(running(container(waiting("CrashLoopBackOff", "back-off"), last=terminated(137, "OOMKilled")))),
        "OOMKilled: container engine used more memory than its limit, or its node ran out of memory",
    ),
    "an init container fails": (
        pod(
            pending(
                container(waiting("PodInitializing")),
                init=(container(terminated(2, message="no such bucket"), name="fetch"),),
            )
        ),
        "container fetch ended with exit code 2: no such bucket",
    ),
    "it was evicted": (
        pod(
            {
                "phase": "Failed",
                "reason": "Evicted",
                "message": "The node was low on resource: memory. Threshold quantity: 100Mi, available: 12Mi. ",
            }
        ),
        "Evicted: The node was low on resource: memory. Threshold quantity: 100Mi, available: 12Mi.",
    ),
    "its kubelet would not have it": (
        pod({"phase": "Failed", "reason": "UnexpectedAdmissionError", "message": "Allocate failed due to no devices"}),
        "UnexpectedAdmissionError: Allocate failed due to no devices",
    ),
    "it failed and only its container says why": (
        pod({"phase": "Failed", "containerStatuses": [container(terminated(41, message=ROOT_CAUSE))]}),
        "ModelNotFound: model path /models/llama does not exist (phase check)",
    ),
    "it is preempted": (
        pod(
            {
                "phase": "Running",
                "conditions": [
                    {"type": "Ready", "status": "True"},
                    {
                        "type": "DisruptionTarget",
                        "status": "True",
                        "reason": "PreemptionByScheduler",
                        "message": "default-scheduler: preempting to accommodate a higher priority pod",
                    },
                ],
            },
            deletionTimestamp=AT,
        ),
        "PreemptionByScheduler: default-scheduler: preempting to accommodate a higher priority pod",
    ),
    "its node does not answer": (
        pod(
            {
                "phase": "Running",
                "conditions": [
                    {"type": "Ready", "status": "False", "lastTransitionTime": AT},
                    {"type": "ContainersReady", "status": "True", "lastTransitionTime": AT},
                ],
                "containerStatuses": [container({"running": {"startedAt": AT}}, ready=True)],
            }
        ),
        "NodeLost: node gpu-1 does not answer any more",
    ),
    "its node does not answer, and its engine had ended once before": (
        pod(
            {
                "phase": "Running",
                "conditions": [{"type": "Ready", "status": "False"}, {"type": "ContainersReady", "status": "True"}],
                "containerStatuses": [container({"running": {}}, last=terminated(137, "OOMKilled"), ready=True)],
            }
        ),
        "NodeLost: node gpu-1 does not answer any more",
    ),
    "somebody's readiness gate is not open": (
        pod(
            {
                "phase": "Running",
                "conditions": [
                    {"type": "Ready", "status": "False", "reason": "ReadinessGatesNotReady"},
                    {"type": "ContainersReady", "status": "True"},
                ],
            }
        ),
        "",
    ),
    "it was to be evicted and is not any more": (
        pod(
            {
                "phase": "Running",
                "conditions": [
                    {"type": "Ready", "status": "True"},
                    {"type": "DisruptionTarget", "status": "False", "reason": "EvictionByEvictionAPI"},
                ],
            }
        ),
        "",
    ),
    "it is being deleted": (pod(running(container(terminated(143))), deletionTimestamp=AT), ""),
}


@pytest.mark.parametrize("case", CAUSES)
def test_the_cause_of_a_pod_is_told_in_one_line(case: str) -> None:
    raw, told = CAUSES[case]
    assert trouble_of(raw) == told


@pytest.mark.parametrize("case", CAUSES)
def test_a_cause_from_the_status_comes_before_what_events_say(case: str) -> None:
    raw, told = CAUSES[case]
    is_open = case == "its containers are being made"
    assert is_held_up(raw) is is_open
    assert trouble_of(raw, mishap="FailedMount: x") == ("FailedMount: x" if is_open else told)


def event(kind: str, reason: str, note: str, *, last: str = AT, series: str = "") -> Raw:
    told = {"type": kind, "reason": reason, "note": note, "deprecatedLastTimestamp": last}
    return told | ({"series": {"lastObservedTime": series}} if series else {})


@pytest.mark.parametrize(
    ("status", "lacks"),
    [
        ({}, True),
        ({"active": 0, "failed": 1, "conditions": [{"type": "Suspended", "status": "False"}]}, True),
        ({"active": 1}, False),
        *(
            ({"conditions": [{"type": kind, "status": "True"}]}, False)
            for kind in ("Complete", "Failed", "FailureTarget", "SuccessCriteriaMet", "Suspended")
        ),
    ],
)
def test_a_job_lacks_pods_unless_one_is_active_or_none_is_to_come(status: Raw, lacks: bool) -> None:
    assert lacks_pods({"metadata": {}, "status": status}) is lacks
    assert not lacks_pods({"metadata": {"deletionTimestamp": AT}, "status": status})


SCHEDULED_EVENT = event("Normal", "Scheduled", "Successfully assigned ns/p to gpu-1")
MOUNT = event("Warning", "FailedMount", 'MountVolume.SetUp failed for volume "keys" : secret "keys" not found')
ATTACH = event("Warning", "FailedAttachVolume", 'Multi-Attach error for volume "pvc-1" Volume is used elsewhere')
SUMMARY = event(
    "Warning",
    "FailedMount",
    "Unable to attach or mount volumes: unmounted volumes=[keys], unattached volumes=[], failed to process volumes=[]",
    last="2030-01-01T00:02:00Z",
)


@pytest.mark.parametrize(
    ("events", "told"),
    [
        ([], ""),
        ([SCHEDULED_EVENT], ""),
        (
            [event("Warning", "FailedScheduling", "0/1 nodes are available", last="2031-01-01T00:00:00Z")],
            "",
        ),
        ([SCHEDULED_EVENT, MOUNT], 'FailedMount: MountVolume.SetUp failed for volume "keys" : secret "keys" not found'),
        (
            [SCHEDULED_EVENT, MOUNT, SUMMARY],
            'FailedMount: MountVolume.SetUp failed for volume "keys" : secret "keys" not found',
        ),
        ([ATTACH], 'FailedAttachVolume: Multi-Attach error for volume "pvc-1" Volume is used elsewhere'),
        ([MOUNT, event("Normal", "Pulling", "Pulling image", last="2030-01-01T00:00:09Z")], ""),
        ([MOUNT, event("Normal", "Pulling", "Pulling image")], ""),
        ([MOUNT, event("Normal", "Created", "Created container engine")], ""),
        ([MOUNT, event("Normal", "Pulling", "Pulling image", series="2030-01-01T00:00:00.123456Z")], ""),
        ([MOUNT, ATTACH], 'FailedAttachVolume: Multi-Attach error for volume "pvc-1" Volume is used elsewhere'),
        (
            [
                event("Normal", "Pulling", "Pulling image", last="2030-01-01T00:00:09Z"),
                {"type": "Warning", "reason": "Failed", "note": "late", "eventTime": "2030-01-01T00:00:10.123456Z"},
            ],
            "Failed: late",
        ),
        (
            [
                event("Normal", "Pulling", "Pulling image", last="2030-01-01T00:00:09Z"),
                event("Warning", "Failed", "late", series="2030-01-01T00:00:10.123456Z"),
            ],
            "Failed: late",
        ),
        (
            [
                event(
                    "Warning",
                    "FailedCreatePodSandBox",
                    'Failed to create pod sandbox: plugin type="bridge" failed for sandbox '
                    '"c7a2d1f0c7a2d1f0c7a2d1f0c7a2d1f0c7a2d1f0c7a2d1f0c7a2d1f0c7a2d1f0": no address left',
                )
            ],
            'FailedCreatePodSandBox: Failed to create pod sandbox: plugin type="bridge" failed for sandbox "…": '
            "no address left",
        ),
    ],
)
def test_events_tell_what_keeps_containers_from_being_made_until_they_are(events: list[Raw], told: str) -> None:
    assert mishap_of(events) == mishap_of(events[::-1]) == told


@pytest.mark.parametrize(
    ("one", "another"),
    [
        (
            "dial tcp: lookup reg on 10.0.0.1:53: read udp 10.1.2.3:45833->10.0.0.1:53: i/o timeout",
            "dial tcp: lookup reg on 10.0.0.1:53: read udp 10.1.2.3:51002->10.0.0.1:53: i/o timeout",
        ),
        (
            'pods "x-verifier-7f3a90c1-5d9c8-k2x4q" is forbidden: exceeded quota: q',
            'pods "x-verifier-7f3a90c1-5d9c8-zz7wp" is forbidden: exceeded quota: q',
        ),
        ("2030-01-01 10:00:00,123 ERROR lost", "2030-01-01 10:00:02,456 ERROR lost"),
        ("[10:00:00.1] lost", "[10:05:09.7] lost"),
    ],
)
def test_what_is_another_with_every_try_is_left_out(one: str, another: str) -> None:
    assert steady(one) == steady(another)


def test_the_digest_of_an_image_is_not_left_out() -> None:
    digest = "reg/x@sha256:" + "0a" * 32
    assert steady(digest) == digest


def test_a_cause_without_end_is_cut() -> None:
    assert len(trouble_of(pod(pending(container(waiting("ErrImagePull", "x" * 5000)))))) <= 600
