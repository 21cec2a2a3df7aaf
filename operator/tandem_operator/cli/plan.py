"""`tandem plan`: every object that a resource would create, from the file alone. No cluster, no network.

Uses the operator's own pure code on empty facts, so that what it prints is what the operator would apply.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tandem_contracts.launch import Role
from tandem_contracts.model_facts import ModelFacts
from tandem_contracts.model_reader import UnreadableModelError, read_model
from tandem_operator import names
from tandem_operator.accelerators import CPU, AcceleratorClass, table_of
from tandem_operator.api.artifact import key_of_source
from tandem_operator.api.crd import crd_schema
from tandem_operator.api.deployment import InvalidSpecError, LLMDeployment, Owner
from tandem_operator.artifact_facts import needed_by
from tandem_operator.cli.inputs import CommandError, configuration_in, deployments_in
from tandem_operator.cli.prospects import OPTIONS, prospect_lines
from tandem_operator.config import OperatorConfig
from tandem_operator.facts import Facts, Manifest
from tandem_operator.inputs import RejectedSpecError
from tandem_operator.manifest_yaml import manifest_yaml
from tandem_operator.names import Reason
from tandem_operator.objects.inspect_job import artifact_of, configured_job
from tandem_operator.plan import Plan, plan
from tandem_operator.protection_plan import terms_of
from tandem_operator.rollout import Clock
from tandem_operator.targets import wants_of

UNKNOWN_UID = "00000000-0000-0000-0000-000000000000"


def run_plan(
    filename: str, *, namespace: str, config: Path | None, model_folders: Mapping[Role, Path] | None = None
) -> str:
    """The plan of every LLMDeployment in the file, as YAML documents with comments.

    `model_folders`: where the models lie on this machine; with one, the file must hold one LLMDeployment.
    Raises CommandError.
    """
    models = {role: _model(role, folder) for role, folder in (model_folders or {}).items()}
    settings, table = configuration_in(config)
    bodies = deployments_in(filename, namespace=namespace)
    if models and len(bodies) > 1:
        options = " and ".join(OPTIONS[role] for role in models)
        raise CommandError(f"{filename}: holds {len(bodies)} of {names.KIND}, and {options} speaks of one")
    own = [_planned(body, filename=filename, config=settings, table=table, models=models) for body in bodies]
    return "".join([*own, *_shared(bodies, settings, table)])


def plan_of(body: Manifest, config: OperatorConfig, *, models: Mapping[Role, ModelFacts] | None = None) -> Plan:
    """What the operator would do on seeing this resource for the first time, with so much known of its models.

    Raises InvalidSpecError or RejectedSpecError.
    """
    deployment, facts = LLMDeployment.parse(body), Facts(models=models or {})
    wanted = wants_of(deployment, facts, config=config, table=table_of(config))
    clock, terms = Clock(datetime.now(UTC), deployment.spec.rollout), terms_of(deployment.spec, config)
    return plan(deployment.owner, facts, wanted.roles, clock=clock, terms=terms, waits=wanted.waits)


def _model(role: Role, folder: Path) -> ModelFacts:
    try:
        return read_model(folder)
    except UnreadableModelError as error:
        raise CommandError(f"{OPTIONS[role]}: {error}") from error


def _planned(
    body: Manifest,
    *,
    filename: str,
    config: OperatorConfig,
    table: Mapping[str, AcceleratorClass],
    models: Mapping[Role, ModelFacts],
) -> str:
    name, namespace = body["metadata"]["name"], body["metadata"]["namespace"]
    unknown = list(_unknown_fields(body.get("spec"), crd_schema()["properties"]["spec"], "spec"))
    if unknown:
        raise CommandError(f"{filename}: {names.KIND} {name}: unknown field {', '.join(unknown)}")
    completed = {**body, "metadata": {"uid": UNKNOWN_UID, **body["metadata"]}}
    try:
        deployment = LLMDeployment.parse(completed)
        planned = plan_of(completed, config, models=models)
    except (InvalidSpecError, RejectedSpecError) as error:
        raise CommandError(f"{filename}: {names.KIND} {name}: {error}") from error
    count = len(planned.apply)
    lines = [f"{names.KIND} {namespace}/{name}: {f'{count} objects' if count else 'no objects yet'}"]
    lines += prospect_lines(deployment, models, table=table)
    lines += [
        f"{role}: its model is {names.ARTIFACT_KIND} {key_of_source(source)}"
        for role, source in needed_by(body).items()
    ]
    if deployment.spec.draft is not None and not deployment.uses(Role.DRAFT):
        lines.append(f"draft: not used: spec.speculation.method is {deployment.spec.method}")
    lines += [wait.message for wait in planned.waits if wait.reason is Reason.MODEL_NOT_INSPECTED]
    if deployment.spec.speculation.tls and deployment.uses(Role.DRAFT):
        keys = names.protection_name(name, Role.DRAFT)
        lines.append(f"ConfigMap {keys}: made beside these, with the keys that the API server publishes")
    lines += planned.details
    return _commented(lines, (apply.manifest for apply in planned.apply))


def _shared(bodies: Iterable[Manifest], config: OperatorConfig, table: Mapping[str, AcceleratorClass]) -> Iterator[str]:
    """What is made once for all deployments of a namespace that serve the same model, and belongs to none of them."""
    needed = {
        (body["metadata"]["namespace"], key_of_source(source)): source
        for body in bodies
        for source in needed_by(body).values()
    }
    for (namespace, name), source in needed.items():
        lines = [f"{names.ARTIFACT_KIND} {namespace}/{name}: shared by all that serve this model"]
        artifact = Owner(name=name, namespace=namespace, uid=UNKNOWN_UID)
        job = configured_job(artifact, source, config=config, node=table[CPU])
        yield _commented(lines, [artifact_of(source, namespace), *([job] if job else [])])


def _commented(lines: Iterable[str], manifests: Iterable[Manifest]) -> str:
    return "".join([*(f"# {line}\n" for line in lines), *(f"---\n{manifest_yaml(each)}" for each in manifests)])


def _unknown_fields(value: Any, schema: Manifest, path: str) -> Iterator[str]:
    """Paths that the schema does not have: the API server would drop them, and the operator never sees them."""
    if "items" in schema and isinstance(value, list):
        for index, item in enumerate(value):
            yield from _unknown_fields(item, schema["items"], f"{path}[{index}]")
    properties = schema.get("properties")
    if properties is None or not isinstance(value, dict):
        return
    for key, child in value.items():
        if key in properties:
            yield from _unknown_fields(child, properties[key], f"{path}.{key}")
        else:
            yield f"{path}.{key}"
