"""The command line of an engine container: the operator renders it, the launcher parses it.

Must not read the environment or the file system, and must not know what vLLM's flags are called.
"""

import dataclasses
from collections.abc import Sequence
from enum import StrEnum
from typing import Any, Self

from tandem_contracts.draft_access import CERTIFICATES_FOLDER, CREDENTIALS_FOLDER, DraftIdentity
from tandem_contracts.engine_settings import FLAGS, EngineSettings, flags_refused
from tandem_contracts.options import OptionsParser, arguments_of, flag_of, refusal_of
from tandem_contracts.ports import GRPC_PORT, HEALTH_PORT, HTTP_PORT, METRICS_PORT
from tandem_contracts.recipe import DraftScheme
from tandem_contracts.stopping import DEFAULT_DRAIN_SECONDS, DRAIN_LIMIT_SECONDS

LAUNCH_MODULE = "tandem_runtime.launch"
DEPTH_LIMIT = 16
DEFAULT_DRAFT_DEADLINE_SECONDS = 0.1
DRAFT_DEADLINE_LIMIT_SECONDS = 5.0
TERMINATION_LOG = "/dev/termination-log"
ENGINE_FLAG = "--engine-flag"


class Role(StrEnum):
    """Which half of the pair an engine is."""

    VERIFIER = "verifier"
    DRAFT = "draft"


class Speculation(StrEnum):
    """Where a verifier's drafts come from; the values are those of `spec.speculation.method`."""

    REMOTE = "Remote"
    IN_ENGINE = "InEngine"
    NGRAM = "NGram"
    OFF = "Off"


class DraftEngine(StrEnum):
    """What computes the drafts of a draft pod; the values are those of `spec.draft.engine.type`."""

    TRANSFORMERS = "Transformers"
    VLLM = "VLLM"
    TRITON = "Triton"


class InEngineKind(StrEnum):
    """How a verifier that drafts for itself does it; the values are those of `spec.speculation.inEngine.kind`."""

    DRAFT_MODEL = "DraftModel"
    EAGLE3 = "EAGLE3"
    MTP = "MTP"
    SUFFIX = "Suffix"

    @property
    def needs_model(self) -> bool:
        """Whether it has weights of its own, beside the verifier's."""
        return self in {InEngineKind.DRAFT_MODEL, InEngineKind.EAGLE3}


class Access(StrEnum):
    """Who may ask the engine."""

    OPEN = "Open"
    API_KEY = "ApiKey"


API_KEY_VARIABLE = "VLLM_API_KEY"
"""Environment variable with the key of `Access.API_KEY`: never an argument, which every process could read."""


