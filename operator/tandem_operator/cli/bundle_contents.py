"""What `tandem debug bundle` collects, as it is read, and then without what is secret. Reads alone, and no Secret."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import yaml

from tandem_contracts.ports import HTTP_PORT, METRICS_PORT
from tandem_operator import names
from tandem_operator.cli.connection import Connection
from tandem_operator.cli.inputs import CommandError
from tandem_operator.cli.redaction import Redaction
from tandem_operator.cli.screen import PLAIN
from tandem_operator.cli.status import run_status
from tandem_operator.cli.why import run_why
from tandem_operator.cluster import CHILD_KINDS, KINDS
from tandem_operator.facts import Manifest
from tandem_operator.manifest_yaml import manifest_yaml
from tandem_operator.masking import one_line

OPERATOR_METRICS_PORT = 9090
OPERATOR_SELECTOR = f"{names.LABEL_PART_OF}={names.PART_OF},{names.LABEL_COMPONENT}=operator"
READS_AT_ONCE = 8
MOST_CHARACTERS = 4_000_000
"""Of one log or page: its end is kept."""
_OWN_KINDS = tuple(dict.fromkeys((*CHILD_KINDS, "ConfigMap", "Pod")))


@dataclass
class Contents:
    """What was read, and what was not."""

    objects: dict[str, Manifest] = field(default_factory=dict)
    """By their path in the archive."""
    texts: dict[str, str] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)
    """What could not be read, each with the reason, in one line."""
    server: str = "unknown"
    """Version of the API server."""
    operator: str = ""
    """Image of the operator."""

    def redacted(self) -> dict[str, str]:
        """Every file's text, by its path. What else is told of the contents has no secret from then on, either."""
        objects = {path: _opened(each) for path, each in self.objects.items()}
        redaction = Redaction.of(objects.values())
        self.missing = [redaction.text(each) for each in self.missing]
        self.server, self.operator = redaction.text(self.server), redaction.text(self.operator)
        return {
            **{path: manifest_yaml(redaction.object(each)) for path, each in objects.items()},
            **{path: redaction.text(each[-MOST_CHARACTERS:]) + "\n" for path, each in self.texts.items()},
        }


def collect(connection: Connection, name: str, *, lines: int, now: datetime) -> Contents:
    """All there is about a resource. Raises CommandError only where itself cannot be read."""
    contents = Contents()
    reader = _Reader(connection, contents, lines)
    body = connection.get(names.KIND, name)
    contents.objects["resource.yaml"] = {"apiVersion": names.API_VERSION, "kind": names.KIND, **body}
    reader.text("status.txt", "tandem status", lambda: run_status(connection, name, now=now, paint=PLAIN)[0])
    reader.text("why.txt", "tandem why", lambda: run_why(connection, name, now=now))
    labelled = f"{names.LABEL_DEPLOYMENT}={name}"
    pods = [each for kind in _OWN_KINDS for each in reader.listed(kind, "objects", labelled) if kind == "Pod"]
    if any("resourceClaims" in (pod.get("spec") or {}) for pod in pods):
        reader.listed(names.CLAIM_TEMPLATE_KIND, "objects", labelled)
    artifacts, jobs = _artifacts(reader, contents)
    operators = _operator(reader, contents)
    _events(reader, contents, name, artifacts)
    asks = [
        *(ask for pod in pods for ask in reader.asks_of(pod, "", ports=_ports_of(pod))),
        *(ask for pod in jobs for ask in reader.asks_of(pod, "", ports=(METRICS_PORT,))),
        *(ask for pod in operators for ask in reader.asks_of(pod, "operator/", ports=(OPERATOR_METRICS_PORT,))),
    ]
    with ThreadPoolExecutor(READS_AT_ONCE) as pool:
        list(pool.map(lambda ask: reader.text(*ask), asks))
    contents.missing.sort()
    return contents


class _Reader:
    """Reads into the contents; what fails is noted there."""

    def __init__(self, connection: Connection, contents: Contents, lines: int) -> None:
        self.connection, self._contents, self._lines = connection, contents, lines

    def text(self, path: str, what: str, read: Callable[[], str]) -> str:
        """A text to be kept under a path; empty where it could not be read."""
        try:
            found = read()
        except CommandError as error:
            self._contents.missing.append(one_line(f"{path} ({what}): {error}"))
            return ""
        if path:
            self._contents.texts[path] = found
        return found

    def listed(self, kind: str, folder: str, selector: str = "") -> list[Manifest]:
        """All objects of a kind that have the labels; kept where there is a folder for them."""
        query = {"labelSelector": selector} if selector else {}
        try:
            items = self.connection.get(kind, **query)["items"]
        except CommandError as error:
            self._contents.missing.append(one_line(f"{kind} objects: {error}"))
            return []
        found = [{"apiVersion": KINDS[kind].api_version, "kind": kind, **item} for item in items]
        if folder:
            for each in found:
                self.keep(each, folder)
        return found

    def keep(self, manifest: Manifest, folder: str) -> None:
        """In a file of its own."""
        self._contents.objects[f"{folder}/{manifest['kind']}-{manifest['metadata']['name']}.yaml"] = manifest

    def asks_of(
        self, pod: Manifest, folder: str, *, ports: Iterable[int]
    ) -> Iterator[tuple[str, str, Callable[[], str]]]:
        """Logs and metrics pages of a pod: where each is kept, what it is, and how it is read."""
        name = pod["metadata"]["name"]
        for container, is_previous in _containers_of(pod):
            path = f"{folder}logs/{name}.{container}{'.previous' if is_previous else ''}.log"
            yield path, "log", _log(self.connection, name, container, lines=self._lines, is_previous=is_previous)
        if (pod.get("status") or {}).get("phase") == "Running":
            for port in ports:
                yield f"{folder}metrics/{name}-{port}.txt", "metrics page", _page(self.connection, name, port)


