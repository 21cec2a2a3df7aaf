"""What operator and artifact Jobs must agree on: the key of an artifact, and how its Jobs are started."""

import base64
import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any

INSPECT_MODULE = "tandem_runtime.artifacts.inspect"
"""`python -m` this, with `--model=DIR`; the last word is `ModelFacts` or a `TerminationMessage`."""

_KEY_CHARACTERS = 26
_KEY = re.compile(f"v1-[a-z2-7]{{{_KEY_CHARACTERS}}}")


def artifact_key(
    source: Mapping[str, Any],
    *,
    volume: str = "",
    recipe: Mapping[str, Any] | None = None,
    calibration: Mapping[str, Any] | None = None,
    toolchain: Mapping[str, str] | None = None,
    tenant: str = "",
) -> str:
    """Name of an artifact, by all that it is made from: the same inputs, the same key, for good.

    `source` is the resource's ModelSource with its defaults, as JSON values, without what only opens it. `volume`: the
    claim that it is published on. `tenant`: the namespace, where nobody else may use the files. 130 bits of SHA-256
    over canonical JSON, in lower-case base32 behind the version of this very rule: a DNS label. What does not apply is
    left out of what is hashed, so that a model as it lies has the same key as before there was anything else.
    """
    further = {
        "volume": volume,
        "recipe": recipe,
        "calibration": calibration,
        "toolchain": toolchain,
        "tenant": tenant,
    }
    hashed = {"source": source, **{name: value for name, value in further.items() if value}}
    digest = hashlib.sha256(json.dumps(hashed, sort_keys=True, separators=(",", ":")).encode()).digest()
    return "v1-" + base64.b32encode(digest).decode().lower()[:_KEY_CHARACTERS]


def is_artifact_key(name: str) -> bool:
    """Whether a name is that of an artifact."""
    return _KEY.fullmatch(name) is not None


def inspect_arguments(model: str) -> list[str]:
    """The arguments after `python -m INSPECT_MODULE` for the model folder at `model`."""
    return [f"--model={model}"]
