"""Why a pod is not Ready, or is not made, in one line, from what status and events hold. Pure.

Says what the kubelet, the scheduler or the engine itself wrote, less what differs from one try to the next (times,
generated names, ports): the line stays the same for as long as the cause does, so that a status is written once.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from tandem_contracts.termination import TerminationMessage
from tandem_operator.masking import one_line

LIMIT = 600
_BEING_MADE = frozenset({"ContainerCreating", "PodInitializing", ""})
_SIGNALS = {134: "SIGABRT", 137: "SIGKILL", 139: "SIGSEGV", 143: "SIGTERM"}


def trouble_of(pod: Mapping[str, Any], *, mishap: str = "") -> str:
    """The cause, or nothing when the pod is well or merely on its way.

    `mishap` is what the cluster's events say of it; used where the status of the pod says no more than that its
    containers are being made.
    """
    status = pod.get("status") or {}
    conditions = {condition["type"]: condition for condition in status.get("conditions") or []}
    if status.get("phase") == "Failed":
        return _cut(_ended(status))
    leaving = conditions.get("DisruptionTarget", {})
    if leaving.get("status") == "True":  # preempted, evicted, its node lost
        return _cut(_said(leaving.get("reason", ""), leaving.get("message", "")))
    if conditions.get("Ready", {}).get("status") == "True" or "deletionTimestamp" in pod["metadata"]:
        return ""
    return _cut(_hindrance(pod, conditions) or (mishap if is_held_up(pod) else ""))


def is_held_up(pod: Mapping[str, Any]) -> bool:
    """Whether a node has the pod and its status says no more than that its containers are being made."""
    status = pod.get("status") or {}
    return (
        bool((pod.get("spec") or {}).get("nodeName"))
        and status.get("phase") == "Pending"
        and "deletionTimestamp" not in pod["metadata"]
        and not any(_cause_of_container(container) for container in _containers(status))
        and any(_waits_to_be_made(container) for container in status.get("containerStatuses") or [{}])
    )


def lacks_pods(job: Mapping[str, Any]) -> bool:
    """Whether a Job is to have a pod and has none: it has only just been made, or none may be made.

    One that has ended, is about to, or is suspended says so by a condition.
    """
    status = job.get("status") or {}
    return (
        not status.get("active")
        and not any(condition.get("status") == "True" for condition in status.get("conditions") or [])
        and "deletionTimestamp" not in job["metadata"]
    )


def mishap_of(events: Iterable[Mapping[str, Any]]) -> str:
    """What keeps the containers of a pod, or the pods of a Job, from being made: from the events about it
    (events.k8s.io/v1).

    Empty when the newest one is no warning: the image is being pulled, or all is well again.
    """
    told = sorted((event for event in events if event.get("reason") not in _OF_THE_SCHEDULER), key=_order)
    if not told or told[-1].get("type") != "Warning":
        return ""
    # The summary of what could not be mounted comes later than, and says less than, what happened to each volume.
    warnings = [event for event in told if event.get("type") == "Warning"]
    precise = [event for event in warnings if not _note(event).startswith("Unable to attach or mount volumes")]
    event = (precise or warnings)[-1]
    return _cut(_said(event.get("reason", ""), _note(event)))


_OF_THE_SCHEDULER = frozenset({"FailedScheduling", "Scheduled", "Preempting"})


def _order(event: Mapping[str, Any]) -> tuple[str, bool, str]:
    """By when it was last seen; within the same second what is no warning counts as later: mounts come first."""
    series = event.get("series") or {}
    last = series.get("lastObservedTime") or event.get("deprecatedLastTimestamp") or event.get("eventTime") or ""
    return last[:19], event.get("type") != "Warning", _note(event)


def _note(event: Mapping[str, Any]) -> str:
    note: str = event.get("note") or ""
    return note


def _ended(status: Mapping[str, Any]) -> str:
    """The pod as a whole has failed: evicted, refused by the kubelet, its node shut down."""
    said = _said(status.get("reason", ""), status.get("message", ""))
    causes = (_terminated(container, _state(container, "terminated")) for container in _containers(status))
    return said or next((cause for cause in causes if cause), "Failed")


def _hindrance(pod: Mapping[str, Any], conditions: Mapping[str, Any]) -> str:
    status = pod.get("status") or {}
    scheduled = conditions.get("PodScheduled", {})
    if scheduled.get("status") == "False":
        return _said(scheduled.get("reason", ""), scheduled.get("message", ""))
    for container in _containers(status):
        cause = _cause_of_container(container)
        if cause:
            return cause
    if _is_node_lost(status, conditions):
        return f"NodeLost: node {(pod.get('spec') or {}).get('nodeName', '')} does not answer any more"
    return ""


def _is_node_lost(status: Mapping[str, Any], conditions: Mapping[str, Any]) -> bool:
    """The node controller takes Ready away and touches nothing else; a kubelet would also say ContainersReady=False."""
    ready, containers = conditions.get("Ready", {}), conditions.get("ContainersReady", {})
    was_told = ready.get("status") == "False" and not ready.get("reason") and containers.get("status") == "True"
    return was_told or status.get("reason") == "NodeLost"


def _cause_of_container(container: Mapping[str, Any]) -> str:
    """The same whether it has just ended, waits to be started again, or was: otherwise the line would alternate."""
    ended = _state(container, "terminated") or (container.get("lastState") or {}).get("terminated") or {}
    waiting = _state(container, "waiting")
    reason = waiting.get("reason", "")
    if reason in {"ErrImagePull", "ImagePullBackOff"}:
        return _said("ImagePullBackOff", _PULL_PREFIX.sub("", waiting.get("message", "")))
    if reason == "CrashLoopBackOff" or reason in _BEING_MADE:
        cause = "" if container.get("ready") else _terminated(container, ended)
        return cause or ("CrashLoopBackOff" if reason == "CrashLoopBackOff" else "")
    return _said(reason, waiting.get("message", ""))


_PULL_PREFIX = re.compile(r'^Back-off pulling image "[^"]*": ErrImagePull: ')


def _terminated(container: Mapping[str, Any], ended: Mapping[str, Any]) -> str:
    """How a container ended: the engine's own root cause where it left one. Nothing for a success."""
    reason, code = ended.get("reason", ""), ended.get("exitCode", 0)
    name = container.get("name", "")
    if reason == "OOMKilled":
        return f"OOMKilled: container {name} used more memory than its limit, or its node ran out of memory"
    if code == 0:
        return ""
    message = ended.get("message", "")
    try:
        told = TerminationMessage.decode(message)
    except ValueError:
        signal = f" ({_SIGNALS[code]})" if code in _SIGNALS else ""
        last_line = next((line for line in reversed(message.splitlines()) if line.strip()), "")
        said = _said("" if reason == "Error" else reason, last_line)
        return f"container {name} ended with exit code {code}{signal}" + (f": {said}" if said else "")
    return _said(told.reason.value, f"{told.message} (phase {told.phase.value})")


