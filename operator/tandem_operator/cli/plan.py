"""`tandem plan`: every object that a resource would create, from the file alone. No cluster, no network.

Uses the operator's own pure code on empty facts, so that what it prints is what the operator would apply.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tandem_contracts.launch import Role
from tandem_contracts.model_facts import ModelFacts
from tandem_contracts.model_reader import UnreadableModelError, read_model
from tandem_contracts.termination import Phase
from tandem_operator import names
from tandem_operator.accelerators import AcceleratorClass
from tandem_operator.api.artifact import ModelArtifactSpec
from tandem_operator.api.crd import crd_schema
from tandem_operator.api.deployment import InvalidSpecError, LLMDeployment, Owner
from tandem_operator.api.faults import Fault, unknown_field
from tandem_operator.artifact_facts import form_of
from tandem_operator.artifact_known import Artifact
from tandem_operator.artifact_needs import Need, Settings, needs_in, needs_of
from tandem_operator.artifact_plan import Unmakeable
from tandem_operator.artifact_steps import Measurement, Step, first_step_of
from tandem_operator.artifact_terms import Referrers, job_maker
from tandem_operator.cli.command import Command, with_config, with_output, written
from tandem_operator.cli.inputs import CommandError, configuration_in, deployments_in
from tandem_operator.cli.prospects import OPTIONS, prospect_lines
from tandem_operator.cli.scaling_lines import gate_of, keeping_of, scaling_lines
from tandem_operator.cli.screen import DIM, PLAIN, Paint, Screen
from tandem_operator.config import OperatorConfig
from tandem_operator.facts import ArtifactFacts, Facts, Manifest
from tandem_operator.manifest_yaml import manifest_yaml
from tandem_operator.model_files import ModelFiles
from tandem_operator.names import Reason
from tandem_operator.objects.artifact_jobs import artifact_of
from tandem_operator.plan import Plan, plan
from tandem_operator.protection_plan import terms_of
from tandem_operator.rejection import RejectedSpecError
from tandem_operator.rollout import Clock
from tandem_operator.targets import wants_of

UNKNOWN_UID = "00000000-0000-0000-0000-000000000000"


KEYS = {
    "apiVersion": "v1",
    "kind": "List",
    "items": "every object, in the order in which it would be made",
    "notes": "what the YAML has as comments: sizing, speed, what is waited for",
}


@dataclass(frozen=True)
class Section:
    """Objects, and what is to say of them."""

    notes: tuple[str, ...]
    objects: tuple[Manifest, ...]

    def text(self, paint: Paint = PLAIN) -> str:
        """As YAML documents with comments before them."""
        comments = (paint(f"# {note}", DIM) + "\n" for note in self.notes)
        return "".join([*comments, *(f"---\n{manifest_yaml(each)}" for each in self.objects)])


def _add_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("-f", "--filename", required=True, help="YAML file with LLMDeployments; - for standard input")
    command.add_argument("-n", "--namespace", default="default", help="namespace of resources that name none")
    command.add_argument(
        "--model", type=Path, metavar="DIR", help="folder of the verifier's model, for sizing and speed"
    )
    command.add_argument("--draft-model", type=Path, metavar="DIR", help="folder of the draft's model")
    with_config(command)
    with_output(command)


def _run(options: argparse.Namespace, screen: Screen) -> int:
    given = {Role.VERIFIER: options.model, Role.DRAFT: options.draft_model}
    folders = {role: folder for role, folder in given.items() if folder is not None}
    namespace, config = options.namespace, options.config
    sections = planned_sections(options.filename, namespace=namespace, config=config, model_folders=folders)
    if options.output == "json":
        screen.write(written(document_of(sections), options.output))
    else:
        screen.write("".join(section.text(screen.paint) for section in sections))
    return 0


PLAN = Command(
    "print every object that a resource would create; needs no cluster",
    _run,
    add_arguments=_add_arguments,
    description="Print every object that the LLMDeployments of a file would create, as YAML, with the reasons as "
    "comments; with -o json, as one List. Needs no cluster.",
    keys=KEYS,
)


def document_of(sections: Sequence[Section]) -> Manifest:
    """A List as kubectl takes it."""
    return {
        "apiVersion": "v1",
        "kind": "List",
        "items": [manifest for section in sections for manifest in section.objects],
        "notes": [note for section in sections for note in section.notes],
    }


def planned_sections(
    filename: str, *, namespace: str, config: Path | None, model_folders: Mapping[Role, Path] | None = None
) -> Sequence[Section]:
    """The plan of every LLMDeployment in the file.

    `model_folders`: where the models lie on this machine; with one, the file must hold one LLMDeployment.
    Raises CommandError.
    """
    models = {role: _model(role, folder) for role, folder in (model_folders or {}).items()}
    settings, table = configuration_in(config)
    written = deployments_in(filename, namespace=namespace)
    bodies = written.deployments
    if models and len(bodies) > 1:
        options = " and ".join(OPTIONS[role] for role in models)
        raise CommandError(f"{filename}: holds {len(bodies)} of {names.KIND}, and {options} speaks of one")
    own = [
        section
        for body in bodies
        for section in _planned(body, filename=filename, config=settings, table=table, models=models)
    ]
    left_out = [Section((f"not planned, since only {names.KIND}s are: {', '.join(written.others)}",), ())]
    return [*(left_out if written.others else ()), *own, *_shared(bodies, Settings(table, settings), models)]


def plan_of(body: Manifest, config: OperatorConfig, *, models: Mapping[Role, ModelFacts] | None = None) -> Plan:
    """What the operator would do on seeing this resource for the first time, with so much known of its models.

    Raises InvalidSpecError or RejectedSpecError.
    """
    deployment, settings = LLMDeployment.parse(body), Settings.of(config)
    made = {role: _as_made(need, (models or {}).get(role)) for role, need in needs_of(deployment, settings).items()}
    facts = Facts(models=models or {}, artifacts=made)
    wanted = wants_of(deployment, facts, config=config, table=settings.table)
    clock, terms = Clock(datetime.now(UTC), deployment.spec.rollout), terms_of(deployment.spec, config)
    keeping = keeping_of(deployment, config)
    return plan(deployment.owner, facts, wanted.roles, clock=clock, terms=terms, waits=wanted.waits, keeping=keeping)


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
) -> Iterator[Section]:
    name, namespace = body["metadata"]["name"], body["metadata"]["namespace"]
    faults = list(map(str, _unknown_fields(body, crd_schema(), "")))
    completed = {**body, "metadata": {"uid": UNKNOWN_UID, **body["metadata"]}}
    try:
        deployment = LLMDeployment.parse(completed)
        planned = plan_of(completed, config, models=models)
    except (InvalidSpecError, RejectedSpecError) as error:
        faults.append(str(error))
    if faults:
        raise CommandError(f"{filename}: {names.KIND} {name}: {'; '.join(faults)}")
    count = len(planned.apply)
    lines = [f"{names.KIND} {namespace}/{name}: {f'{count} objects' if count else 'no objects yet'}"]
    lines += prospect_lines(deployment, models, table=table)
    lines += [
        f"{role}: its model is {names.ARTIFACT_KIND} {need.key}{_told(need)}"
        for role, need in needs_in(body, Settings(table, config)).items()
    ]
    if deployment.spec.draft is not None and not deployment.uses(Role.DRAFT):
        lines.append(f"draft: not used: spec.speculation.method is {deployment.spec.method}")
    lines += [wait.message for wait in planned.waits if wait.reason is Reason.MODEL_NOT_INSPECTED]
    if deployment.spec.speculation.tls and deployment.uses(Role.DRAFT):
        keys = names.protection_name(name, Role.DRAFT)
        lines.append(f"ConfigMap {keys}: made beside these, with the keys that the API server publishes")
    lines += scaling_lines(deployment)
    lines += planned.details
    yield Section(tuple(lines), tuple(apply.manifest for apply in planned.apply))
    gate = gate_of(deployment, config)
    told = f"{names.KIND} {namespace}/{name} on its way to zero: {len(gate)} objects more, until a verifier is Ready"
    if gate:
        yield Section((told,), gate)


def _as_made(need: Need, model: ModelFacts | None) -> ArtifactFacts:
    """The artifact as it will be once its Jobs are done and its gate is passed: pods come then."""
    spec = need.artifact
    lies = None if spec.claim_name else ModelFiles.of(spec.source)
    files = lies or ModelFiles(claim_name=spec.claim_name or "", path=need.key)
    return ArtifactFacts(need.key, model, Reason.PUBLISHED, "", files=files)


def _told(need: Need) -> str:
    """In which form it is served, and why, where anything is made of it."""
    form = form_of(need.artifact)
    if not need.artifact.claim_name:
        return ""
    chosen = f" ({need.why})" if need.why else ""
    return f": {form}{chosen}; the pods are made once it is published" if form else ": fetched before the pods are made"


def _shared(bodies: Sequence[Manifest], settings: Settings, models: Mapping[Role, ModelFacts]) -> Iterator[Section]:
    """What is made once for all deployments of a namespace that serve the same model, and belongs to none of them."""
    needed = {
        (body["metadata"]["namespace"], spec.key): (spec, need, models.get(role))
        for body in bodies
        for role, need in needs_in(body, settings).items()
        for spec in need.artifacts
    }
    for (namespace, name), (spec, need, model) in needed.items():
        lines = [f"{names.ARTIFACT_KIND} {namespace}/{name}: shared by all that serve this model"]
        naming = [body for body in bodies if body["metadata"]["namespace"] == namespace]
        owner = Owner(name=spec.key, namespace=namespace, uid=UNKNOWN_UID)
        jobs = list(_jobs(owner, spec, need, model=model, naming=naming, settings=settings))
        yield Section(tuple(lines), (artifact_of(spec, namespace), *jobs))


def _jobs(
    owner: Owner,
    spec: ModelArtifactSpec,
    need: Need,
    *,
    model: ModelFacts | None,
    naming: Iterable[Manifest],
    settings: Settings,
) -> Iterator[Manifest]:
    """The Jobs of an artifact, one after the other. Without `model` their memory is a small one's."""
    artifact = Artifact(
        owner.name, owner.namespace, owner.uid, resource_version="", generation=1, is_ours=True, spec=spec
    )
    source = _as_made(Need(spec.as_it_is), model)
    make = job_maker(owner, artifact, source, referrers=Referrers(spec.key, naming, settings), settings=settings)
    steps = [
        first_step_of(spec),
        *([Step(Phase.EVALUATE, Measurement.of_need(need.gate, spec))] if spec.quantization else []),
    ]
    for step in steps:
        job = make(step)
        if not isinstance(job, Unmakeable):
            yield job


def _unknown_fields(value: Any, schema: Manifest, path: str) -> Iterator[Fault]:
    """Fields that the schema does not have: the API server would drop them, and the operator never sees them."""
    if "items" in schema and isinstance(value, list):
        for index, item in enumerate(value):
            yield from _unknown_fields(item, schema["items"], f"{path}[{index}]")
    properties = schema.get("properties")
    if properties is None or not isinstance(value, dict):
        return
    for key, child in value.items():
        at = f"{path}.{key}".removeprefix(".")
        if key in properties:
            yield from _unknown_fields(child, properties[key], at)
        else:
            yield Fault(at, None, unknown_field(str(key), properties))
