"""`tandem why`: why a deployment has as many replicas as it has: what is decided now, and the last changes with inputs.

Reads with the user's own rights. What is printed is a pure function of the resource and of what scaling remembers.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from tandem_contracts.launch import Role
from tandem_operator import names
from tandem_operator.cli.connection import Connection
from tandem_operator.cli.cost import cost_in
from tandem_operator.cli.inputs import CommandError
from tandem_operator.facts import Manifest
from tandem_operator.masking import one_line
from tandem_operator.objects.scaling_memory import remembered_in
from tandem_operator.scaling_terms import unheeded_of

_SHOWN = 10
FRESH_SECONDS = 60.0
_UNITS = (("day", 86400), ("hour", 3600), ("minute", 60))
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


def run_why(connection: Connection, name: str, *, now: datetime) -> str:
    """The text. Raises CommandError, with exit code 2 when there is no such resource."""
    body = connection.get(names.KIND, name)
    if not (body.get("spec") or {}).get("autoscaling"):
        wanted = ((body.get("spec") or {}).get("verifier") or {}).get("replicas", 1)
        return f"{name} has no spec.autoscaling: spec.verifier.replicas says how many, {wanted}\n"
    try:
        memory: Manifest | None = connection.get("ConfigMap", names.scaling_name(name))
    except CommandError as error:
        memory, note = None, f"its last changes are not shown: {error}"
    else:
        note = ""
    return "\n".join(_lines(body, memory, now=now, note=note)) + "\n"


def _counted(count: object, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def _lines(body: Manifest, memory: Manifest | None, *, now: datetime, note: str) -> Iterator[str]:
    told = (body.get("status") or {}).get("scaling")
    if not told:
        yield "nothing is decided yet: does an operator run in this namespace?"
    else:
        yield f"{_counted(told.get('desiredVerifiers'), 'verifier')}: {one_line(str(told.get('reason', '')))}"
        if "desiredDrafts" in told:
            yield f"{_counted(told['desiredDrafts'], 'draft')}: {one_line(str(told.get('draftReason', '')))}"
        if cost := cost_in(told):
            yield f"  {cost}"
        for condition in body["status"].get("conditions") or []:
            if condition["type"] in {"ScalingActive", "ScalingLimited", "LatencyTargetMet"}:
                yield f"  {condition['type']} {condition['status']} ({condition['reason']})"
        yield from _age(told.get("updated"), now)
    if unheeded := unheeded_of(body):
        yield one_line(unheeded)
    if note:
        yield note
    yield from _changes(remembered_in(memory), "last changes")
    yield from _changes(remembered_in(memory, Role.DRAFT), "last changes of drafts")


def _age(updated: object, now: datetime) -> Iterator[str]:
    """Nothing while the figures are new: they are written at most so late where something matters."""
    try:
        seconds = (now - datetime.fromisoformat(str(updated))).total_seconds()
    except (ValueError, TypeError):  # nothing that we have written, or a time of nowhere
        return
    if seconds > FRESH_SECONDS:
        unit, size = next(each for each in _UNITS if seconds >= each[1])
        yield f"  these figures are {_counted(int(seconds // size), unit)} old"


def _changes(remembered: Mapping[str, Any], title: str) -> Iterator[str]:
    found = remembered.get("decisions")
    decisions = [each for each in found if isinstance(each, dict)] if isinstance(found, list) else []
    if decisions:
        yield f"{title}, the newest first:"
    for each in reversed(decisions[-_SHOWN:]):
        yield f"  {each.get('at')}  {each.get('from')} → {each.get('to')}  {one_line(str(each.get('reason', '')))}"
        inputs = each.get("inputs") if isinstance(each.get("inputs"), dict) else {}
        shown = [text.format(inputs[key]) for key, text in _INPUTS.items() if inputs and key in inputs]
        if shown:
            yield f"      {', '.join(shown)}"
