"""The operator's own configuration: what its administrator decides, never a user of the resource. Pure.

One source, one file: the chart renders it as YAML. There are no environment variables that win over it.
"""

from __future__ import annotations

import re
from enum import StrEnum
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, field_validator, model_validator
from pydantic.alias_generators import to_camel

from tandem_contracts.launch import Speculation
from tandem_contracts.recipe import AnyScheme
from tandem_operator.api.faults import faults_of
from tandem_operator.api.fields import DnsLabel, DnsSubdomain, matching
from tandem_operator.yaml_files import UnreadableFileError, documents_in


class Capacity(StrEnum):
    """How nodes of a class are rented."""

    ON_DEMAND = "OnDemand"
    """On nodes that are not spot."""
    SPOT = "Spot"
    """On spot nodes only, which their provider may take away."""
    ANY = "Any"


class Allocation(StrEnum):
    """How a pod gets its accelerators."""

    DEVICE_PLUGIN = "DevicePlugin"
    """By an extended resource."""
    RESOURCE_CLAIM = "ResourceClaim"
    """By dynamic resource allocation: a ResourceClaim for devices of a DeviceClass."""


def _as_list(value: Any) -> Any:
    return value if isinstance(value, list | tuple | dict) else (value,)


_PART = "[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?"
_DOMAIN = "[a-z0-9]([-a-z0-9.]*[a-z0-9])?"
_NAME = "letters, digits, '-', '_' and '.', with a letter or digit at both ends"
_HOST = r"https?://[^\s@?#]+"
ClassName = Annotated[
    str,
    Field(max_length=63),
    matching("^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", "a class's name: lower-case letters, digits and '-' inside"),
]
LabelKey = Annotated[
    str,
    Field(max_length=317),
    matching(rf"^({_DOMAIN}/)?{_PART}$", f"the key of a label: {_NAME}, with a DNS name and '/' in front or not"),
]
LabelValue = Annotated[
    str, Field(max_length=63), matching(rf"^({_PART})?$", f"the value of a label: {_NAME}, or nothing")
]
ResourceName = Annotated[
    str,
    Field(max_length=317),
    matching(rf"^(cpu|{_DOMAIN}/{_PART})$", "cpu, or an extended resource such as nvidia.com/gpu"),
]
_ADDRESS = "an address, http://HOST:PORT or https://HOST:PORT"
Address = Annotated[
    str,
    Field(max_length=512),
    matching(rf"^{_HOST}$", f"{_ADDRESS}, without credentials, query or blanks"),
]
Figure = Annotated[float, Field(ge=0, allow_inf_nan=False)]
OneOrMore = Annotated[tuple[LabelValue, ...], BeforeValidator(_as_list), Field(min_length=1)]


class AcceleratorOverride(BaseModel):
    """What an administrator changes in one line of the accelerator table, or a line of their own (all fields)."""

    model_config = ConfigDict(frozen=True, alias_generator=to_camel, populate_by_name=True, extra="forbid")

    vendor: str | None = None
    """Who makes it; only shown."""
    resource: ResourceName | None = None
    """Extended resource that a pod asks for, `nvidia.com/gpu`, or `cpu`."""
    quantity: str | None = None
    """How much of the resource one `count` asks for; a whole number except for cpu."""
    max_count: Annotated[int, Field(ge=1, le=16)] | None = None
    """Most of them that one replica can use together."""
    host_memory: str | None = None
    """Memory request of one `count`."""
    memory_gib: Figure | None = None
    """Memory of one accelerator in GiB; 0: not known."""
    bandwidth_gb_per_second: Annotated[Figure | None, Field(alias="bandwidthGBPerSecond")] = None
    """Bandwidth of that memory."""
    teraflops: Figure | None = None
    """Dense bf16 compute."""
    price_per_hour: (
        Annotated[str, matching("^([0-9]{1,6}([.][0-9]{1,6})?)?$", "a number such as 3.5, or nothing")] | None
    ) = None
    """US dollars, as a text; empty: not known."""
    node_labels: dict[LabelKey, OneOrMore] | None = None
    """Labels of the nodes that have it: a value, or a list of which any will do."""
    tolerated_taints: tuple[LabelKey, ...] | None = None
    """Keys of the taints that such nodes carry."""
    capacity: Capacity | None = None
    """OnDemand, Spot or Any. OnDemand adds a class NAME-spot."""
    allocation: Allocation | None = None
    """DevicePlugin or ResourceClaim."""
    device_class: (
        Annotated[
            str, Field(max_length=253), matching(rf"^({_DOMAIN})?$", "a DNS name such as gpu.nvidia.com, or nothing")
        ]
        | None
    ) = None
    """DeviceClass; for allocation ResourceClaim."""
    device_selectors: (
        Annotated[tuple[Annotated[str, Field(min_length=1, max_length=10240)], ...], Field(max_length=32)] | None
    ) = None
    """CEL expressions over attributes and capacity of a device, all of which must hold; for ResourceClaim."""
    engine_image: str | None = None
    """Key of `engineImages`."""
    environment: dict[str, str] | None = None
    """Environment variables of the engine on this hardware."""
    methods: tuple[Speculation, ...] | None = None
    """Speculation methods that a verifier on this hardware can run."""
    methods_note: str | None = None
    """Why not the others, shown to a user who asks for one."""
    schemes: tuple[AnyScheme, ...] | None = None
    """For which quantized weights the engine has a kernel on this hardware, the preferred one first."""
    scheme_notes: dict[AnyScheme, str] | None = None
    """Why not for the others, shown to a user who asks for one."""


