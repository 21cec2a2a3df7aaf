"""What the container of a draft engine of type Custom is told, by environment variables, so that a program in any
language can read it: the operator renders them. The container is started by its image's own command.

It serves `tandem.draft.v1` and gRPC's health service on `TANDEM_GRPC_PORT`; with `TANDEM_IDENTITY`, over TLS and only
for who shows that deployment's token (`draft_access`), and then the health service on `TANDEM_HEALTH_PORT` as well, in
plaintext. It may serve Prometheus metrics on `TANDEM_METRICS_PORT`. SIGTERM tells it to drain. Its root file system is
read-only but for /tmp, and it runs as another user than root.
"""

import dataclasses
from collections.abc import Mapping
from typing import Self

from tandem_contracts.draft_access import CERTIFICATES_FOLDER, CREDENTIALS_FOLDER, DraftIdentity
from tandem_contracts.ports import GRPC_PORT, HEALTH_PORT, METRICS_PORT

DEFAULT_SESSIONS = 64
PREFIX = "TANDEM_"
_ONLY_WITH_IDENTITY = {"certificates_folder", "credentials_folder", "health_port"}


class InvalidContainerError(ValueError):
    """A variable is missing or outside its range; the message names it, its value and what is allowed."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class DraftContainer:
    """Where a draft pod serves what to whom. An empty `host` means all interfaces.

    `model`: path of the draft model's folder. `max_sessions`: contexts that it keeps at hand at once. `identity`:
    `NAMESPACE/NAME` of the deployment whose verifiers alone may ask; empty: everybody, in plaintext.
    """

    model: str
    max_sessions: int = DEFAULT_SESSIONS
    identity: str = ""
    certificates_folder: str = CERTIFICATES_FOLDER
    credentials_folder: str = CREDENTIALS_FOLDER
    host: str = ""
    grpc_port: int = GRPC_PORT
    metrics_port: int = METRICS_PORT
    health_port: int = HEALTH_PORT

    def to_environment(self) -> dict[str, str]:
        """The variables: all that say something, defaults too, since who reads them need not know any."""
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        left_out = set() if self.identity else _ONLY_WITH_IDENTITY
        return {_variable(name): str(value) for name, value in values.items() if value != "" and name not in left_out}

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> Self:
        """The inverse of `to_environment`; other variables do not matter. Raises InvalidContainerError."""
        given: dict[str, str | int] = {}
        for field in dataclasses.fields(cls):
            text = environment.get(_variable(field.name), "")
            if not text:
                continue
            if field.type is int:
                highest = 2**31 if field.name == "max_sessions" else 65535
                if not (text.isascii() and text.isdecimal() and 1 <= int(text) <= highest):
                    raise _invalid(field.name, text, f"a whole number from 1 to {highest}")
                given[field.name] = int(text)
            else:
                given[field.name] = text
        if "model" not in given:
            raise _invalid("model", "", "the path of a model's folder")
        if "identity" in given:
            try:
                DraftIdentity.parse(str(given["identity"]))
            except ValueError:
                raise _invalid("identity", str(given["identity"]), "NAMESPACE/NAME") from None
        return cls(**given)  # type: ignore[arg-type]


def _variable(name: str) -> str:
    return PREFIX + name.upper()


def _invalid(name: str, value: str, allowed: str) -> InvalidContainerError:
    return InvalidContainerError(f"{_variable(name)}: {value!r} is not allowed here (allowed: {allowed})")
