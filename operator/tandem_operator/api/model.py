"""`model`: where a model's files are. References have no namespace: everything is in that of the LLMDeployment."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from tandem_contracts.recipe import DraftScheme
from tandem_operator.api.access import SecretKeyRef
from tandem_operator.api.fields import (
    ApiModel,
    DnsLabel,
    DnsSubdomain,
    PinnedImageReference,
    RelativePath,
    Rule,
    matching,
)
from tandem_operator.api.quantization import Quantization, QuantizationMode

HubRepository = Annotated[
    str,
    Field(min_length=1, max_length=200),
    matching(
        "^[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)?$",
        "a repository of the hub, NAME or OWNER/NAME of letters, digits, '.', '_' and '-'",
    ),
]
HubRevision = Annotated[
    str,
    Field(min_length=1, max_length=128),
    matching(
        "^[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)*$",
        "a branch, a tag or a commit: letters, digits, '.', '_', '-' and '/'",
    ),
]


class HuggingFaceSource(ApiModel):
    """A model on the Hugging Face hub, or on a server that speaks as it does. A Job fetches it once."""

    repo: HubRepository
    """Repository, as in meta-llama/Llama-3.1-8B."""
    revision: HubRevision = "main"
    """Branch, tag or commit. A branch or a tag is looked up once: the commit of that time is served from then on."""
    hub: DnsLabel | None = None
    """Another server than the public hub, by its name in the operator's modelHubs."""
    secret_key_ref: SecretKeyRef | None = None
    """Where the token is that may read the repository. Only the Job that fetches sees it."""


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


BucketName = Annotated[
    str,
    Field(min_length=3, max_length=63),
    matching("^[a-z0-9][a-z0-9.-]*[a-z0-9]$", "the name of a bucket: lower-case letters, digits, '.' and '-'"),
]
RegionName = Annotated[
    str,
    Field(min_length=1, max_length=63),
    matching("^[a-z0-9]+(-[a-z0-9]+)*$", "the name of a region: lower-case letters, digits and '-'"),
]


class S3Source(ApiModel):
    """A model in a bucket of Amazon S3, or of a store that speaks as it does. A Job fetches it once."""

    bucket: BucketName
    """The bucket."""
    prefix: RelativePath
    """What the names of the model's objects begin with, as the path of a folder. Relative, without '..'."""
    store: DnsLabel | None = None
    """Another store than Amazon's, by its name in the operator's modelStores."""
    region: RegionName | None = None
    """The bucket's region. Omitted: us-east-1."""
    secret_name: DnsSubdomain | None = None
    """Name of a Secret with AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, maybe AWS_SESSION_TOKEN. Only the Job that
    fetches sees it. Omitted: the bucket is public."""


_KINDS_OF_SOURCE = 4


class ModelSource(ApiModel):
    """Where the model's files are. Exactly one source."""

    RULES: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "[has(self.persistentVolumeClaim), has(self.image), has(self.huggingFace), has(self.s3)]"
            ".filter(it, it).size() == 1",
            lambda source: list(dict(source).values()).count(None) == _KINDS_OF_SOURCE - 1,
            "exactly one source is required: persistentVolumeClaim, image, huggingFace or s3",
        ),
    )

    persistent_volume_claim: PersistentVolumeClaimSource | None = None
    """The model lies on a PersistentVolumeClaim."""
    image: ImageSource | None = None
    """The model lies in an image."""
    hugging_face: HuggingFaceSource | None = None
    """The model is fetched from the Hugging Face hub onto spec.cache.volume."""
    s3: S3Source | None = None
    """The model is fetched from a bucket onto spec.cache.volume."""

    @property
    def is_fetched(self) -> bool:
        """Whether a Job has to bring it before it can be mounted."""
        return self.hugging_face is not None or self.s3 is not None


class Model(ApiModel):
    """A model: its files."""

    source: ModelSource
    """Where the files are."""

    @property
    def needs_cache(self) -> bool:
        """Whether Jobs make files that pods are to mount."""
        return self.source.is_fetched


class RoleModel(Model):
    """A model: its files, and the form in which they are served."""

    quantization: Quantization | None = None
    """Quantizes the model before it is served. Omitted: it is served as it is."""

    @property
    def needs_cache(self) -> bool:
        """Whether Jobs make files that pods are to mount."""
        offline = self.quantization is not None and self.quantization.mode is QuantizationMode.OFFLINE
        return super().needs_cache or offline

    @property
    def draft_scheme(self) -> DraftScheme | None:
        """What bitsandbytes makes of it while a draft server loads it; None: nothing."""
        scheme = self.quantization.scheme if self.quantization else None
        return scheme if isinstance(scheme, DraftScheme) else None
