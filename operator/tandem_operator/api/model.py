"""`model`: where a model's files are. References have no namespace: everything is in that of the LLMDeployment."""

from __future__ import annotations

from typing import ClassVar

from tandem_operator.api.fields import ApiModel, DnsSubdomain, PinnedImageReference, RelativePath, Rule


class PersistentVolumeClaimSource(ApiModel):
    """A model folder on a volume of the same namespace, mounted read-only."""

    claim_name: DnsSubdomain
    """Name of the PersistentVolumeClaim, in the namespace of the LLMDeployment."""
    path: RelativePath
    """Folder of the model inside the volume: config.json, tokenizer and safetensors files. Relative, without '..'."""


class ImageSource(ApiModel):
    """A model folder in an OCI image or artifact, mounted read-only as an image volume."""

    reference: PinnedImageReference
    """Image with its digest, registry.example/models/llama@sha256:…; a tag alone could change under running pods.
    The nodes pull it; its files must be readable for every user."""
    path: RelativePath | None = None
    """Folder of the model inside the image. Omitted: the image's root. Relative, without '..'."""


class ModelSource(ApiModel):
    """Where the model's files are. Exactly one source."""

    RULES: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "has(self.persistentVolumeClaim) != has(self.image)",
            lambda source: (source.persistent_volume_claim is None) != (source.image is None),
            "exactly one source is required: persistentVolumeClaim or image",
        ),
    )

    persistent_volume_claim: PersistentVolumeClaimSource | None = None
    """The model lies on a PersistentVolumeClaim."""
    image: ImageSource | None = None
    """The model lies in an image."""


class Model(ApiModel):
    """A model: its files."""

    source: ModelSource
    """Where the files are."""
