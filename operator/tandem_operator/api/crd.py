"""Turns the pydantic models into the CustomResourceDefinitions. Pure; `make crds` writes what this returns.

pydantic emits JSON Schema 2020; the API server takes structural OpenAPI v3 schemas: no `$ref`, no `type: null`, no
`const`, no `title`. `structural` closes that gap and refuses what it does not know, so that a new kind of field
fails in the generator and not in somebody's cluster.
"""

from __future__ import annotations

from typing import Any

from tandem_operator import names
from tandem_operator.api.artifact import ModelArtifactSpec, ModelArtifactStatus
from tandem_operator.api.deployment import RESOURCE_RULES, LLMDeploymentSpec
from tandem_operator.api.status import LLMDeploymentStatus
from tandem_operator.manifest_yaml import manifest_yaml

Schema = dict[str, Any]

_KEPT = {
    "type", "description", "default", "enum", "pattern", "format", "required", "nullable",
    "minimum", "maximum", "multipleOf", "minLength", "maxLength", "minItems", "maxItems", "maxProperties",
    "x-kubernetes-validations", "x-kubernetes-list-type", "x-kubernetes-list-map-keys", "x-kubernetes-int-or-string",
}  # fmt: skip
_DROPPED = {"title", "$defs"}


def structural(schema: Schema, definitions: dict[str, Schema] | None = None) -> Schema:
    """A structural schema for what pydantic emitted.

    Raises ValueError for a keyword that has no structural form.
    """
    definitions = schema.get("$defs", {}) if definitions is None else definitions
    source = dict(schema)
    if "$ref" in source:
        named = definitions[source.pop("$ref").removeprefix("#/$defs/")]
        source = {**named, **source}
    if "anyOf" in source:
        branches = [branch for branch in source.pop("anyOf") if branch.get("type") != "null"]
        named = [definitions.get(branch.get("$ref", "").removeprefix("#/$defs/"), branch) for branch in branches]
        if len(named) > 1 and all("enum" in branch for branch in named):  # one list of words out of several
            branches = [{"type": "string", "enum": [word for branch in named for word in branch["enum"]]}]
        if len(branches) != 1:
            raise ValueError(f"no structural form for a union of {branches}")
        return structural({**branches[0], **source, **_described(branches[0], source)}, definitions)
    result: Schema = {}
    for key, value in source.items():
        if key in _DROPPED or (key == "default" and value in (None, [])):
            continue  # what the API server fills in is in everybody's object for good: nothing is
        if key == "const":
            result["enum"] = [value]
        elif key == "properties":
            result["properties"] = {name: structural(child, definitions) for name, child in value.items()}
        elif key == "additionalProperties" and isinstance(value, dict) and "maxProperties" in source:
            result["additionalProperties"] = structural(value, definitions)
        elif key == "items":
            result["items"] = structural(value, definitions)
        elif key in _KEPT:
            result[key] = value
        else:
            raise ValueError(f"no structural form for {key}={value!r}")
    if isinstance(result.get("default"), dict):
        del result["default"]
        if any("default" in child for child in result["properties"].values()):
            result["default"] = {}  # the children's own defaults fill it in
    return result


def _described(branch: Schema, source: Schema) -> Schema:
    """The field's own description wins over the one of the type it refers to."""
    description = source.get("description") or branch.get("description")
    return {"description": description} if description else {}


def crd() -> dict[str, Any]:
    """The CustomResourceDefinition of LLMDeployment as a manifest."""
    return _definition(names.KIND, names.PLURAL, "llm", version=_version())


def artifact_crd() -> dict[str, Any]:
    """The CustomResourceDefinition of ModelArtifact as a manifest."""
    return _definition(names.ARTIFACT_KIND, names.ARTIFACT_PLURAL, "ma", version=_artifact_version())


def _definition(kind: str, plural: str, short_name: str, *, version: dict[str, Any]) -> dict[str, Any]:
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{names.GROUP}"},
        "spec": {
            "group": names.GROUP,
            "scope": "Namespaced",
            "names": {
                "kind": kind,
                "listKind": f"{kind}List",
                "plural": plural,
                "singular": kind.lower(),
                "shortNames": [short_name],
            },
            "versions": [version],
        },
    }


