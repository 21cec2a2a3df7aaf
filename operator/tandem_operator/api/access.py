"""`spec.access`: who may ask the verifiers. Secrets are only named, never read by the operator."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from tandem_operator.api.fields import ApiModel, DnsSubdomain, Labels, Rule, matching

SecretKeyName = Annotated[
    str,
    Field(min_length=1, max_length=253),
    matching(
        "^[a-zA-Z0-9_][a-zA-Z0-9._-]*$",
        "a key: letters, digits, '.', '_' and '-', beginning with neither '.' nor '-'",
    ),
]


class SecretKeyRef(ApiModel):
    """A key of a Secret in the namespace of the LLMDeployment."""

    name: DnsSubdomain
    """Name of the Secret."""
    key: SecretKeyName
    """Key in the Secret whose value is meant."""


class ApiKey(ApiModel):
    """A key that clients must show as `Authorization: Bearer KEY`."""

    secret_key_ref: SecretKeyRef
    """Where the key is. Pods read it when they start: a changed Secret reaches new pods only."""


class Peer(ApiModel):
    """Pods that may connect: those with all `podLabels` in namespaces with all `namespaceLabels`."""

    RULES: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "(has(self.namespaceLabels) && size(self.namespaceLabels) > 0)"
            " || (has(self.podLabels) && size(self.podLabels) > 0)",
            lambda peer: bool(peer.namespace_labels or peer.pod_labels),
            "namespaceLabels or podLabels is required",
        ),
    )

    namespace_labels: Labels = Field(default_factory=dict)
    """Labels of the namespace. Omitted: the namespace of the LLMDeployment."""
    pod_labels: Labels = Field(default_factory=dict)
    """Labels of the pod. Omitted: every pod of the namespace."""


class Access(ApiModel):
    """Who may ask the verifiers."""

    api_key: ApiKey | None = None
    """The key that clients must show. Omitted: none. /health and /metrics answer without it."""
    allowed_from: Annotated[
        tuple[Peer, ...], Field(max_length=16, json_schema_extra={"x-kubernetes-list-type": "atomic"})
    ] = ()
    """Pods that may connect to the verifiers, by a NetworkPolicy. Omitted: all pods of the cluster."""
