"""What of an object may leave a cluster: everything but what is, or might be, secret. Pure.

Three rules. By place: values of environment variables and of annotations that are not ours, binary data, and whatever
lies under a name that says so, lists and maps included. By look: what looks like a credential (`masking.py`), in every
text. And what was taken out by its place is taken out wherever else it stands, such as in a log.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from tandem_operator import names
from tandem_operator.facts import Manifest
from tandem_operator.masking import CONFIDENTIAL, CONFIDENTIALS, MASK, masked_lines, named_values

_SECRET_NAME = re.compile(
    rf"(?: {CONFIDENTIAL} | {CONFIDENTIALS} | (?<!pull) secrets | credentials? )$", re.IGNORECASE | re.VERBOSE
)
_OF_A_SECRET = frozenset(
    {"audience", "defaultMode", "expirationSeconds", "name", "namespace", "optional", "path", "secretName"}
)
"""Under the name of a secret, what only says which one is meant, and where it is mounted."""
_WHOLLY_SECRET = frozenset({"environment", "binaryData"})
_ARGUMENTS = frozenset({"args", "command"})
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
        if _is_secret(name) and not _is_volume(value):
            return self._secret(value)
        if isinstance(value, dict):
            if name == "annotations":
                return {self.text(str(key)): self._annotation(key, each) for key, each in value.items()}
            if name in _WHOLLY_SECRET:
                return {self.text(str(key)): MASK for key in value}
            is_variable = "name" in value and "value" in value and not _is_ours(value["name"])
            return {
                self.text(str(key)): MASK if is_variable and key == "value" else self._value(each, str(key))
                for key, each in value.items()
                if key != "managedFields"
            }
        if isinstance(value, list):
            return [
                MASK if is_secret and isinstance(each, str) else self._value(each, name)
                for each, is_secret in _after_names(value)
            ]
        return self.text(value) if isinstance(value, str) else value

    def _secret(self, value: Any) -> Any:
        """Under the name of a secret: what is there, but not what it says."""
        if isinstance(value, dict):
            return {
                self.text(str(key)): self._value(each, "") if _is_reference(key) else self._secret(each)
                for key, each in value.items()
            }
        if isinstance(value, list):
            return [self._secret(each) for each in value]
        return MASK if _is_told(value) else value

    def _annotation(self, key: str, value: Any) -> Any:
        return self.text(str(value)) if str(key).startswith(_OUR_ANNOTATIONS) else MASK


def _secret_values(value: Any, name: str = "") -> Iterator[str]:
    """Of an object, what is secret by its place, and may stand elsewhere too."""
    if _is_secret(name) and not _is_volume(value):
        yield from _told_values(value)
    elif isinstance(value, dict):
        if name == "environment":
            yield from (str(each) for each in value.values())
        elif isinstance(value.get("value"), str) and "name" in value and not _is_ours(value["name"]):
            yield value["value"]
        for key, each in value.items():
            yield from _secret_values(each, str(key))
    elif isinstance(value, list):
        for each, is_secret in _after_names(value):
            if is_secret and isinstance(each, str):
                yield each
            yield from _secret_values(each, name)
    elif isinstance(value, str) and name in _ARGUMENTS:
        yield from named_values(value)


def _told_values(value: Any) -> Iterator[str]:
    """All that is said under the name of a secret."""
    if isinstance(value, dict):
        for key, each in value.items():
            # A Secret's key, beside its name or a path, is a word like `api-key`, which stands in many places.
            if not _is_reference(key) and not (key == "key" and {"name", "path"} & value.keys()):
                yield from _told_values(each)
    elif isinstance(value, list):
        for each in value:
            yield from _told_values(each)
    elif _is_told(value):
        yield str(value)


def _after_names(values: list[Any]) -> Iterator[tuple[Any, bool]]:
    """Each value of a list, and whether the one before it is the name of a secret: `--api-key`, `value`."""
    before = ""
    for value in values:
        yield value, before.startswith("-") and "=" not in before and _is_secret(before)
        before = value if isinstance(value, str) else ""


def _is_secret(name: str) -> bool:
    return _SECRET_NAME.search(name) is not None


def _is_reference(key: Any) -> bool:
    return key in _OF_A_SECRET or str(key).endswith("Ref")


def _is_volume(value: Any) -> bool:
    """A pod's volume of a Secret names what of it is mounted where."""
    return isinstance(value, dict) and "secretName" in value


def _is_told(value: Any) -> bool:
    """Whether it is a value: a switch, such as automountServiceAccountToken, is none."""
    return value is not None and not isinstance(value, bool) and value != ""


def _is_ours(variable: Any) -> bool:
    return _OUR_VARIABLES.match(str(variable)) is not None