class Scope(StrEnum):
    """Whose deployments an operator serves."""

    NAMESPACE = "Namespace"
    """Those of its own namespace."""
    CLUSTER = "Cluster"
    """Those of every namespace, but for the ones that an operator of their own leads."""


class InvalidConfigError(ValueError):
    """The administrator's configuration is wrong; the message names key, value and what is allowed."""


class PrometheusConfig(BaseModel):
    """Where Prometheus answers queries, and what the operator shows it. Files, so that they can be rotated."""

    model_config = ConfigDict(frozen=True, alias_generator=to_camel, populate_by_name=True, extra="forbid")

    address: Annotated[
        str,
        Field(max_length=512),
        matching(
            rf"^({_HOST}[^\s@?#/])?$",
            f"{_ADDRESS}, without '/' at its end, credentials or query, or nothing",
        ),
    ] = ""
    """Such as http://prometheus.monitoring:9090, without a path of the API. Empty: scaling reads all engines' pages at
    their pods, every 5 seconds."""
    above_pods: Annotated[int, Field(ge=0)] = 1000
    """Deployments whose verifiers would be more than so many that are read at their pods, in all, are read from
    Prometheus, every 15 seconds. 0: all are."""
    bearer_token_file: Path | None = None
    """File with a token, read at each query."""
    ca_file: Path | None = None
    """File with the authorities that may have signed its certificate; omitted: the system's."""
    certificate_file: Path | None = None
    """The operator's own certificate, with its keyFile."""
    key_file: Path | None = None
    """The key of certificateFile."""
    timeout_seconds: Annotated[float, Field(gt=0, le=30)] = 5.0
    """Limit of one query."""

    @model_validator(mode="after")
    def _has_both_or_none(self) -> Self:
        if (self.certificate_file is None) != (self.key_file is None):
            raise ValueError("certificateFile and keyFile go together")
        return self


class TracesProtocol(StrEnum):
    """How traces are sent; OpenTelemetry's words."""

    GRPC = "grpc"
    """In plaintext: vLLM knows no other way."""
    HTTP = "http/protobuf"
    """By HTTP, or HTTPS with the authorities of the engine's image."""


