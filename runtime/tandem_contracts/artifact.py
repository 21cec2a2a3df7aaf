"""What operator and artifact Jobs must agree on: the key of an artifact, and how its Jobs are started."""

import base64
import hashlib
import json
from collections.abc import Mapping
from typing import Any

INSPECT_MODULE = "tandem_runtime.artifacts.inspect"
"""`python -m` this, with `--model=DIR`; the last word is `ModelFacts` or a `TerminationMessage`."""

_KEY_CHARACTERS = 26


def artifact_key(source: Mapping[str, Any]) -> str:
    """Name of the artifact that holds the model at `source` as it is: the same source, the same key, for good.

    `source` is the resource's ModelSource with its defaults, as JSON values. 130 bits of SHA-256 over canonical JSON,
    in lower-case base32 behind the version of this very rule: a DNS label. What else an artifact is made from will be
    further members of the hashed object, left out where it does not apply.
    """
    canonical = json.dumps({"source": source}, sort_keys=True, separators=(",", ":"))
    digest = hashlib.sha256(canonical.encode()).digest()
    return "v1-" + base64.b32encode(digest).decode().lower()[:_KEY_CHARACTERS]


def inspect_arguments(model: str) -> list[str]:
    """The arguments after `python -m INSPECT_MODULE` for the model folder at `model`."""
    return [f"--model={model}"]
