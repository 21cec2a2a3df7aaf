"""`spec.cache`: where models that Jobs have fetched or quantized are kept."""

from __future__ import annotations

from typing import Annotated

from tandem_operator.api.fields import ApiModel, DnsSubdomain, Duration, between, seconds_of


class CacheVolume(ApiModel):
    """A volume that Jobs write to, and that pods mount read-only."""

    claim_name: DnsSubdomain
    """Name of a PersistentVolumeClaim in the namespace of the LLMDeployment. Pods on several nodes need one that may be
    mounted there (ReadWriteMany)."""


class Cache(ApiModel):
    """Where models that Jobs have fetched or quantized are kept, for everybody who asks for the same."""

    volume: CacheVolume
    """The volume."""
    ttl_after_unused: Annotated[Duration, between("0s", "8760h")] | None = None
    """How long a model is kept that nothing refers to any more. Omitted: the operator's artifactTtlSeconds, a week."""

    @property
    def ttl_seconds(self) -> int | None:
        return None if self.ttl_after_unused is None else seconds_of(self.ttl_after_unused)