class TracesConfig(BaseModel):
    """Where the verifiers' engines send a trace of each request. Pods that run keep what they were made with, until
    `tandem refresh` rolls them.
    """

    model_config = ConfigDict(frozen=True, alias_generator=to_camel, populate_by_name=True, extra="forbid")

    endpoint: Annotated[
        str,
        Field(max_length=512),
        matching(
            r"^(https?://[^\s@?#,]+[^\s@?#,/])?$",
            f"{_ADDRESS}, without '/' at its end, credentials or query, or nothing",
        ),
    ] = ""
    """An OTLP receiver, such as http://collector.monitoring:4317. Empty: no traces."""
    protocol: TracesProtocol = TracesProtocol.GRPC
    """Of that receiver. With http/protobuf an endpoint without a path gets /v1/traces."""
    namespaces: tuple[DnsLabel, ...] = ()
    """Namespaces that verifiers may send to: that of the collector. Empty: a NetworkPolicy of your own allows it."""

    @model_validator(mode="after")
    def _is_plaintext_by_grpc(self) -> Self:
        _, _, place = self.endpoint.partition("://")
        if self.protocol is TracesProtocol.GRPC and (self.endpoint.startswith("https:") or "/" in place):
            raise ValueError(
                f"endpoint (is {self.endpoint}): must be http://HOST:PORT with protocol grpc, which vLLM speaks in "
                "plaintext; http/protobuf takes https and a path"
            )
        return self

    @property
    def url(self) -> str:
        """As an engine is told; empty: no traces."""
        _, _, place = self.endpoint.partition("://")
        has_path = self.protocol is TracesProtocol.GRPC or not place or "/" in place
        return self.endpoint if has_path else f"{self.endpoint}/v1/traces"


class GateConfig(BaseModel):
    """What the pods of wake gates are made of: the chart gives them the operator's own image."""

    model_config = ConfigDict(frozen=True, alias_generator=to_camel, populate_by_name=True, extra="forbid")

    image: Annotated[str, Field(min_length=1, max_length=512)] = "tandem.local/operator:0.1.0"
    """With `tandem_runtime.gateway`."""
    pull_secrets: tuple[DnsSubdomain, ...] = ()
    """Names of Secrets in the deployment's namespace that pull it."""


