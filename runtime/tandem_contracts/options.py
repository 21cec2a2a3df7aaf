"""Command lines of our programs as frozen dataclasses: one flag a field, spelled by the operator, read by the program.

Must not know which options there are: `launch` and `gate` do.
"""

import argparse
import dataclasses
from collections.abc import Callable, Iterable
from enum import StrEnum
from types import UnionType
from typing import Any, NoReturn, get_args

Field = dataclasses.Field[Any]


class OptionsParser(argparse.ArgumentParser):
    """An argument parser that raises `error_type` instead of ending the process."""

    def __init__(self, module: str, *, error_type: type[ValueError]) -> None:
        """For `python -m MODULE`."""
        super().__init__(prog=f"python -m {module}", allow_abbrev=False)
        self._error_type = error_type

    def add_fields(self, fields: Iterable[Field]) -> None:
        """A flag for each. Defaults stay the dataclass's own: what was not given is not in the namespace."""
        for field in fields:
            required = field.default is dataclasses.MISSING
            self.add_argument(
                flag_of(field.name), type=_reader_of(field.type), required=required, default=argparse.SUPPRESS
            )

    def error(self, message: str) -> NoReturn:
        raise self._error_type(message)


def arguments_of(options: object, fields: Iterable[Field]) -> list[str]:
    """The flags that spell these fields of `options`; what equals its default is left out."""
    values = {field.name: (getattr(options, field.name), field.default) for field in fields}
    return [f"{flag_of(name)}={value}" for name, (value, default) in values.items() if value != default]


def flag_of(field_name: str) -> str:
    """`served_name` is `--served-name`."""
    return "--" + field_name.replace("_", "-")


def refusal_of(flag: str, value: object, *, allowed: str) -> str:
    """The sentence for a value outside its range."""
    return f"{flag}: {value} is not allowed here (allowed: {allowed})"


def _reader_of(kind: Any) -> Callable[[str], Any]:
    """What reads a value of a field of this type."""
    if isinstance(kind, UnionType):
        (kind,) = (member for member in get_args(kind) if member is not type(None))
    if isinstance(kind, type) and issubclass(kind, StrEnum):
        return _choice_of(kind)
    reader: Callable[[str], Any] = kind
    return reader


def _choice_of(kind: type[StrEnum]) -> Callable[[str], StrEnum]:
    """A converter whose error names the allowed values; argparse's own names only the type."""

    def convert(text: str) -> StrEnum:
        if text not in list(kind):
            raise argparse.ArgumentTypeError(f"{text!r} is not allowed (allowed: {', '.join(kind)})")
        return kind(text)

    return convert
