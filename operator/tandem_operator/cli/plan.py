"""`tandem plan`: every object that a resource would create, from the file alone. No cluster, no network.

Uses the operator's own pure code on empty facts, so that what it prints is what the operator would apply.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from tandem_contracts.launch import Role
from tandem_contracts.model_facts import ModelFacts
from tandem_contracts.model_reader import UnreadableModelError, read_model
from tandem_operator import names
from tandem_operator.accelerators import InvalidAcceleratorError, table_of
from tandem_operator.api.artifact import key_of_source
from tandem_operator.api.crd import crd_schema
from tandem_operator.api.deployment import InvalidSpecError, LLMDeployment
from tandem_operator.artifact_facts import inspecting, needed_by
from tandem_operator.cli.prospects import OPTIONS, prospect_lines
from tandem_operator.config import OperatorConfig
from tandem_operator.facts import Facts, Manifest
from tandem_operator.inputs import RejectedSpecError
from tandem_operator.manifest_yaml import manifest_yaml
from tandem_operator.names import Reason
from tandem_operator.plan import Plan, plan
from tandem_operator.protection_plan import terms_of
from tandem_operator.rollout import Clock
from tandem_operator.targets import wants_of

UNKNOWN_UID = "00000000-0000-0000-0000-000000000000"


class PlanError(Exception):
    """The input cannot be planned; the message names file, resource, path and what is allowed."""


def run_plan(
    filename: str, *, namespace: str, config: Path | None, model_folders: Mapping[Role, Path] | None = None
) -> str:
    """The plan of every LLMDeployment in the file, as YAML documents with comments.

    `model_folders`: where the models lie on this machine; with one, the file must hold one LLMDeployment.
    Raises PlanError.
    """
    models = {role: _model(role, folder) for role, folder in (model_folders or {}).items()}
    try:
        settings = OperatorConfig.load(config)
        table_of(settings)
    except (ValidationError, InvalidAcceleratorError, yaml.YAMLError, UnicodeError, OSError) as error:
        raise PlanError(f"{config}: {error}") from error
    bodies = list(_deployments(filename))
    if not bodies:
        raise PlanError(f"{filename}: holds no {names.KIND} of {names.API_VERSION}")
    if models and len(bodies) > 1:
        options = " and ".join(OPTIONS[role] for role in models)
        raise PlanError(f"{filename}: holds {len(bodies)} of {names.KIND}, and {options} speaks of one")
    return "".join(
        _planned(body, filename=filename, namespace=namespace, config=settings, models=models) for body in bodies
    )


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
        raise PlanError(f"{OPTIONS[role]}: {error}") from error


def _planned(
    body: Manifest, *, filename: str, namespace: str, config: OperatorConfig, models: Mapping[Role, ModelFacts]
) -> str:
    metadata = body.get("metadata")
    if not isinstance(metadata, dict) or not isinstance(metadata.get("name"), str):
        raise PlanError(f"{filename}: metadata.name is required, and must be a text")
    name = metadata["name"]
    if not isinstance(metadata.get("namespace", ""), str):
        raise PlanError(
            f"{filename}: {names.KIND} {name}: metadata.namespace (is {metadata['namespace']!r}): must be a text"
        )
    unknown = list(_unknown_fields(body.get("spec"), crd_schema()["properties"]["spec"], "spec"))
    if unknown:
        raise PlanError(f"{filename}: {names.KIND} {name}: unknown field {', '.join(unknown)}")
    completed = {**body, "metadata": {"namespace": namespace, "uid": UNKNOWN_UID, **metadata}}
    try:
        deployment = LLMDeployment.parse(completed)
        planned = plan_of(completed, config, models=models)
    except (InvalidSpecError, RejectedSpecError) as error:
        raise PlanError(f"{filename}: {names.KIND} {name}: {error}") from error
    lines = [f"# {names.KIND} {completed['metadata']['namespace']}/{name}: {len(planned.apply)} objects"]
    lines += [f"# {line}" for line in prospect_lines(deployment, models, table=table_of(config))]
    lines += [f"# {line}" for line in _shared_lines(completed)]
    lines += [f"# {wait.message}" for wait in planned.waits if wait.reason is Reason.MODEL_NOT_INSPECTED]
    lines += [f"# {detail}" for detail in planned.details]
    documents = [manifest_yaml(apply.manifest) for apply in planned.apply]
    return "\n".join(lines) + "\n" + "".join(f"---\n{document}" for document in documents)


def _shared_lines(body: Manifest) -> Iterator[str]:
    """What is made once for all that serve the same model, and belongs to none of them."""
    for role, source in needed_by(body).items():
        name = key_of_source(source)
        yield f"{role}: {names.ARTIFACT_KIND} {name}, shared by all that serve this model; {inspecting(name, source)}"


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


def _deployments(filename: str) -> Iterator[Manifest]:
    try:
        text = sys.stdin.read() if filename == "-" else Path(filename).read_text(encoding="utf-8")
        documents: list[Any] = list(yaml.safe_load_all(text))
    except (OSError, UnicodeError, yaml.YAMLError) as error:
        raise PlanError(f"{filename}: {error}") from error
    for document in documents:
        if isinstance(document, dict) and document.get("kind") == names.KIND:
            if document.get("apiVersion") != names.API_VERSION:
                raise PlanError(f"{filename}: apiVersion is {document.get('apiVersion')}, must be {names.API_VERSION}")
            yield document
