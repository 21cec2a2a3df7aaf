"""Where a model's files are, as pods mount them, and what opens a source that has to be fetched first. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from tandem_contracts.artifact_job import (
    ACCESS_KEY_VARIABLE,
    SECRET_KEY_VARIABLE,
    SESSION_TOKEN_VARIABLE,
    TOKEN_VARIABLE,
)
from tandem_operator.api.model import ModelSource


@dataclass(frozen=True)
class Credential:
    """An environment variable of the Job that fetches, from a key of a Secret."""

    variable: str
    secret: str
    key: str
    is_optional: bool = False
    """Whether the key may be missing."""


def credentials_of(source: ModelSource) -> tuple[Credential, ...]:
    """What opens a source; nothing for one that everybody may read."""
    hub, s3 = source.hugging_face, source.s3
    if hub is not None and hub.secret_key_ref is not None:
        return (Credential(TOKEN_VARIABLE, hub.secret_key_ref.name, hub.secret_key_ref.key),)
    if s3 is not None and s3.secret_name is not None:
        keys = (ACCESS_KEY_VARIABLE, SECRET_KEY_VARIABLE, SESSION_TOKEN_VARIABLE)
        return tuple(Credential(key, s3.secret_name, key, key == SESSION_TOKEN_VARIABLE) for key in keys)
    return ()


@dataclass(frozen=True)
class ModelFiles:
    """A folder with a model: in a claim or in an image, one of them empty; an empty path is the image's root."""

    claim_name: str = ""
    image: str = ""
    path: str = ""

    @classmethod
    def of(cls, source: ModelSource) -> ModelFiles | None:
        """Where a source lies; None for one that has to be fetched first."""
        claim, image = source.persistent_volume_claim, source.image
        if claim is not None:
            return cls(claim_name=claim.claim_name, path=claim.path)
        return None if image is None else cls(image=image.reference, path=image.path or "")
