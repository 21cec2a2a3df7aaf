"""`tandem refresh` and `tandem rollback`: roll out today's defaults, or ask again for what was asked before.

Both only write to the resource, with the user's own rights; the operator does the rest.
"""

from __future__ import annotations

import argparse
import copy
from datetime import UTC, datetime

from tandem_contracts.launch import Role, Speculation
from tandem_operator import names
from tandem_operator.api.deployment import InvalidSpecError, LLMDeployment
from tandem_operator.cli.change import CHANGE_KEYS, Change, on_a_resource_with_output
from tandem_operator.cli.command import Command
from tandem_operator.cli.connection import Connection
from tandem_operator.cli.inputs import CommandError
from tandem_operator.cli.screen import Screen
from tandem_operator.cli.status_document import conditions_of
from tandem_operator.facts import Facts, Manifest, RevisionFacts
from tandem_operator.facts_parsing import facts_of
from tandem_operator.inputs import requested_of, role_of_request
from tandem_operator.targets import is_request_of


def _refresh(options: argparse.Namespace, screen: Screen) -> int:
    run_refresh(Connection.of(options), options.name).show(options, screen)
    return 0


def _add_arguments_of_rollback(command: argparse.ArgumentParser) -> None:
    on_a_resource_with_output(command)
    command.add_argument("--role", choices=[role.value for role in Role], default=Role.VERIFIER.value)
    command.add_argument("--to", metavar="REVISION", help="omitted: the newest other one that has not failed")


def _rollback(options: argparse.Namespace, screen: Screen) -> int:
    role = Role(options.role)
    run_rollback(Connection.of(options), options.name, role=role, revision=options.to).show(options, screen)
    return 0


REFRESH = Command(
    "roll out what the operator's present defaults make of an unchanged spec",
    _refresh,
    add_arguments=on_a_resource_with_output,
    keys=CHANGE_KEYS,
)
ROLLBACK = Command(
    "ask again for what an earlier revision of a role was asked for",
    _rollback,
    add_arguments=_add_arguments_of_rollback,
    keys={**CHANGE_KEYS, "role": "verifier or draft", "revision": "that the spec asks for now"},
)


def run_refresh(connection: Connection, name: str) -> Change:
    """Ask the operator to compare the frozen revisions with what the spec resolves to today; what will happen."""
    body = connection.get(names.KIND, name)
    now = datetime.now(UTC).isoformat(timespec="seconds")
    patch = {"metadata": {"annotations": {names.ANNOTATION_REFRESH: now}}}
    connection.patch(names.KIND, name, patch, content_type="application/merge-patch+json")
    told = told_of_refresh(name, body)
    return Change(name, connection.namespace, [f"metadata.annotations[{names.ANNOTATION_REFRESH}]"], told)


def told_of_refresh(name: str, body: Manifest) -> str:
    """What will come of it, as far as the status from before says."""
    status, generation = body.get("status") or {}, body["metadata"].get("generation")
    conditions = conditions_of(body)
    if status.get("observedGeneration") != generation:
        return f"{name}: asked for; the operator has not acted on generation {generation} yet\n"
    outdated = [condition["message"] for condition in conditions if condition["reason"] == "RevisionOutdated"]
    if outdated:
        return "".join(f"{name}: rolls out: {message}\n" for message in outdated)
    if any((condition["type"], condition["status"]) == ("Ready", "True") for condition in conditions):
        return (
            f"{name}: by what the operator said last every revision is what the spec resolves to, nothing will roll\n"
        )
    return f"{name}: asked for; it is not Ready, so `tandem status {name}` will tell what rolls\n"


def run_rollback(connection: Connection, name: str, *, role: Role, revision: str | None) -> Change:
    """Write the request of an earlier revision of a role back into the spec.

    `revision` None: the one that serves, where the spec does not ask for it; else the newest one that the spec does not
    ask for and that has not failed. Raises CommandError.
    """
    body = connection.get(names.KIND, name)
    labelled = f"{names.LABEL_DEPLOYMENT}={name}"
    listed = connection.get("ControllerRevision", labelSelector=labelled)["items"]
    children = [{**item, "apiVersion": "apps/v1", "kind": "ControllerRevision"} for item in listed]
    facts = facts_of(children, owner_uid=body["metadata"]["uid"])
    status = (body.get("status") or {}).get(role.value) or {}
    present, serving = status.get("targetRevision", ""), status.get("revision", "")
    asked = frozenset(r.revision for r in facts.revisions_of(role) if is_asked_for(body, role, r))
    if revision is None and serving in asked and present != serving:
        revision = serving  # a refresh has led away from it, and no older one is meant
    chosen = chosen_revision(facts, role, asked=asked, serving=serving, revision=revision)
    if chosen.revision in asked:
        raise CommandError(_already(role, chosen.revision, present=present))
    spec = least_changed(body, rolled_back(body["spec"], role, chosen.requested), role=role, chosen=chosen)
    require_valid(body, spec, role=role, chosen=chosen)
    patch = [
        {"op": "test", "path": "/metadata/resourceVersion", "value": body["metadata"]["resourceVersion"]},
        {"op": "replace", "path": "/spec", "value": spec},
    ]
    connection.patch(names.KIND, name, patch, content_type="application/json-patch+json")
    changed = [f"spec.{part}" for part in sorted({*spec, *body["spec"]}) if spec.get(part) != body["spec"].get(part)]
    told = f"{name}: the spec asks for {role} revision {chosen.revision} again; changed: {', '.join(changed)}\n"
    more = {"role": role.value, "revision": chosen.revision}
    return Change(name, connection.namespace, changed, told, more)


