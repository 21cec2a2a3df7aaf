"""What a command is given in files: the operator's configuration, and LLMDeployments as a user wrote them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tandem_operator import names
from tandem_operator.accelerators import AcceleratorClass, table_of
from tandem_operator.config import InvalidConfigError, OperatorConfig
from tandem_operator.facts import Manifest
from tandem_operator.yaml_files import UnreadableFileError, documents_in

NAMESPACE = re.compile("[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")


class CommandError(Exception):
    """A command cannot be carried out; the message says what is wrong or missing. `exit_code` is the process's."""

    def __init__(self, message: str, *, exit_code: int = 1) -> None:
        super().__init__(message)
        self.exit_code = exit_code


def configuration_in(path: Path | None) -> tuple[OperatorConfig, Mapping[str, AcceleratorClass]]:
    """The operator's configuration in a file (None: its defaults), with its accelerator table. Raises CommandError."""
    try:
        config = OperatorConfig.load(path)
        return config, table_of(config)
    except InvalidConfigError as error:
        raise CommandError(f"{path}: {error}") from error


@dataclass(frozen=True)
class Written:
    """What a file holds."""

    deployments: Sequence[Manifest]
    others: Sequence[str]
    """What else, which nobody looks at: `Service web`."""


def deployments_in(filename: str, *, namespace: str) -> Written:
    """Every LLMDeployment of a YAML file (`-`: standard input), also within Lists; `namespace` for those without one.

    Raises CommandError, also where there is none.
    """
    try:
        documents = documents_in(None if filename == "-" else Path(filename))
    except UnreadableFileError as error:
        raise CommandError(f"{filename}: {error}") from error
    found: list[Manifest] = []
    others: list[str] = []
    for body in (body for document in documents for body in _items(document)):
        try:
            if _is_ours(body):
                found.append(_identified(body, namespace))
            else:
                others.append(_called(body))
        except ValueError as error:
            raise CommandError(f"{filename}: {error}") from error
    if not found:
        instead = f", but {', '.join(others)}" if others else ""
        raise CommandError(f"{filename}: holds no {names.KIND} of {names.API_VERSION}{instead}")
    counted = Counter(f"{body['metadata']['namespace']}/{body['metadata']['name']}" for body in found)
    twice = [name for name, count in counted.items() if count > 1]
    if twice:
        raise CommandError(f"{filename}: holds {names.KIND} {', '.join(twice)} more than once")
    return Written(found, others)


def _items(document: Any) -> Iterator[Any]:
    """The document itself, or what a List holds; nothing of an empty one."""
    if isinstance(document, dict) and str(document.get("kind")).endswith("List"):
        items = document.get("items")
        for item in items if isinstance(items, list) else ():
            yield from _items(item)
    elif document is not None:
        yield document


def _is_ours(body: Any) -> bool:
    """Whether it is an LLMDeployment. Raises ValueError for what was to be one, and is of no kind that we have."""
    if not isinstance(body, dict):
        return False
    kind, is_of_group = body.get("kind"), str(body.get("apiVersion")).startswith(f"{names.GROUP}/")
    if is_of_group and kind not in (names.KIND, names.ARTIFACT_KIND):
        shown = "omitted" if kind is None else kind
        raise ValueError(f"{_name_of(body)}: kind (is {shown}): must be {names.KIND}")
    return bool(kind == names.KIND)


def _called(body: Any) -> str:
    if not isinstance(body, dict):
        return "a list" if isinstance(body, list) else "a text"
    kind = body.get("kind")
    return f"{kind} {_name_of(body)}" if kind else "a document without kind"


def _name_of(body: Manifest) -> str:
    metadata = body.get("metadata")
    return str(metadata.get("name")) if isinstance(metadata, dict) and "name" in metadata else "without a name"


def _identified(body: Manifest, namespace: str) -> Manifest:
    """The body with a namespace. Raises ValueError for what is no version, name or namespace."""
    if body.get("apiVersion") != names.API_VERSION:
        raise ValueError(
            f"{names.KIND} {_name_of(body)}: apiVersion (is {body.get('apiVersion', 'omitted')}): must be "
            f"{names.API_VERSION}"
        )
    metadata = body.get("metadata")
    if not isinstance(metadata, dict) or not isinstance(metadata.get("name"), str):
        raise ValueError("metadata.name is required, and must be a text")  # noqa: TRY004 -- the user's, not ours
    given = metadata.get("namespace", namespace)
    if not isinstance(given, str) or not NAMESPACE.fullmatch(given):
        rule = "must be a DNS label: at most 63 lower-case letters, digits and '-'"
        raise ValueError(f"{names.KIND} {metadata['name']}: metadata.namespace (is {given!r}): {rule}")
    return {**body, "metadata": {**metadata, "namespace": given}}