def _log(connection: Connection, pod: str, container: str, *, lines: int, is_previous: bool) -> Callable[[], str]:
    return lambda: connection.log(pod, container, lines=lines, is_previous=is_previous)


def _page(connection: Connection, pod: str, port: int) -> Callable[[], str]:
    return lambda: connection.page(pod, port)


def _containers_of(pod: Manifest) -> Iterator[tuple[str, bool]]:
    """Containers that have written something, and whether the one before is meant."""
    status = pod.get("status") or {}
    for told in ("initContainerStatuses", "containerStatuses", "ephemeralContainerStatuses"):
        for container in status.get(told) or []:
            if "waiting" not in (container.get("state") or {}):
                yield container["name"], False
            if container.get("restartCount") or container.get("lastState"):
                yield container["name"], True


def _ports_of(pod: Manifest) -> Sequence[int]:
    """Verifiers have an engine's page beside ours."""
    is_verifier = (pod["metadata"].get("labels") or {}).get(names.LABEL_ROLE) == "verifier"
    return (HTTP_PORT, METRICS_PORT) if is_verifier else (METRICS_PORT,)


def _artifacts(reader: _Reader, contents: Contents) -> tuple[list[str], list[Manifest]]:
    """Names of the ModelArtifacts that the resource or one of its objects speaks of, and the pods of their Jobs."""
    spoken = json.dumps(list(contents.objects.values()))
    listed = reader.listed(names.ARTIFACT_KIND, "")
    chosen = [each for each in listed if each["metadata"]["name"] in spoken]
    for sources in ("spec", "status"):  # a quantized one speaks of that which it is made from
        told = json.dumps([each.get(sources) for each in chosen])
        chosen += [each for each in listed if each not in chosen and each["metadata"]["name"] in told]
    for each in chosen:
        reader.keep(each, "artifacts")
    found = [each["metadata"]["name"] for each in chosen]
    for job in reader.listed("Job", "", names.LABEL_ARTIFACT):
        if job["metadata"]["labels"][names.LABEL_ARTIFACT] in found:
            reader.keep(job, "artifacts")
    pods = [
        pod
        for pod in reader.listed("Pod", "", names.LABEL_ARTIFACT)
        if pod["metadata"]["labels"][names.LABEL_ARTIFACT] in found
    ]
    for pod in pods:
        reader.keep(pod, "artifacts")
    return found, pods


def _operator(reader: _Reader, contents: Contents) -> list[Manifest]:
    """The operator's pods, with what they are made of beside them."""
    for kind in ("Deployment", "ConfigMap"):
        for each in reader.listed(kind, "operator", OPERATOR_SELECTOR):
            containers = (((each.get("spec") or {}).get("template") or {}).get("spec") or {}).get("containers") or []
            contents.operator = next((container["image"] for container in containers), contents.operator)
    pods = reader.listed("Pod", "operator", OPERATOR_SELECTOR)
    if not pods:
        contents.missing.append(f"operator/: no pod of an operator in namespace {reader.connection.namespace}")
    try:
        reader.keep({"kind": "Lease", **reader.connection.get("Lease", names.LEASE)}, "operator")
    except CommandError as error:
        contents.missing.append(one_line(f"operator/Lease: {error}"))
    try:
        contents.server = str(reader.connection.version().get("gitVersion", "unknown"))
    except CommandError as error:
        contents.missing.append(one_line(str(error)))
    return pods


def _events(reader: _Reader, contents: Contents, name: str, artifacts: Sequence[str]) -> None:
    """Of the resource and of everything whose name begins with its own, such as the ReplicaSets of its Deployments."""
    known = (name, *artifacts)
    beginnings = tuple(f"{each}-" for each in known)

    def is_ours(event: Manifest) -> bool:
        about = (event.get("regarding") or event.get("involvedObject") or {}).get("name", "")
        return about in known or about.startswith(beginnings)

    found = [each for each in reader.listed("Event", "") if is_ours(each)]
    contents.objects["events.yaml"] = {"kind": "List", "items": found}


def _opened(manifest: Manifest) -> Manifest:
    """A ConfigMap with the YAML in its texts as what it says, so that names within it tell what is secret."""
    if manifest.get("kind") != "ConfigMap":
        return manifest
    return {**manifest, "data": {key: _parsed(text) for key, text in (manifest.get("data") or {}).items()}}


def _parsed(text: Any) -> Any:
    try:
        found = yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError):
        return text
    return found if isinstance(found, dict | list) else text