def _already(role: Role, revision: str, *, present: str) -> str:
    told = f"the spec asks for {role} revision {revision} already"
    if revision == present:
        return told
    how = "change that back, then `tandem refresh`"
    return f"{told}; {present} differs only in what the operator's configuration makes of the same spec: {how}"


def is_asked_for(body: Manifest, role: Role, chosen: RevisionFacts) -> bool:
    """Whether the spec as it is asks for a revision. One that is refused asks for none."""
    try:
        deployment = LLMDeployment.parse(body)
    except InvalidSpecError:
        return False
    if deployment.role(role) is None:
        return False
    return is_request_of(chosen, requested_of(deployment, role))


def chosen_revision(
    facts: Facts, role: Role, *, asked: frozenset[str], serving: str, revision: str | None
) -> RevisionFacts:
    """The revision to go back to. Raises CommandError that names those there are.

    `asked`: those that the spec asks for as it is. What serves has proved itself; a mark of failure is only kept for as
    long as the spec asks for that revision.
    """
    history = facts.revisions_of(role)
    if revision is None:
        others = [r for r in history if r.revision not in asked and not r.failed]
        found = next((r for r in others if r.revision == serving), next(iter(others), None))
    else:
        found = facts.revision(role, revision)
    if found is None:
        known = ", ".join(r.revision for r in history if r.revision not in asked) or "none"
        told = f"--to (is {revision})" if revision else "nothing to go back to"
        raise CommandError(f"{told}: must be an earlier {role} revision; there are: {known}")
    return found


def rolled_back(spec: Manifest, role: Role, requested: Manifest) -> Manifest:
    """The spec with a role's part as it was requested once; replicas stay as they are now."""
    changed = copy.deepcopy(spec)
    replicas = {key: value for key, value in (spec.get(role.value) or {}).items() if key == "replicas"}
    changed[role.value] = {**role_of_request(requested), **replicas}
    if role is Role.VERIFIER:
        changed["servedName"] = requested["servedName"]
        asked = {"method": requested["speculation"], "inEngine": requested.get("inEngine")}
        if requested["speculation"] == Speculation.REMOTE:  # what is not in use says nothing of it
            asked["tls"] = requested.get("draftTls")
        depth = {"maxDepth": requested["maxDepth"]} if requested["maxDepth"] else {}
        changed["speculation"] = _with(spec.get("speculation"), {**asked, **depth})
        api_key = requested.get("apiKey")
        changed["access"] = _with(spec.get("access"), {"apiKey": {"secretKeyRef": api_key} if api_key else None})
        if not changed["access"]:
            del changed["access"]
    return changed


def least_changed(body: Manifest, spec: Manifest, *, role: Role, chosen: RevisionFacts) -> Manifest:
    """The spec that asks for a revision, with what the user wrote wherever that comes to the same: no defaults."""
    for part in ("servedName", "speculation", "access"):
        others = {key: value for key, value in spec.items() if key != part}
        kept = {**others, part: body["spec"][part]} if part in body["spec"] else others
        if is_asked_for({**body, "spec": kept}, role, chosen):
            spec = kept
    return spec


def require_valid(body: Manifest, spec: Manifest, *, role: Role, chosen: RevisionFacts) -> None:
    """Raise CommandError where the rest of the spec does not go with what a revision was asked for."""
    try:
        LLMDeployment.parse({**body, "spec": spec})
    except InvalidSpecError as error:
        is_draft_missing = any(fault.path == "spec.draft" for fault in error.faults)
        how = "; `tandem rollback --role draft` asks for an earlier draft first" if is_draft_missing else ""
        raise CommandError(
            f"{role} revision {chosen.revision} does not go with the spec as it is: {error}{how}"
        ) from error


def _with(part: Manifest | None, changes: Manifest) -> Manifest:
    """A part of the spec with other values; without what is None."""
    return {key: value for key, value in {**(part or {}), **changes}.items() if value is not None}
