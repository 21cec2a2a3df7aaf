"""Where a model's files are, as pods mount them. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from tandem_operator.api.model import ModelSource


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
