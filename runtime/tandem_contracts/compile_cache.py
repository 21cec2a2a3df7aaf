"""Where on a volume of artifacts an engine's compile cache lies, beside the weights. Pure.

    <root>/.compiled/<artifact>.<target>.<namespace>/

A cache is code that engines run, so it is never shared between namespaces, also where their weights are.
"""

from __future__ import annotations

FOLDER = ".compiled"


def compile_cache_name(artifact: str, target: str, namespace: str) -> str:
    """`target`: the smoke test's, so one of image, settings and hardware."""
    return f"{artifact}.{target}.{namespace}"


def is_of(name: str, artifact: str) -> bool:
    """Whether a cache is one of this artifact's."""
    return name.startswith(f"{artifact}.")
