"""`tandem refresh` and `tandem rollback`: roll out today's defaults, or ask again for what was asked before.

Both only write to the resource, with the user's own rights; the operator does the rest.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from datetime import UTC, datetime

from tandem_contracts.launch import Role
from tandem_operator import names
from tandem_operator.cli.connection import Connection
from tandem_operator.cli.inputs import CommandError
from tandem_operator.facts import Facts, Manifest, RevisionFacts, facts_of
from tandem_operator.inputs import ADDED_TO_REQUEST


def run_refresh(connection: Connection, name: str) -> str:
    """Ask the operator to compare the frozen revisions with what the spec resolves to today; what will happen."""
    body = connection.get(names.KIND, name)
    now = datetime.now(UTC).isoformat(timespec="seconds")
    patch = {"metadata": {"annotations": {names.ANNOTATION_REFRESH: now}}}
    connection.patch(names.KIND, name, patch, content_type="application/merge-patch+json")
    return told_of_refresh(name, (body.get("status") or {}).get("conditions") or [])


def told_of_refresh(name: str, conditions: Sequence[Manifest]) -> str:
    """What will come of it, as far as the conditions from before say."""
    outdated = [condition["message"] for condition in conditions if condition["reason"] == "RevisionOutdated"]
    if outdated:
        return "".join(f"{name}: rolls out: {message}\n" for message in outdated)
    if any((condition["type"], condition["status"]) == ("Ready", "True") for condition in conditions):
        return f"{name}: every revision is what the spec resolves to today, nothing will roll\n"
    return f"{name}: asked for; it is not Ready, so `tandem status {name}` will tell what rolls\n"


def run_rollback(connection: Connection, name: str, *, role: Role, revision: str | None) -> str:
    """Write the request of an earlier revision of a role back into the spec.

    `revision` None: the newest one that is not the present target and has not failed. Raises CommandError.
    """
    body = connection.get(names.KIND, name)
    labelled = f"{names.LABEL_DEPLOYMENT}={name}"
    listed = connection.get("ControllerRevision", labelSelector=labelled)["items"]
    children = [{**item, "apiVersion": "apps/v1", "kind": "ControllerRevision"} for item in listed]
    facts = facts_of(children, owner_uid=body["metadata"]["uid"])
    present = ((body.get("status") or {}).get(role.value) or {}).get("targetRevision", "")
    chosen = chosen_revision(facts, role, present=present, revision=revision)
    spec = rolled_back(body["spec"], role, chosen.requested)
    if spec == body["spec"]:
        return f"{name}: the spec asks for {role} revision {chosen.revision} already\n"
    patch = [
        {"op": "test", "path": "/metadata/resourceVersion", "value": body["metadata"]["resourceVersion"]},
        {"op": "replace", "path": "/spec", "value": spec},
    ]
    connection.patch(names.KIND, name, patch, content_type="application/json-patch+json")
    return f"{name}: the spec asks for {role} revision {chosen.revision} again (it was {present or 'none'})\n"


def chosen_revision(facts: Facts, role: Role, *, present: str, revision: str | None) -> RevisionFacts:
    """The revision to go back to. Raises CommandError that names those there are."""
    history = facts.revisions_of(role)
    if revision is None:
        found = next((r for r in history if r.revision != present and not r.failed), None)
    else:
        found = facts.revision(role, revision)
    if found is None:
        known = ", ".join(r.revision for r in history if r.revision != present) or "none"
        raise CommandError(f"--to (is {revision or 'omitted'}): must be an earlier {role} revision; there are: {known}")
    return found


def rolled_back(spec: Manifest, role: Role, requested: Manifest) -> Manifest:
    """The spec with a role's part as it was requested once; replicas stay as they are now."""
    changed = copy.deepcopy(spec)
    replicas = {key: value for key, value in (spec.get(role.value) or {}).items() if key == "replicas"}
    changed[role.value] = {**{k: v for k, v in requested.items() if k not in ADDED_TO_REQUEST}, **replicas}
    if role is Role.VERIFIER:
        changed["servedName"] = requested["servedName"]
        asked = {"method": requested["speculation"], "inEngine": requested.get("inEngine")}
        depth = {"maxDepth": requested["maxDepth"]} if requested["maxDepth"] else {}
        changed["speculation"] = _with(spec.get("speculation"), {**asked, **depth})
        api_key = requested.get("apiKey")
        changed["access"] = _with(spec.get("access"), {"apiKey": {"secretKeyRef": api_key} if api_key else None})
        if not changed["access"]:
            del changed["access"]
    return changed


def _with(part: Manifest | None, changes: Manifest) -> Manifest:
    """A part of the spec with other values; without what is None."""
    return {key: value for key, value in {**(part or {}), **changes}.items() if value is not None}
