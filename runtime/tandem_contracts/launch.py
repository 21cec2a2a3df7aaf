"""The command line of an engine container: the operator renders it, the launcher parses it.

Must not read the environment or the file system, and must not know what vLLM's flags are called.
"""

import argparse
import dataclasses
from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import NoReturn, Self

from tandem_contracts.ports import HTTP_PORT, METRICS_PORT

LAUNCH_MODULE = "tandem_runtime.launch"
DEPTH_LIMIT = 16
DEFAULT_DRAFT_DEADLINE_SECONDS = 0.1
DRAFT_DEADLINE_LIMIT_SECONDS = 5.0
TERMINATION_LOG = "/dev/termination-log"


class Role(StrEnum):
    """Which half of the pair an engine is."""

    VERIFIER = "verifier"
    DRAFT = "draft"


class Speculation(StrEnum):
    """Where a verifier's drafts come from; the values are those of `spec.speculation.method`."""

    REMOTE = "Remote"
    NGRAM = "NGram"
    OFF = "Off"


class InvalidLaunchOptionsError(ValueError):
    """A launch option is unknown, missing or outside its range; the message names flag, value and range."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class LaunchOptions:
    """All that a launcher is told. Raises InvalidLaunchOptionsError for values that do not fit together.

    `draft_address` is `host:port`, empty unless drafts are Remote. `max_depth` is 0 when speculation is Off,
    else 1 to DEPTH_LIMIT. `draft_deadline_seconds` is the longest that one step may wait for remote drafts.
    An empty `host` means all interfaces.
    """

    role: Role
    model: str
    served_name: str
    tensor_parallel: int = 1
    speculation: Speculation = Speculation.OFF
    max_depth: int = 0
    draft_address: str = ""
    draft_deadline_seconds: float = DEFAULT_DRAFT_DEADLINE_SECONDS
    host: str = ""
    http_port: int = HTTP_PORT
    metrics_port: int = METRICS_PORT
    termination_log: str = TERMINATION_LOG

    def __post_init__(self) -> None:
        for flag, text in (("--model", self.model), ("--served-name", self.served_name)):
            _require(text != "", flag, "''", "a text that is not empty")
        _require(self.tensor_parallel >= 1, "--tensor-parallel", self.tensor_parallel, "at least 1")
        for flag, port in (("--http-port", self.http_port), ("--metrics-port", self.metrics_port)):
            _require(1 <= port <= 65535, flag, port, "1 to 65535")
        _require(
            0 < self.draft_deadline_seconds <= DRAFT_DEADLINE_LIMIT_SECONDS,
            "--draft-deadline-seconds",
            self.draft_deadline_seconds,
            f"above 0, at most {DRAFT_DEADLINE_LIMIT_SECONDS}",
        )
        self._check_speculation()

    def _check_speculation(self) -> None:
        if self.role is Role.DRAFT:
            _require(self.speculation is Speculation.OFF, "--speculation", self.speculation, "Off for a draft")
        if self.speculation is Speculation.OFF:
            _require(self.max_depth == 0, "--max-depth", self.max_depth, "0 with --speculation Off")
        else:
            allowed = f"1 to {DEPTH_LIMIT} with --speculation {self.speculation}"
            _require(1 <= self.max_depth <= DEPTH_LIMIT, "--max-depth", self.max_depth, allowed)
        if self.speculation is Speculation.REMOTE:
            host, _, port = self.draft_address.rpartition(":")
            is_address = host != "" and port.isascii() and port.isdecimal() and 1 <= int(port) <= 65535
            _require(is_address, "--draft-address", repr(self.draft_address), "HOST:PORT with --speculation Remote")
        else:
            allowed = "left out unless --speculation is Remote"
            _require(self.draft_address == "", "--draft-address", repr(self.draft_address), allowed)

    def to_arguments(self) -> list[str]:
        """The arguments after `python -m tandem_runtime.launch`; what equals its default is left out."""
        arguments = []
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if value != field.default:
                arguments.append(f"{_flag(field.name)}={value}")
        return arguments

    @classmethod
    def parse(cls, arguments: Sequence[str]) -> Self:
        """What `arguments` spell: the inverse of `to_arguments`. Raises InvalidLaunchOptionsError."""
        parser = _Parser(prog=f"python -m {LAUNCH_MODULE}", allow_abbrev=False)
        for field in dataclasses.fields(cls):
            required = field.default is dataclasses.MISSING
            kind = field.type
            if isinstance(kind, type) and issubclass(kind, StrEnum):
                kind = _choice_of(kind)
            # Defaults stay the dataclass's own: an option that was not given is not in the namespace.
            parser.add_argument(_flag(field.name), type=kind, required=required, default=argparse.SUPPRESS)
        return cls(**vars(parser.parse_args(arguments)))


class _Parser(argparse.ArgumentParser):
    """An argument parser that raises instead of ending the process."""

    def error(self, message: str) -> NoReturn:
        raise InvalidLaunchOptionsError(message)


def _choice_of(kind: type[StrEnum]) -> Callable[[str], StrEnum]:
    """A converter whose error names the allowed values; argparse's own names only the type."""

    def convert(text: str) -> StrEnum:
        if text not in list(kind):
            raise argparse.ArgumentTypeError(f"{text!r} is not allowed (allowed: {', '.join(kind)})")
        return kind(text)

    return convert


def _flag(field_name: str) -> str:
    return "--" + field_name.replace("_", "-")


def _require(fits: bool, flag: str, value: object, allowed: str) -> None:  # noqa: FBT001 - a condition, no switch
    if not fits:
        raise InvalidLaunchOptionsError(f"{flag}: {value} is not allowed here (allowed: {allowed})")