def _artifact_version() -> dict[str, Any]:
    return {
        "name": names.VERSION,
        "served": True,
        "storage": True,
        "subresources": {"status": {}},
        "additionalPrinterColumns": [
            _column("Ready", '.status.conditions[?(@.type=="Ready")].status', "The model has been inspected or made"),
            _column("Reason", '.status.conditions[?(@.type=="Ready")].reason', "Why Ready has its status"),
            _column("Progress", ".status.progress.done", "How far the Job is that runs"),
            _column("Left", ".status.progress.left", "Estimate of the time that it still takes"),
            _column("Source", ".status.source", "Where the files are"),
            _column("Form", ".status.scheme", "How it is quantized"),
            _column("Model", ".status.summary", "What the model is"),
            _column("Loss", ".status.loss", "What quantizing has cost"),
            {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"},
        ],
        "schema": {"openAPIV3Schema": artifact_schema()},
    }


def artifact_schema() -> Schema:
    """The structural schema of a ModelArtifact."""
    return {
        "type": "object",
        "description": "One model in one form, shared by every LLMDeployment that serves it.",
        "required": ["spec"],
        "properties": {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "metadata": {"type": "object"},
            "spec": structural(ModelArtifactSpec.model_json_schema(by_alias=True)),
            "status": structural(ModelArtifactStatus.model_json_schema(by_alias=True)),
        },
    }


def _version() -> dict[str, Any]:
    return {
        "name": names.VERSION,
        "served": True,
        "storage": True,
        "subresources": {
            "status": {},
            "scale": {
                "specReplicasPath": ".spec.verifier.replicas",
                "statusReplicasPath": ".status.verifier.replicas",
                "labelSelectorPath": ".status.verifier.selector",
            },
        },
        "additionalPrinterColumns": [
            _column(
                "Ready",
                '.status.conditions[?(@.type=="Ready")].status',
                "This generation is fully rolled out",
            ),
            _column("Reason", '.status.conditions[?(@.type=="Ready")].reason', "Why Ready has its status"),
            _column("Verifiers", ".status.verifier.summary", "Ready and wanted verifier pods"),
            _column("Drafts", ".status.draft.summary", "Ready and wanted draft pods"),
            _column("Accept", ".status.speculation.acceptanceRate", "Share of the drafted tokens that are accepted"),
            {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"},
        ],
        "schema": {"openAPIV3Schema": crd_schema()},
    }


_NOT_SEEN_YET: Schema = {"default": {"observedGeneration": -1}}
"""Of a status that nobody has written: kstatus, which GitOps tools and Helm 4 wait by, takes a resource without any for
ready."""


def crd_schema() -> Schema:
    """The structural schema of an LLMDeployment."""
    return {
        "type": "object",
        "description": "A large language model served as a pair: draft pods propose tokens, verifier pods check them.",
        "required": ["spec"],
        "properties": {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "metadata": {"type": "object"},
            "spec": structural(LLMDeploymentSpec.model_json_schema(by_alias=True)),
            "status": {**structural(LLMDeploymentStatus.model_json_schema(by_alias=True)), **_NOT_SEEN_YET},
        },
        "x-kubernetes-validations": [rule.as_cel() for rule in RESOURCE_RULES],
    }


def _column(name: str, path: str, description: str) -> dict[str, str]:
    return {"name": name, "type": "string", "jsonPath": path, "description": description}


HEADER = "# Generated from operator/tandem_operator/api by `make crds`; do not edit.\n"


def crd_yaml() -> str:
    """The file `crds/llmdeployments.yaml`, with a stable order of keys."""
    return HEADER + manifest_yaml(crd())


def crd_files() -> dict[str, str]:
    """Every generated file by its name."""
    return {
        f"{names.PLURAL}.yaml": crd_yaml(),
        f"{names.ARTIFACT_PLURAL}.yaml": HEADER + manifest_yaml(artifact_crd()),
    }