def _containers(status: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [*(status.get("initContainerStatuses") or []), *(status.get("containerStatuses") or [])]


def _state(container: Mapping[str, Any], kind: str) -> Mapping[str, Any]:
    found: Mapping[str, Any] = (container.get("state") or {}).get(kind) or {}
    return found


def _waits_to_be_made(container: Mapping[str, Any]) -> bool:
    state = container.get("state") or {"waiting": {}}
    return "waiting" in state and (state["waiting"] or {}).get("reason", "") in _BEING_MADE


def _said(reason: str, message: str) -> str:
    return ": ".join(word for word in (reason, steady(message)) if word)


def steady(message: str) -> str:
    """A foreign message on one line, masked, without what is another with every try."""
    line = one_line(message)
    for pattern, replacement in _PASSING:
        line = pattern.sub(replacement, line)
    return line.strip()


_PASSING = (
    (re.compile(r"\b\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:[.,]\d+)?(?:Z|[+-]\d\d:?\d\d)?"), "…"),
    (re.compile(r"\b\d\d:\d\d:\d\d(?:[.,]\d+)?\b"), "…"),
    (re.compile(r"\b(?:\d{1,3}\.){3}\d{1,3}:\d+->"), ""),  # our end of a connection
    (re.compile(r"\b[0-9a-f]{32,}\b(?<!sha256:[0-9a-f]{64})"), "…"),  # a sandbox; not an image's digest
    (re.compile(r'(pods "[a-z0-9.-]+-)[bcdfghjklmnpqrstvwxz2456789]{5}(" is forbidden)'), r"\1*\2"),
)
"""Among them the generated name in what a ReplicaSet or a Job says of the pod that it may not make."""


def _cut(line: str) -> str:
    return line if len(line) <= LIMIT else line[: LIMIT - 1] + "…"
