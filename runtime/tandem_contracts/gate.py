"""The command line of a wake gate: the operator renders it, `tandem_runtime.gateway` parses it.

Must not look up names or read the environment.
"""

import dataclasses
import re
from collections.abc import Sequence
from typing import Self
from urllib.parse import urlsplit

from tandem_contracts.launch import TERMINATION_LOG, Access
from tandem_contracts.options import OptionsParser, arguments_of, flag_of, refusal_of
from tandem_contracts.ports import HTTP_PORT, METRICS_PORT

GATE_MODULE = "tandem_runtime.gateway"
MEBIBYTE = 1024 * 1024
DEFAULT_HOLD_SECONDS = 120
SECONDS_LIMIT = 3600
HELD_LIMIT = 20_000
"""Each has a connection, and another one when it is passed on."""


class InvalidGateOptionsError(ValueError):
    """An option of the gate is unknown, missing or outside its range; the message names flag, value and range."""


@dataclasses.dataclass(frozen=True)
class Upstream:
    """Where pods are looked for: each address of `host` is one."""

    host: str
    port: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class GateOptions:
    """All that a gate is told. Raises InvalidGateOptionsError.

    `upstream`: one or more HOST, HOST:PORT or http://HOST:PORT, separated by commas; the port is HTTP_PORT unless one
    is given. Each address of each host is asked at /health, so a headless Service may publish pods that are not Ready
    yet, and should: the gate then neither waits for the kubelet's next probe nor for a DNS server that remembers that
    the name had no address.
    `hold_seconds`: how long a request may wait for a pod, from its arrival. `most_held`: requests that wait at once.
    `most_held_bytes`: bodies that are kept, until their answers begin. `most_body_bytes`: of one request.
    `retry_after_seconds`: what those are told that are sent away. `leaving_seconds`: how long after SIGTERM new
    requests are taken at most, while no pod answers. `drain_seconds`: how long after that those that are here already
    may still be held and answered. `service`: at which clients find the deployment; once it is to stop, and there is no
    such name any more, what is held is sent away. With `access` ApiKey the key is in the environment, as it is for
    engines. An empty `host` means all interfaces.
    """

    served_name: str
    upstream: str
    hold_seconds: int = DEFAULT_HOLD_SECONDS
    most_held: int = 1000
    most_held_bytes: int = 128 * MEBIBYTE
    most_body_bytes: int = 32 * MEBIBYTE
    retry_after_seconds: int = 10
    leaving_seconds: int = 0
    drain_seconds: int = DEFAULT_HOLD_SECONDS
    service: str = ""
    access: Access = Access.OPEN
    host: str = ""
    http_port: int = HTTP_PORT
    metrics_port: int = METRICS_PORT
    termination_log: str = TERMINATION_LOG

    def __post_init__(self) -> None:
        if not self.served_name:
            raise InvalidGateOptionsError(refusal_of("--served-name", "''", allowed="a text that is not empty"))
        for name, lowest, highest in (
            ("hold_seconds", 1, SECONDS_LIMIT),
            ("leaving_seconds", 0, SECONDS_LIMIT),
            ("drain_seconds", 1, SECONDS_LIMIT),
            ("retry_after_seconds", 1, SECONDS_LIMIT),
            ("most_held", 1, HELD_LIMIT),
            ("most_body_bytes", 1, 1024 * MEBIBYTE),
            ("most_held_bytes", self.most_body_bytes, 1024 * 1024 * MEBIBYTE),
            ("http_port", 1, 65535),
            ("metrics_port", 1, 65535),
        ):
            value = getattr(self, name)
            if not lowest <= value <= highest:
                raise InvalidGateOptionsError(refusal_of(flag_of(name), value, allowed=f"{lowest} to {highest}"))
        if self.service and not _is_host(self.service):
            raise InvalidGateOptionsError(refusal_of("--service", repr(self.service), allowed="a name, or ''"))
        if not self.upstreams:
            raise InvalidGateOptionsError(refusal_of("--upstream", "''", allowed="HOST or HOST:PORT"))

    @property
    def upstreams(self) -> tuple[Upstream, ...]:
        """What `upstream` names. Raises InvalidGateOptionsError."""
        return tuple(_upstream_of(text.strip()) for text in self.upstream.split(",") if text.strip())

    def to_arguments(self) -> list[str]:
        """The arguments after `python -m tandem_runtime.gateway`; what equals its default is left out."""
        return arguments_of(self, dataclasses.fields(self))

    @classmethod
    def parse(cls, arguments: Sequence[str]) -> Self:
        """What `arguments` spell: the inverse of `to_arguments`. Raises InvalidGateOptionsError."""
        parser = OptionsParser(GATE_MODULE, error_type=InvalidGateOptionsError)
        parser.add_fields(dataclasses.fields(cls))
        return cls(**vars(parser.parse_args(arguments)))


_LABEL = re.compile(r"[a-z0-9]([-a-z0-9_]{0,61}[a-z0-9])?")
_IPV6 = re.compile(r"[0-9a-f.]*:[0-9a-f:.]+")


def _upstream_of(text: str) -> Upstream:
    try:
        parts = urlsplit(text if "://" in text else f"//{text}")
        host, port = parts.hostname or "", HTTP_PORT if parts.port is None else parts.port
        is_bare = parts.scheme in {"", "http"} and parts.path in {"", "/"} and not (parts.query or parts.username)
        if is_bare and port and _is_host(host):
            return Upstream(host, port)
    except ValueError:  # a port that is no number, or out of range
        pass
    raise InvalidGateOptionsError(refusal_of("--upstream", repr(text), allowed="HOST, HOST:PORT or http://HOST:PORT"))


def _is_host(text: str) -> bool:
    """Whether it can be looked up at all."""
    labels = text.removesuffix(".").split(".")
    return bool(_IPV6.fullmatch(text)) or (len(text) <= 253 and all(_LABEL.fullmatch(label) for label in labels))
