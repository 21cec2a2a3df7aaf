"""`tandem status`: one resource as a tree: conditions with their causes, revisions, pods, the last cold start.

Reads with the user's own rights. What is drawn is a pure function of the raw objects and the time.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime

from tandem_contracts.launch import Role
from tandem_operator import names
from tandem_operator.cli.connection import Connection
from tandem_operator.cli.cost import cost_in
from tandem_operator.cli.inputs import CommandError
from tandem_operator.cold_start import StartPhase
from tandem_operator.facts import Manifest, PodFacts
from tandem_operator.facts_parsing import pod_of
from tandem_operator.masking import one_line
from tandem_operator.names import ConditionType, Reason

IS_READY, IS_NOT_READY = 0, 1

_ABNORMAL = frozenset({ConditionType.RECONCILING, ConditionType.STALLED, ConditionType.SCALING_LIMITED})
"""Conditions that are good while they are False."""
_HARMLESS = frozenset({Reason.AT_MINIMUM, Reason.LIMITED_BY_BEHAVIOR})
"""Reasons of such a condition to be True that ask nothing of anybody."""
_RED, _GREEN, _YELLOW, _BOLD, _DIM = "31", "32", "33", "1", "2"


@dataclass(frozen=True)
class Paint:
    """Colours of a terminal, or none."""

    is_on: bool

    def __call__(self, text: str, code: str) -> str:
        return f"\x1b[{code}m{text}\x1b[0m" if self.is_on and text else text


def run_status(connection: Connection, name: str, *, now: datetime, paint: Paint) -> tuple[str, int]:
    """The tree of a resource and the exit code: 0 when its present generation is Ready, 1 when it is not.

    Raises CommandError, with exit code 2 when there is no such resource.
    """
    body = connection.get(names.KIND, name)
    try:
        found = connection.get("Pod", labelSelector=f"{names.LABEL_DEPLOYMENT}={name}")["items"]
        pods, note = [pod for item in found if (pod := pod_of({**item, "kind": "Pod"}))], ""
    except CommandError as error:
        pods, note = [], f"pods are not shown: {error}"
    return "\n".join(tree(body, pods, now=now, paint=paint, note=note)) + "\n", exit_code_of(body)


def exit_code_of(body: Manifest) -> int:
    """Whether the present generation is Ready, for scripts."""
    ready = next((c for c in _conditions(body) if c["type"] == ConditionType.READY), {})
    is_current = ready.get("observedGeneration") == body["metadata"].get("generation")
    return IS_READY if is_current and ready.get("status") == "True" else IS_NOT_READY


def tree(body: Manifest, pods: Iterable[PodFacts], *, now: datetime, paint: Paint, note: str = "") -> Iterator[str]:
    """The lines to show."""
    metadata, status = body["metadata"], body.get("status") or {}
    generation, observed = metadata.get("generation", 1), status.get("observedGeneration", 0)
    yield paint(f"{names.KIND} {metadata['namespace']}/{metadata['name']}", _BOLD) + paint(
        f"  generation {generation}, {_age(metadata.get('creationTimestamp'), now)} old", _DIM
    )
    branches: list[list[str]] = []
    if not status:
        branches.append(["the operator has said nothing of it yet: does one run in this namespace?"])
    elif observed < generation:
        branches.append([paint(f"the operator has not acted on generation {generation} yet", _YELLOW)])
    if "deletionTimestamp" in metadata:
        branches.append([paint("it is being deleted", _YELLOW)])
    branches += [_condition(condition, now=now, paint=paint) for condition in _conditions(body)]
    every = sorted(pods, key=lambda pod: pod.ref)
    branches += [
        _role(
            role,
            status.get(role.value) or {},
            [pod for pod in every if pod.role is role],
            is_failed=_has_failed(body, role),
            now=now,
            paint=paint,
        )
        for role in Role
        if status.get(role.value) or any(pod.role is role for pod in every)
    ]
    if status.get("coldStart"):
        branches.append([_cold_start(status["coldStart"])])
    if cost := cost_in(status.get("scaling")):
        branches.append([cost])
    if note:
        branches.append([paint(note, _YELLOW)])
    yield from _drawn(branches)


def _conditions(body: Manifest) -> list[Manifest]:
    """In the order of the API, whatever order they are stored in; what it does not know comes last."""
    order = {kind.value: position for position, kind in enumerate(ConditionType)}
    found = (body.get("status") or {}).get("conditions") or []
    return sorted(found, key=lambda condition: (order.get(condition["type"], len(order)), condition["type"]))


def _condition(condition: Manifest, *, now: datetime, paint: Paint) -> list[str]:
    truth = condition.get("status", "Unknown")
    is_good = (truth == "True") != (condition["type"] in _ABNORMAL)
    mark, colour = ("✓", _GREEN) if is_good else ("✗", _RED)
    if truth == "Unknown":
        mark, colour = "?", _YELLOW
    elif condition["type"] == ConditionType.RECONCILING or (not is_good and condition.get("reason") in _HARMLESS):
        mark, colour = "…", _YELLOW
    since = paint(f"{_age(condition.get('lastTransitionTime'), now):>5}", _DIM)
    reason = condition.get("reason", "")
    head = f"{paint(mark, colour)} {condition['type']:<21}{since}  {paint(reason, colour)}"
    message = one_line(condition.get("message", ""))
    return [f"{head}: {message}" if message else head]


def _has_failed(body: Manifest, role: Role) -> bool:
    """Whether the revision that a role was to go to has failed."""
    kind = ConditionType.VERIFIER_READY if role is Role.VERIFIER else ConditionType.DRAFT_READY
    return any((c["type"], c.get("reason")) == (kind, Reason.ROLLOUT_FAILED) for c in _conditions(body))


def _role(
    role: Role, status: Manifest, pods: list[PodFacts], *, is_failed: bool, now: datetime, paint: Paint
) -> list[str]:
    serving, target = status.get("revision", ""), status.get("targetRevision", "")
    lines = [paint(f"{role} {status.get('summary', '')}".rstrip(), _BOLD)]
    revisions = list(dict.fromkeys([serving, target, *(pod.revision for pod in pods)]))
    branches = []
    for revision in (revision for revision in revisions if revision):
        mine = [pod for pod in pods if pod.revision == revision]
        drawn = _drawn([[_pod(pod, now=now, paint=paint)] for pod in mine])
        branches.append(
            [f"revision {revision}{_meaning(revision, serving=serving, target=target, is_failed=is_failed)}", *drawn]
        )
    return [*lines, *_drawn(branches)]


def _meaning(revision: str, *, serving: str, target: str, is_failed: bool) -> str:
    if revision == serving == target:
        return ""
    if revision == serving:
        return " (serves)"
    if revision != target:
        return " (on its way out)"
    return " (failed)" if is_failed else " (is to take over)"


def _pod(pod: PodFacts, *, now: datetime, paint: Paint) -> str:
    state, colour = ("Ready", _GREEN) if pod.is_ready else ("not Ready", _YELLOW)
    if pod.trouble and not pod.is_ready:
        colour = _RED
    if pod.is_going or pod.is_over:
        state, colour = ("going" if pod.is_going else "ended"), _DIM
    where = f" on {pod.node}" if pod.node else ""
    line = f"{pod.ref.name}  {paint(state, colour)}{where}  {paint(_age_of(pod.created, now), _DIM)}"
    return f"{line}  {pod.trouble}" if pod.trouble else line


def _cold_start(start: Manifest) -> str:
    """Phases in their order; keys are those of the status."""
    shown = {phase: start.get("warmUp" if phase is StartPhase.WARM_UP else phase.value) for phase in StartPhase}
    phases = [f"{phase.value.replace('_', '-')} {one_line(str(took))}" for phase, took in shown.items() if took]
    return f"last cold start ({one_line(str(start.get('pod', '')))}): {', '.join(phases) or 'nothing is known of it'}"


def _drawn(branches: list[list[str]]) -> list[str]:
    """Branches of a tree below each other: the first line of each hangs on the trunk, the others below it."""
    lines: list[str] = []
    for number, (first, *rest) in enumerate(branches, start=1):
        is_last = number == len(branches)
        lines.append(("└─ " if is_last else "├─ ") + first)
        lines += [("   " if is_last else "│  ") + line for line in rest]
    return lines


def _age(written: str | None, now: datetime) -> str:
    try:
        return _age_of(datetime.fromisoformat(written or ""), now)
    except ValueError:
        return "?"


def _age_of(then: datetime, now: datetime) -> str:
    """As kubectl shows it: one unit, whole numbers."""
    seconds = max(0, int((now - then).total_seconds()))
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= 2 * size:
            return f"{seconds // size}{unit}"
    return f"{seconds}s"
