"""`tandem why`: why a deployment has as many replicas as it has: what is decided now, and the last changes with inputs.

Reads with the user's own rights. What is printed is a pure function of the resource and of what scaling remembers.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

from tandem_contracts.launch import Role
from tandem_operator import names
from tandem_operator.cli.command import Command, on_the_resource, with_output, written
from tandem_operator.cli.connection import Connection, deployment_called
from tandem_operator.cli.cost import cost_in
from tandem_operator.cli.inputs import CommandError
from tandem_operator.cli.screen import BOLD, DIM, PLAIN, YELLOW, Paint, Screen
from tandem_operator.cli.status_document import SCALING, age_told, conditions_of, counted, is_of_scaling, shown
from tandem_operator.facts import Manifest
from tandem_operator.masking import one_line
from tandem_operator.objects.scaling_memory import remembered_in
from tandem_operator.scaling_terms import unheeded_of

_SHOWN = 10
_INPUTS = {
    "requests": "{} requests/s arrive",
    "surge": "{}/s more within a cold start",
    "waiting": "{} wait",
    "capacity": "a replica does {}/s",
    "samples": "learned from {} samples of its steps",
    "prompt": "prompts of {} tokens",
    "output": "answers of {}",
    "coldStart": "cold start {} s",
    "firstToken": "{} % of first tokens in time",
    "outputToken": "{} % of answers fast enough",
    "verifiers": "{} Ready verifiers",
    "tokens": "{} tokens/s are asked of drafts",
    "tokenCapacity": "a draft gives {}",
    "late": "{} % of steps wait in vain",
}


_OF_A_ROLE = {
    "desired": "replicas that are wanted; null: nothing is decided yet",
    "reason": "why, in a sentence",
    "changes[].at": "when; the newest comes first",
    "changes[].from": "replicas before",
    "changes[].to": "replicas since",
    "changes[].reason": "why",
    "changes[].inputs": f"figures that it was decided by, as texts: {', '.join(_INPUTS)}",
}
KEYS = {
    "name": "of the resource",
    "namespace": "of the resource",
    "autoscaled": "false: spec.verifier.replicas is all that counts",
    "updated": "when the figures were written; null: never",
    **{f"verifier.{key}": told for key, told in _OF_A_ROLE.items()},
    "draft": "the same of drafts; null: autoscaling does not decide on them",
    "conditions": f"{', '.join(sorted(SCALING))}, as in the resource",
    "cost": "as in the resource's status.scaling; null: not known",
    "notes": "what does not count at present, and what could not be read",
}


def _add_arguments(command: argparse.ArgumentParser) -> None:
    on_the_resource(command)
    with_output(command)


def _run(options: argparse.Namespace, screen: Screen) -> int:
    connection, now = Connection.of(options), datetime.now(UTC)
    screen.write(run_why(connection, options.name, now=now, paint=screen.paint, form=options.output))
    return 0


WHY = Command(
    "say why a resource has as many replicas as it has, and its last changes",
    _run,
    add_arguments=_add_arguments,
    keys=KEYS,
)


def run_why(
    connection: Connection, name: str | None, *, now: datetime, paint: Paint = PLAIN, form: str | None = None
) -> str:
    """The text, or what `form` says. Raises CommandError, with exit code 2 when there is no such resource."""
    body = deployment_called(connection, name)
    name = body["metadata"]["name"]
    if not (body.get("spec") or {}).get("autoscaling"):
        wanted = ((body.get("spec") or {}).get("verifier") or {}).get("replicas", 1)
        if form:
            return written(document_of(body, None, notes=[]), form)
        return f"{name} has no spec.autoscaling: spec.verifier.replicas says how many, {wanted}\n"
    try:
        memory: Manifest | None = connection.get("ConfigMap", names.scaling_name(name))
    except CommandError as error:
        memory, note = None, f"its last changes are not shown: {error}"
    else:
        note = ""
    if form:
        notes = [each for each in (unheeded_of(body), note) if each]
        return written(document_of(body, memory, notes=notes), form)
    return "\n".join(_lines(body, memory, now=now, note=note, paint=paint)) + "\n"


def document_of(body: Manifest, memory: Manifest | None, *, notes: Sequence[str]) -> Manifest:
    """For programs, under KEYS."""
    spec, status = body.get("spec") or {}, body.get("status") or {}
    told, is_autoscaled = status.get("scaling") or {}, bool(spec.get("autoscaling"))
    by_hand = {
        "desired": (spec.get("verifier") or {}).get("replicas", 1),
        "reason": "spec.verifier.replicas",
        "changes": [],
    }
    drafts = _role(told.get("desiredDrafts"), told.get("draftReason"), _decisions(memory, Role.DRAFT))
    verifiers = _role(told.get("desiredVerifiers"), told.get("reason"), _decisions(memory, Role.VERIFIER))
    return {
        "name": body["metadata"]["name"],
        "namespace": body["metadata"]["namespace"],
        "autoscaled": is_autoscaled,
        "updated": told.get("updated"),
        "verifier": verifiers if is_autoscaled else by_hand,
        "draft": drafts if "desiredDrafts" in told or drafts["changes"] else None,
        "conditions": [shown(each) for each in conditions_of(body) if is_of_scaling(each)],
        "cost": shown(told.get("cost")),
        "notes": [one_line(note) for note in notes],
    }


def _role(desired: object, reason: object, decisions: Sequence[Manifest]) -> Manifest:
    changes = [
        {
            **{key: shown(each.get(key)) for key in ("at", "from", "to", "reason")},
            "inputs": shown(each.get("inputs")) if isinstance(each.get("inputs"), dict) else None,
        }
        for each in reversed(decisions)
    ]
    return {"desired": desired, "reason": one_line(str(reason or "")), "changes": changes}


def _lines(body: Manifest, memory: Manifest | None, *, now: datetime, note: str, paint: Paint) -> Iterator[str]:
    told = (body.get("status") or {}).get("scaling")
    generation = body["metadata"].get("generation", 1)
    if told and body["status"].get("observedGeneration", generation) < generation:
        yield paint(f"the operator has not acted on generation {generation} yet; before that:", YELLOW)
    if not told:
        yield "nothing is decided yet: does an operator run in this namespace?"
    else:
        verifiers, drafts = counted(told.get("desiredVerifiers"), "verifier"), told.get("desiredDrafts")
        yield f"{paint(verifiers, BOLD)}: {one_line(str(told.get('reason', '')))}"
        if "desiredDrafts" in told:
            yield f"{paint(counted(drafts, 'draft'), BOLD)}: {one_line(str(told.get('draftReason', '')))}"
        if cost := cost_in(told):
            yield f"  {cost}"
        for condition in body["status"].get("conditions") or []:
            if is_of_scaling(condition):
                yield f"  {condition['type']} {condition['status']} ({condition['reason']})"
        if age := age_told(told.get("updated"), now):
            yield paint(f"  {age}", YELLOW)
    if unheeded := unheeded_of(body):
        yield paint(one_line(unheeded), YELLOW)
    if note:
        yield paint(note, YELLOW)
    yield from _changes(_decisions(memory, Role.VERIFIER), "last changes", paint)
    yield from _changes(_decisions(memory, Role.DRAFT), "last changes of drafts", paint)


def _decisions(memory: Manifest | None, role: Role) -> list[Manifest]:
    """The oldest first; nothing where somebody has spoilt them."""
    found: Any = remembered_in(memory, role).get("decisions")
    return [each for each in found if isinstance(each, dict)] if isinstance(found, list) else []


def _changes(decisions: Sequence[Manifest], title: str, paint: Paint) -> Iterator[str]:
    if decisions:
        yield paint(f"{title}, the newest first:", BOLD)
    for each in reversed(decisions[-_SHOWN:]):
        yield f"  {each.get('at')}  {each.get('from')} → {each.get('to')}  {one_line(str(each.get('reason', '')))}"
        inputs = each.get("inputs") if isinstance(each.get("inputs"), dict) else {}
        figures = [text.format(inputs[key]) for key, text in _INPUTS.items() if inputs and key in inputs]
        if figures:
            yield paint(f"      {', '.join(figures)}", DIM)