class OperatorConfig(BaseModel):
    """Configuration of one operator process."""

    model_config = ConfigDict(frozen=True, alias_generator=to_camel, populate_by_name=True, extra="forbid")

    engine_images: dict[str, str] = {
        "cpu": "tandem.local/engine-cpu:0.1.0",
        "cpu-artifacts": "tandem.local/artifacts:0.1.0",
        "cpu-triton": "tandem.local/draft-triton:0.1.0",
        "gpu": "tandem.local/engine-gpu:0.1.0",
        "gpu-artifacts": "tandem.local/artifacts:0.1.0",
    }
    """Engine images by key; the accelerator table names the key, and an engine with an image of its own ends it, as do
    the Jobs that fetch and quantize models (-artifacts)."""
    gate: GateConfig = GateConfig()
    """Of deployments that go to zero while nobody asks."""
    engine_image_allow_list: tuple[str, ...] = ()
    """Regular expressions; an image that a user names must match one of them whole. Empty: none may be named."""
    accelerators: dict[ClassName, AcceleratorOverride] = {}
    """Overrides and additions to the accelerator table, by class name."""
    spot_node_labels: dict[LabelKey, LabelValue] = {
        "cloud.google.com/gke-spot": "true",
        "eks.amazonaws.com/capacityType": "SPOT",
        "karpenter.sh/capacity-type": "spot",
        "kubernetes.azure.com/scalesetpriority": "spot",
    }
    """Labels by which spot nodes are known, one a provider. GKE and AKS can taint them with the same key and value."""
    scope: Scope = Scope.NAMESPACE
    """Whose deployments it serves. Cluster needs the rights to do so, by a ClusterRole, and operatorNamespace."""
    operator_namespace: DnsLabel | Literal[""] = ""
    """Of scope Cluster: where the operator runs, which reads the metrics of pods in every namespace."""
    engine_pull_secrets: tuple[DnsSubdomain, ...] = ()
    """Names of Secrets in the deployment's namespace that pull engine images. The operator names them, never reads."""
    prometheus_namespaces: tuple[DnsLabel, ...] = ()
    """Namespaces whose pods may read the metrics of engine pods, besides the operator itself."""
    scrape_annotations: bool = False
    """Whether pods get the annotations prometheus.io/scrape, scheme, port and path, which name one port of each: 8000
    of verifiers, 8001 of all others. Pods that run keep what they were made with, until `tandem refresh` rolls them."""
    artifact_ttl_seconds: Annotated[float, Field(ge=0)] = 604800.0
    """A ModelArtifact that nothing has referred to for this long is deleted, with its files: a week."""
    model_hubs: dict[DnsLabel, Address] = {}
    """Addresses of servers that speak as the Hugging Face hub does, by the name that users give them."""
    model_stores: dict[DnsLabel, Address] = {}
    """Addresses of stores that speak as Amazon S3 does, by the name that users give them."""
    cache_high_percent: Annotated[int, Field(ge=1, le=100)] = 80
    """When more than this of a volume is used, artifacts that nothing refers to go, the longest unused first."""
    cache_low_percent: Annotated[int, Field(ge=0, le=100)] = 70
    """They go until no more than this is used."""
    share_artifacts: bool = False
    """Whether namespaces whose claims lead to the same storage use the same files. Who may read a claim may then use a
    model that somebody else had the token for. Never what is made from a claim or a ConfigMap, which are a namespace's
    own."""
    prometheus: PrometheusConfig = PrometheusConfig()
    """Where scaling reads the engines' metrics of more pods than the operator should read itself."""
    traces: TracesConfig = TracesConfig()
    """OpenTelemetry's, of verifiers."""
    resync_seconds: Annotated[float, Field(gt=0)] = 60.0
    """Every deployment is looked at again after this long, whatever was heard of it."""
    request_timeout_seconds: Annotated[float, Field(gt=0)] = 8.0
    """Limit of one request to the API server; shorter than the lease's renew deadline."""
    lease_seconds: Annotated[int, Field(ge=5, le=300)] = 15
    """How long a lease lasts that nobody renews; another operator takes over after it."""

    @classmethod
    def load(cls, path: Path | None) -> Self:
        """Read the YAML file at `path` (None: defaults).

        Raises InvalidConfigError, also for a file that cannot be read.
        """
        try:
            documents = documents_in(path) if path else []
            if len(documents) > 1:
                raise InvalidConfigError(f"holds {len(documents)} documents, must be one")
            written = documents[0] if documents else None
            return cls.model_validate({} if written is None else written)
        except ValidationError as error:
            raise InvalidConfigError("; ".join(map(str, faults_of(error, cls)))) from error
        except UnreadableFileError as error:
            raise InvalidConfigError(str(error)) from error

    @field_validator("engine_image_allow_list")
    @classmethod
    def _compiles(cls, patterns: tuple[str, ...]) -> tuple[str, ...]:
        for pattern in patterns:
            try:
                re.compile(pattern)
            except re.error as error:
                raise ValueError(f"{pattern!r} is not a regular expression: {error}") from error
        return patterns

    @model_validator(mode="after")
    def _knows_its_own_namespace(self) -> Self:
        if (self.scope is Scope.CLUSTER) != bool(self.operator_namespace):
            raise ValueError(
                f"operatorNamespace (is {self.operator_namespace!r}): must be the operator's own namespace with scope "
                f"{Scope.CLUSTER}, and empty with scope {Scope.NAMESPACE}"
            )
        return self

    @model_validator(mode="after")
    def _requests_end_before_the_lease(self) -> Self:
        limit = self.lease_seconds * 2 / 3
        if self.request_timeout_seconds >= limit:
            raise ValueError(
                f"requestTimeoutSeconds (is {self.request_timeout_seconds:g}): must be below two thirds of "
                f"leaseSeconds, {limit:g}, the time after which an operator that could not renew its lease gives up"
            )
        return self

    @model_validator(mode="after")
    def _marks_are_in_their_order(self) -> Self:
        if self.cache_low_percent > self.cache_high_percent:
            raise ValueError(
                f"cacheLowPercent (is {self.cache_low_percent}): must not be above cacheHighPercent, "
                f"{self.cache_high_percent}"
            )
        return self

    @cached_property
    def _allowed_images(self) -> tuple[re.Pattern[str], ...]:
        return tuple(re.compile(pattern) for pattern in self.engine_image_allow_list)

    def serves_from_elsewhere(self, namespace: str) -> bool:
        """Whether a namespace that is served is not the operator's own, for which the chart has what it needs."""
        return self.scope is Scope.CLUSTER and namespace != self.operator_namespace

    def allows_engine_image(self, reference: str) -> bool:
        """Whether a user may name this image."""
        return any(pattern.fullmatch(reference) for pattern in self._allowed_images)
