"""`spec.speculation.tls`: where the certificates of the stream between verifiers and draft pods come from.

A short list of sources instead of any volume. Secrets are only named, for the kubelet to mount.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from tandem_operator.api.fields import ApiModel, DnsSubdomain, Rule, matching

IssuerKind = Annotated[
    str,
    Field(min_length=1, max_length=63),
    matching("^[A-Za-z][A-Za-z0-9]*$", "a kind: letters and digits, beginning with a letter"),
]


class IssuerRef(ApiModel):
    """An issuer of cert-manager, or of one that works for it."""

    name: DnsSubdomain
    """Name of the issuer."""
    kind: IssuerKind | None = None
    """Kind of the issuer: Issuer, in the namespace of the LLMDeployment, or ClusterIssuer. Omitted: Issuer."""
    group: DnsSubdomain | None = None
    """API group of the issuer. Omitted: cert-manager.io."""


class CertManager(ApiModel):
    """Certificates of cert-manager's CSI driver: each pod has one of its own, whose key never leaves the node."""

    issuer_ref: IssuerRef
    """The issuer. It must tell its own certificate (ca.crt), as those of a private authority do."""


class DraftTLS(ApiModel):
    """Certificates of the stream between verifiers and draft pods. Exactly one source."""

    RULES: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "has(self.certManager) != has(self.secretName)",
            lambda tls: (tls.cert_manager is None) != (tls.secret_name is None),
            "exactly one source is required: certManager or secretName",
        ),
    )

    cert_manager: CertManager | None = None
    """cert-manager's CSI driver makes them."""
    secret_name: DnsSubdomain | None = None
    """Name of a Secret of the same namespace with tls.crt, tls.key and ca.crt; tls.crt must be in the DNS name
    NAME-draft.NAMESPACE.svc. Draft pods mount the first two, verifiers only ca.crt."""
