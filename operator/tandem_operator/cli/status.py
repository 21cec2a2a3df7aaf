"""`tandem status`: one resource as a tree: conditions with their causes, revisions, pods, the last cold start.

Reads with the user's own rights. What is drawn is a pure function of the raw objects and the time.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime

from tandem_contracts.launch import Role
from tandem_operator import names
from tandem_operator.cli.bench_table import benchmark_line
from tandem_operator.cli.command import Command, on_the_resource, with_output, written
from tandem_operator.cli.connection import Connection, deployment_called
from tandem_operator.cli.cost import cost_in
from tandem_operator.cli.inputs import CommandError
from tandem_operator.cli.screen import BOLD, DIM, GREEN, RED, YELLOW, Paint, Screen
from tandem_operator.cli.status_document import (
    KEYS,
    age_told,
    conditions_of,
    document_of,
    has_failed,
    is_good,
    is_harmless,
    is_of_scaling,
    is_ready,
)
from tandem_operator.cold_start import StartPhase
from tandem_operator.facts import Manifest, PodFacts
from tandem_operator.facts_parsing import pod_of
from tandem_operator.masking import one_line
from tandem_operator.names import ConditionType

IS_READY, IS_NOT_READY = 0, 1


def _add_arguments(command: argparse.ArgumentParser) -> None:
    on_the_resource(command)
    with_output(command)


def _run(options: argparse.Namespace, screen: Screen) -> int:
    now = datetime.now(UTC)
    answer, exit_code = run_status(
        Connection.of(options), options.name, now=now, paint=screen.paint, form=options.output
    )
    screen.write(answer)
    return exit_code


STATUS = Command(
    "show a resource with its causes, revisions, pods and last cold start",
    _run,
    add_arguments=_add_arguments,
    keys=KEYS,
)


def run_status(
    connection: Connection, name: str | None, *, now: datetime, paint: Paint, form: str | None = None
) -> tuple[str, int]:
    """The resource as a tree, or as `form` says, and the exit code: 0 when its present generation is Ready, else 1.

    Raises CommandError, with exit code 2 when there is no such resource.
    """
    body = deployment_called(connection, name)
    name = body["metadata"]["name"]
    try:
        found = connection.get("Pod", labelSelector=f"{names.LABEL_DEPLOYMENT}={name}")["items"]
        pods, note = [pod for item in found if (pod := pod_of({**item, "kind": "Pod"}))], ""
    except CommandError as error:
        pods, note = [], f"pods are not shown: {error}"
    if form:
        return written(document_of(body, pods, notes=[note] if note else []), form), exit_code_of(body)
    return "\n".join(tree(body, pods, now=now, paint=paint, note=note)) + "\n", exit_code_of(body)


def exit_code_of(body: Manifest) -> int:
    """Whether the present generation is Ready, for scripts."""
    return IS_READY if is_ready(body) else IS_NOT_READY


def tree(body: Manifest, pods: Iterable[PodFacts], *, now: datetime, paint: Paint, note: str = "") -> Iterator[str]:
    """The lines to show."""
    metadata, status = body["metadata"], body.get("status") or {}
    generation, observed = metadata.get("generation", 1), status.get("observedGeneration", 0)
    yield paint(f"{names.KIND} {metadata['namespace']}/{metadata['name']}", BOLD) + paint(
        f"  generation {generation}, {_age(metadata.get('creationTimestamp'), now)} old", DIM
    )
    branches: list[list[str]] = []
    if not status:
        branches.append(["the operator has said nothing of it yet: does one run in this namespace?"])
    elif observed < generation:
        branches.append([paint(f"the operator has not acted on generation {generation} yet", YELLOW)])
    if "deletionTimestamp" in metadata:
        branches.append([paint("it is being deleted", YELLOW)])
    conditions = conditions_of(body)
    drawn = [_condition(condition, now=now, paint=paint) for condition in conditions]
    if age := age_told((status.get("scaling") or {}).get("updated"), now):
        of_scaling = [lines for lines, each in zip(drawn, conditions, strict=True) if is_of_scaling(each)]
        for lines in of_scaling[-1:]:  # once for all of them
            lines.append(paint(age, DIM))
    branches += drawn
    every = sorted(pods, key=lambda pod: pod.ref)
    branches += [
        _role(
            role,
            status.get(role.value) or {},
            [pod for pod in every if pod.role is role],
            is_failed=has_failed(body, role),
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
    if status.get("benchmark"):
        branches.append([benchmark_line(status["benchmark"])])
    if note:
        branches.append([paint(note, YELLOW)])
    yield from _drawn(branches)


def _condition(condition: Manifest, *, now: datetime, paint: Paint) -> list[str]:
    truth = condition.get("status", "Unknown")
    mark, colour = ("✓", GREEN) if is_good(condition) else ("✗", RED)
    if truth == "Unknown":
        mark, colour = "?", YELLOW
    elif condition["type"] == ConditionType.RECONCILING or is_harmless(condition):
        mark, colour = "…", YELLOW
    since = paint(f"{_age(condition.get('lastTransitionTime'), now):>5}", DIM)
    reason = condition.get("reason", "")
    head = f"{paint(mark, colour)} {condition['type']:<21}{since}  {paint(reason, colour)}"
    message = one_line(condition.get("message", ""))
    return [f"{head}: {message}" if message else head]


def _role(
    role: Role, status: Manifest, pods: list[PodFacts], *, is_failed: bool, now: datetime, paint: Paint
) -> list[str]:
    serving, target = status.get("revision", ""), status.get("targetRevision", "")
    lines = [paint(f"{role} {status.get('summary', '')}".rstrip(), BOLD)]
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
    state, colour = ("Ready", GREEN) if pod.is_ready else ("not Ready", YELLOW)
    if pod.trouble and not pod.is_ready:
        colour = RED
    if pod.is_going or pod.is_over:
        state, colour = ("going" if pod.is_going else "ended"), DIM
    where = f" on {pod.node}" if pod.node else ""
    line = f"{pod.ref.name}  {paint(state, colour)}{where}  {paint(_age_of(pod.created, now), DIM)}"
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
