"""The pages of the custom resources: a section for each object, a row for each field. Pure.

Read from the CRDs' schemas, which are generated from the models: what a page says is what the API server enforces. An
object that stands in several places has one section; the other places refer to it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from deploy.docs.markdown import prose, table
from deploy.docs.schemas import Schema, allowed_in, default_of, members_of, type_of
from tandem_operator import names
from tandem_operator.api.crd import artifact_crd, crd
from tandem_operator.api.fields import VALIDATIONS

DEPLOYMENT, ARTIFACT = "LLMDeployment", "ModelArtifact"

PAGES: Mapping[str, tuple[str, str, str]] = {
    "llmdeployment.md": (DEPLOYMENT, "spec", "LLMDeployment"),
    "role.md": (DEPLOYMENT, "spec.verifier", "Verifier and draft"),
    "model.md": (DEPLOYMENT, "spec.verifier.model", "Where a model is"),
    "quantization.md": (DEPLOYMENT, "spec.verifier.model.quantization", "Quantization and its gate"),
    "engine.md": (DEPLOYMENT, "spec.verifier.engine", "Engine"),
    "speculation.md": (DEPLOYMENT, "spec.speculation", "Speculation"),
    "access.md": (DEPLOYMENT, "spec.access", "Access"),
    "rollout.md": (DEPLOYMENT, "spec.rollout", "Rollout"),
    "autoscaling.md": (DEPLOYMENT, "spec.autoscaling", "Autoscaling"),
    "cache.md": (DEPLOYMENT, "spec.cache", "Cache"),
    "status.md": (DEPLOYMENT, "status", "Status"),
    "modelartifact.md": (ARTIFACT, "spec", "ModelArtifact"),
    "modelartifact-status.md": (ARTIFACT, "status", "Status of a ModelArtifact"),
}
"""By file name: the kind, the path whose object and what is below are on the page, and the page's title. What a longer
path of another page begins is on that one."""

INTRODUCTIONS = {
    "role.md": "`spec.draft` has the same fields as `spec.verifier`; the paths below name the verifier's.",
    "model.md": "The same under `spec.draft.model`.",
    "quantization.md": "The same under `spec.draft.model.quantization`.",
    "engine.md": "The same under `spec.draft.engine`, of which an engine that only drafts takes a part.",
    "status.md": "Written by the operator alone. What each condition and reason means: [Conditions](conditions.md).",
    "modelartifact.md": "The operator makes one for each model in each form; nobody has to write one.",
}


@dataclass(frozen=True)
class Section:
    """One object of a resource."""

    kind: str
    path: str
    schema: Schema
    page: str

    @property
    def anchor(self) -> str:
        return self.path.replace("[]", "")

    @property
    def link(self) -> str:
        return f"{self.page}#{self.anchor}"


def resource_pages() -> dict[str, str]:
    """Every page of the resources by its file name."""
    told = _Sections()
    written = {}
    for page, (kind, _, title) in PAGES.items():
        parts = [f"# {title}\n"]
        if page in INTRODUCTIONS:
            parts.append(INTRODUCTIONS[page] + "\n")
        if page in _OVERVIEWS:
            parts.append(_overview(kind))
        parts += [told.text_of(section) for section in told.on(page)]
        written[page] = "\n".join(parts)
    return written


class _Sections:
    """All objects of both resources, each by its fields."""

    def __init__(self) -> None:
        self._by_page: dict[str, list[Section]] = {page: [] for page in PAGES}
        self._by_shape: dict[str, Section] = {}
        for kind, schema in _SCHEMAS.items():
            for part in ("spec", "status"):
                for section in _sections(kind, part, schema["properties"][part]):
                    if self._by_shape.setdefault(_shape(section.schema), section) is section:
                        self._by_page[section.page].append(section)

    def on(self, page: str) -> list[Section]:
        return self._by_page[page]

    def text_of(self, section: Section) -> str:
        parts = [f"## `{section.path}` {{#{section.anchor}}}\n"]
        if section.schema.get("description"):
            parts.append(prose(section.schema["description"]) + "\n")
        rules = [f"- {prose(rule['message'])}" for rule in section.schema.get(VALIDATIONS, [])]
        if rules:
            parts.append("Rules:\n\n" + "\n".join(rules) + "\n")
        required = set(section.schema.get("required", []))
        rows = [
            self._row(section, name, field, is_required=name in required)
            for name, field in section.schema["properties"].items()
        ]
        parts.append(table(("Field", "Type", "Default", "Allowed", "What it is"), rows))
        return "\n".join(parts)

    def _row(self, section: Section, name: str, field: Schema, *, is_required: bool) -> tuple[str, ...]:
        inner, _ = members_of(field)
        shown = f"`{name}`" if inner else f'<a id="{section.anchor}.{name}"></a>`{name}`'
        kind = type_of(field, {})
        if inner:
            there = self._by_shape[_shape(inner)]
            kind = f"[{kind}]({there.link if there.page != section.page else '#' + there.anchor})"
        default = "**required**" if is_required else default_of(field)
        allowed = "" if inner and "items" not in field else allowed_in(field, {})
        return shown, kind, default, allowed, prose(field.get("description", ""))


def _sections(kind: str, path: str, schema: Schema) -> Iterator[Section]:
    yield Section(kind, path, schema, _page_of(kind, path))
    for name, field in schema["properties"].items():
        inner, ending = members_of(field)
        if inner:
            yield from _sections(kind, f"{path}.{name}{ending}", {"description": field.get("description", ""), **inner})


def _page_of(kind: str, path: str) -> str:
    """The page of the longest path that this one begins with."""
    beginnings = {at: page for page, (of, at, _) in PAGES.items() if of == kind and f"{path}.".startswith(f"{at}.")}
    return beginnings[max(beginnings, key=len)]


def _shape(schema: Schema) -> str:
    """The same for objects of the same fields, whatever is said of the objects."""
    return json.dumps([schema["properties"], schema.get("required"), schema.get(VALIDATIONS)], sort_keys=True)


_DEFINITIONS = {DEPLOYMENT: crd(), ARTIFACT: artifact_crd()}
_SCHEMAS = {
    kind: definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"] for kind, definition in _DEFINITIONS.items()
}
_OVERVIEWS = {"llmdeployment.md", "modelartifact.md"}


def _overview(kind: str) -> str:
    """What holds for the whole resource."""
    spec = _DEFINITIONS[kind]["spec"]
    version = spec["versions"][0]
    parts = [
        prose(_SCHEMAS[kind]["description"]) + "\n",
        f"`apiVersion: {names.API_VERSION}`, `kind: {kind}`, namespaced; for kubectl also "
        f"`{spec['names']['plural']}` and `{spec['names']['shortNames'][0]}`.\n",
    ]
    parts += [f"- {prose(rule['message'])}\n" for rule in _SCHEMAS[kind].get(VALIDATIONS, [])]
    scale = version["subresources"].get("scale")
    if scale:
        parts.append(
            f"The scale subresource reads and writes `{scale['specReplicasPath'][1:]}`, and tells "
            f"`{scale['statusReplicasPath'][1:]}` and `{scale['labelSelectorPath'][1:]}`.\n"
        )
    columns = [
        (
            f"`{column['name'].upper()}`",
            f"`{column['jsonPath'][1:]}`".replace("|", "\\|"),
            column.get("description", ""),
        )
        for column in version["additionalPrinterColumns"]
    ]
    parts.append("## Columns of `kubectl get` {#columns}\n")
    parts.append(table(("Column", "Read from", "What it is"), columns))
    return "\n".join(parts)
