"""What a command is given in files: the operator's configuration, and LLMDeployments as a user wrote them."""

from __future__ import annotations

import re
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from tandem_operator import names
from tandem_operator.accelerators import AcceleratorClass, table_of
from tandem_operator.config import InvalidConfigError, OperatorConfig
from tandem_operator.facts import Manifest

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


def deployments_in(filename: str, *, namespace: str) -> Sequence[Manifest]:
    """Every LLMDeployment of a YAML file (`-`: standard input), also within Lists; `namespace` for those without one.

    Raises CommandError, also where there is none.
    """
    try:
        text = sys.stdin.read() if filename == "-" else Path(filename).read_text(encoding="utf-8")
        documents: list[Any] = list(yaml.safe_load_all(text))
    except (OSError, UnicodeError, yaml.YAMLError) as error:
        raise CommandError(f"{filename}: {error}") from error
    except RecursionError:
        raise CommandError(f"{filename}: is nested too deeply") from None
    found = []
    for body in (body for document in documents for body in _items(document)):
        try:
            found.append(_identified(body, namespace))
        except ValueError as error:
            raise CommandError(f"{filename}: {error}") from error
    if not found:
        raise CommandError(f"{filename}: holds no {names.KIND} of {names.API_VERSION}")
    counted = Counter(f"{body['metadata']['namespace']}/{body['metadata']['name']}" for body in found)
    twice = [name for name, count in counted.items() if count > 1]
    if twice:
        raise CommandError(f"{filename}: holds {names.KIND} {', '.join(twice)} more than once")
    return found


def _items(document: Any) -> Iterator[Manifest]:
    """The document itself, or what a List holds, where it is an LLMDeployment."""
    if not isinstance(document, dict):
        return
    if document.get("kind") == names.KIND:
        yield document
    elif str(document.get("kind")).endswith("List") and isinstance(document.get("items"), list):
        for item in document["items"]:
            yield from _items(item)


def _identified(body: Manifest, namespace: str) -> Manifest:
    """The body with a namespace. Raises ValueError for what is no version, name or namespace."""
    if body.get("apiVersion") != names.API_VERSION:
        raise ValueError(f"apiVersion is {body.get('apiVersion')}, must be {names.API_VERSION}")
    metadata = body.get("metadata")
    if not isinstance(metadata, dict) or not isinstance(metadata.get("name"), str):
        raise ValueError("metadata.name is required, and must be a text")  # noqa: TRY004 -- the user's, not ours
    given = metadata.get("namespace", namespace)
    if not isinstance(given, str) or not NAMESPACE.fullmatch(given):
        rule = "must be a DNS label: at most 63 lower-case letters, digits and '-'"
        raise ValueError(f"{names.KIND} {metadata['name']}: metadata.namespace (is {given!r}): {rule}")
    return {**body, "metadata": {**metadata, "namespace": given}}