class InvalidLaunchOptionsError(ValueError):
    """A launch option is unknown, missing or outside its range; the message names flag, value and range."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class LaunchOptions:
    """All that a launcher is told. Raises InvalidLaunchOptionsError for values that do not fit together.

    `draft_address` is `host:port`, empty unless drafts are Remote. `max_depth` is 0 when speculation is Off,
    else 1 to DEPTH_LIMIT. `draft_deadline_seconds` is the longest that one step may wait for remote drafts.
    `drain_seconds` is how long requests in flight may go on after SIGTERM. An empty `host` means all interfaces.
    `draft_scheme` is what a draft engine on Transformers makes of the weights while it loads them; None: nothing.
    A verifier serves the OpenAI API on `http_port`, a draft `tandem.draft.v1` on `grpc_port`.
    `draft_identity` is `NAMESPACE/NAME` of the deployment: verifier and draft talk over TLS then, and the verifier
    shows a token (the files in the two folders: `draft_access`). Empty: in plaintext, without a token. With TLS a draft
    answers the kubelet on `health_port`.
    `compile_cache` is a folder with what such an engine compiled before, empty for none: without it an engine compiles
    anew. It need not be there.
    `traces_endpoint` is a URL that a verifier sends a trace of each request to, empty for nowhere. The protocol, and
    whose they are, is in OpenTelemetry's variables.
    """

    role: Role
    model: str
    served_name: str
    tensor_parallel: int = 1
    draft_engine: DraftEngine | None = None
    draft_scheme: DraftScheme | None = None
    speculation: Speculation = Speculation.OFF
    max_depth: int = 0
    in_engine: InEngineKind | None = None
    in_engine_model: str = ""
    compile_cache: str = ""
    draft_address: str = ""
    draft_deadline_seconds: float = DEFAULT_DRAFT_DEADLINE_SECONDS
    draft_identity: str = ""
    certificates_folder: str = CERTIFICATES_FOLDER
    credentials_folder: str = CREDENTIALS_FOLDER
    drain_seconds: int = DEFAULT_DRAIN_SECONDS
    access: Access = Access.OPEN
    traces_endpoint: str = ""
    host: str = ""
    http_port: int = HTTP_PORT
    grpc_port: int = GRPC_PORT
    metrics_port: int = METRICS_PORT
    health_port: int = HEALTH_PORT
    termination_log: str = TERMINATION_LOG
    engine: EngineSettings = dataclasses.field(default_factory=EngineSettings)

    def __post_init__(self) -> None:
        for flag, text in (("--model", self.model), ("--served-name", self.served_name)):
            _require(text != "", flag, "''", "a text that is not empty")
        _require(self.tensor_parallel >= 1, "--tensor-parallel", self.tensor_parallel, "at least 1")
        for name in ("http_port", "grpc_port", "metrics_port", "health_port"):
            _require(1 <= getattr(self, name) <= 65535, flag_of(name), getattr(self, name), "1 to 65535")
        _require(
            0 < self.draft_deadline_seconds <= DRAFT_DEADLINE_LIMIT_SECONDS,
            "--draft-deadline-seconds",
            self.draft_deadline_seconds,
            f"above 0, at most {DRAFT_DEADLINE_LIMIT_SECONDS}",
        )
        allowed = f"1 to {DRAIN_LIMIT_SECONDS}"
        _require(1 <= self.drain_seconds <= DRAIN_LIMIT_SECONDS, "--drain-seconds", self.drain_seconds, allowed)
        self._check_speculation()
        is_traced_draft = self.role is Role.DRAFT and self.traces_endpoint != ""
        _require(not is_traced_draft, "--traces-endpoint", repr(self.traces_endpoint), "left out for a draft")
        for name, value, allowed in self.engine.refused():
            raise InvalidLaunchOptionsError(refusal_of(flag_of(name), value, allowed=allowed))
        for sentence in flags_refused(self.engine.flags):
            raise InvalidLaunchOptionsError(f"{ENGINE_FLAG}: {sentence}")

    def _check_speculation(self) -> None:
        if self.role is Role.DRAFT:
            _require(self.speculation is Speculation.OFF, "--speculation", self.speculation, "Off for a draft")
            allowed = f"one of {', '.join(DraftEngine)} for a draft"
            _require(self.draft_engine is not None, "--draft-engine", "nothing", allowed)
        else:
            _require(self.draft_engine is None, "--draft-engine", self.draft_engine, "left out for a verifier")
        takes_scheme = self.draft_scheme is None or self.draft_engine is DraftEngine.TRANSFORMERS
        allowed = f"left out unless --draft-engine is {DraftEngine.TRANSFORMERS}"
        _require(takes_scheme, "--draft-scheme", self.draft_scheme, allowed)
        if self.speculation is Speculation.OFF:
            _require(self.max_depth == 0, "--max-depth", self.max_depth, "0 with --speculation Off")
        else:
            allowed = f"1 to {DEPTH_LIMIT} with --speculation {self.speculation}"
            _require(1 <= self.max_depth <= DEPTH_LIMIT, "--max-depth", self.max_depth, allowed)
        self._check_in_engine()
        if self.speculation is Speculation.REMOTE:
            host, _, port = self.draft_address.rpartition(":")
            is_address = host != "" and port.isascii() and port.isdecimal() and 1 <= int(port) <= 65535
            _require(is_address, "--draft-address", repr(self.draft_address), "HOST:PORT with --speculation Remote")
        else:
            allowed = "left out unless --speculation is Remote"
            _require(self.draft_address == "", "--draft-address", repr(self.draft_address), allowed)
        self._check_identity()

    def _check_identity(self) -> None:
        if not self.draft_identity:
            return
        flag, shown = "--draft-identity", repr(self.draft_identity)
        talks = self.role is Role.DRAFT or self.speculation is Speculation.REMOTE
        _require(talks, flag, shown, "left out unless --role is draft or --speculation is Remote")
        try:
            DraftIdentity.parse(self.draft_identity)
        except ValueError:
            raise InvalidLaunchOptionsError(refusal_of(flag, shown, allowed="NAMESPACE/NAME")) from None

    def _check_in_engine(self) -> None:
        if self.speculation is Speculation.IN_ENGINE:
            allowed = f"one of {', '.join(InEngineKind)} with --speculation InEngine"
            _require(self.in_engine is not None, "--in-engine", "nothing", allowed)
        else:
            _require(self.in_engine is None, "--in-engine", self.in_engine, "left out unless --speculation is InEngine")
        needs_model = self.in_engine is not None and self.in_engine.needs_model
        allowed = "a path" if needs_model else "left out"
        flag, model = "--in-engine-model", self.in_engine_model
        _require((model != "") is needs_model, flag, repr(model), f"{allowed} with --in-engine {self.in_engine}")

    def to_arguments(self) -> list[str]:
        """The arguments after `python -m tandem_runtime.launch`; what equals its default is left out."""
        arguments: list[str] = []
        for owner in (self, self.engine):
            arguments += arguments_of(owner, _simple_fields(type(owner)))
        flags = self.engine.flags
        return [*arguments, *(f"{ENGINE_FLAG}={name}={flags[name]}" for name in sorted(flags))]

    @classmethod
    def parse(cls, arguments: Sequence[str]) -> Self:
        """What `arguments` spell: the inverse of `to_arguments`. Raises InvalidLaunchOptionsError."""
        parser = OptionsParser(LAUNCH_MODULE, error_type=InvalidLaunchOptionsError)
        for owner in (cls, EngineSettings):
            parser.add_fields(_simple_fields(owner))
        parser.add_argument(ENGINE_FLAG, action="append", type=_engine_flag, default=[])
        given = vars(parser.parse_args(arguments))
        flags = dict(given.pop("engine_flag"))
        settings = {
            field.name: given.pop(field.name) for field in _simple_fields(EngineSettings) if field.name in given
        }
        return cls(**given, engine=EngineSettings(**settings, flags=flags))


def _simple_fields(owner: type[Any]) -> list[dataclasses.Field[Any]]:
    """The fields that one flag spells."""
    return [field for field in dataclasses.fields(owner) if field.name not in {"engine", "flags"}]


def _engine_flag(text: str) -> tuple[str, int | str]:
    name, _, value = text.partition("=")
    return name, FLAGS[name].read(value) if name in FLAGS else value


def _require(fits: bool, flag: str, value: object, allowed: str) -> None:  # noqa: FBT001 - a condition, no switch
    if not fits:
        raise InvalidLaunchOptionsError(refusal_of(flag, value, allowed=allowed))
