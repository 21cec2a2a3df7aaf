"""The chart's values that name images. Pure."""

from collections.abc import Mapping
from typing import Any

ENGINE_IMAGES = {
    "engine-cpu": ("cpu",),
    "artifacts": ("cpu-artifacts", "gpu-artifacts"),
    "draft-triton": ("cpu-triton",),
    "engine-gpu": ("gpu",),
}
"""By image: its keys in `config.engineImages`. `draft-lookup` has none: a deployment names it itself."""


def values_of(references: Mapping[str, str]) -> dict[str, Any]:
    """Values for references by image; those of images that are not given stay as the chart has them."""
    values: dict[str, Any] = {}
    if "operator" in references:
        repository, _, tag = references["operator"].rpartition(":")
        values["image"] = {"repository": repository, "tag": tag}
    engines = {key: references[name] for name, keys in ENGINE_IMAGES.items() if name in references for key in keys}
    return {**values, **({"config": {"engineImages": engines}} if engines else {})}
