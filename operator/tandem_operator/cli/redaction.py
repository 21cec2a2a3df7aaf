"""What of an object may leave a cluster: everything but what is, or might be, secret. Pure.

Three rules. By place: values of environment variables and of annotations that are not ours, and whatever lies under a
name that says so. By look: what looks like a credential (`masking.py`), in every text. And what was taken out by its
place is taken out wherever else it stands, such as in a log.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from tandem_operator import names
from tandem_operator.facts import Manifest
from tandem_operator.masking import MASK, masked_lines

_SECRET_NAME = re.compile(
    r"(?:token|secret|passw(?:or)?d|passphrase|authorization|credentials?|api[-_]?key|access[-_]?key|private[-_]?key)$",
    re.IGNORECASE,
)
_NO_SECRETS = frozenset({"timePerOutputToken", "timeToFirstToken", "outputToken", "firstToken"})
"""Latencies."""
_OUR_VARIABLES = re.compile(r"^(?:TANDEM_[A-Z_]+|HOME|HF_HUB_OFFLINE|OMP_WAIT_POLICY|POD_NAME)$")
_OUR_ANNOTATIONS = (f"{names.GROUP}/", "deployment.kubernetes.io/revision", names.ANNOTATION_DELETION_COST)
_PRIVATE_KEY = re.compile(
    r"-----BEGIN [A-Z ]{0,40}PRIVATE KEY-----.*?(?:-----END [A-Z ]{0,40}PRIVATE KEY-----|\Z)", re.DOTALL
)
_EDGES = re.compile(r"^\W+|\W+$")
_STANDS_IN, _STOOD_IN = "XTAKENOUTX", re.compile("XTAKENOUTX+")
"""For a value that was taken out, while the text around it is looked at: it may hold a part of a credential, or be one,
and letters keep what that looks like."""
_LEAST_LENGTH = 6
"""A shorter value that was taken out is not looked for elsewhere: it would be found in every other word."""


@dataclass(frozen=True)
class Redaction:
    """What is taken out of everything, besides what each object says itself."""

    known: tuple[str, ...] = ()
    """Values, the longest first: one may hold another."""

    @classmethod
    def of(cls, objects: Iterable[Any]) -> Redaction:
        """By all the objects that are to be told of."""
        found = {_EDGES.sub("", value) for each in objects for value in _secret_values(each)}
        found = {value for value in found if len(value) >= _LEAST_LENGTH}
        return cls(tuple(sorted(found, key=lambda value: (-len(value), value))))

    def object(self, manifest: Manifest) -> Manifest:
        """The same object to be shown."""
        shown: Manifest = self._value(manifest, "")
        return shown

    def text(self, text: str) -> str:
        """Lines to be shown."""
        for value in self.known:
            text = text.replace(value, _STANDS_IN.ljust(len(value), "X"))
        return _STOOD_IN.sub(MASK, masked_lines(_PRIVATE_KEY.sub(MASK, text)))

    def _value(self, value: Any, name: str) -> Any:
        if isinstance(value, dict):
            if name == "annotations":
                return {self.text(key): self._annotation(key, each) for key, each in value.items()}
            if name == "environment":
                return {self.text(key): MASK for key in value}
            is_variable = "name" in value and "value" in value and not _is_ours(value["name"])
            return {
                self.text(key): MASK if is_variable and key == "value" else self._value(each, key)
                for key, each in value.items()
                if key != "managedFields"
            }
        if isinstance(value, list):
            return [
                MASK if is_secret and isinstance(each, str) else self._value(each, name)
                for each, is_secret in _after_names(value)
            ]
        if isinstance(value, str):
            return MASK if value and _is_secret(name) else self.text(value)
        return value

    def _annotation(self, key: str, value: Any) -> Any:
        return self.text(str(value)) if str(key).startswith(_OUR_ANNOTATIONS) else MASK


def _secret_values(value: Any, name: str = "") -> Iterator[str]:
    """Of an object, what is secret by its place, and may stand elsewhere too."""
    if isinstance(value, dict):
        if name == "environment":
            yield from (str(each) for each in value.values())
        elif isinstance(value.get("value"), str) and "name" in value and not _is_ours(value["name"]):
            yield value["value"]
        for key, each in value.items():
            yield from _secret_values(each, key)
    elif isinstance(value, list):
        for each, is_secret in _after_names(value):
            if is_secret and isinstance(each, str):
                yield each
            yield from _secret_values(each, name)
    elif isinstance(value, str) and value and _is_secret(name):
        yield value


def _after_names(values: list[Any]) -> Iterator[tuple[Any, bool]]:
    """Each value of a list, and whether the one before it is the name of a secret: `--api-key`, `value`."""
    before = ""
    for value in values:
        yield value, before.startswith("-") and "=" not in before and _is_secret(before)
        before = value if isinstance(value, str) else ""


def _is_secret(name: str) -> bool:
    return name not in _NO_SECRETS and _SECRET_NAME.search(name) is not None


def _is_ours(variable: Any) -> bool:
    return _OUR_VARIABLES.match(str(variable)) is not None
