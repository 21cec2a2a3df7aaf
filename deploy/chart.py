"""Installs Tandem's chart in a namespace: what the demo and the tests have in common."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from deploy.images.values import values_of as image_values
from deploy.place import Place

CHART = Path(__file__).parents[1] / "charts/tandem"
RELEASE = "tandem"


def values_of(images: Mapping[str, str], *, replicas: int = 1) -> dict[str, Any]:
    """Chart values for images by name (`operator`, `engine-cpu`, maybe `draft-triton`) and a machine that all share."""
    named = image_values(images)
    return {
        **named,
        "replicas": replicas,
        # As much as an engine: with less, engines that take both cores keep it from renewing its lease.
        "resources": {"requests": {"cpu": "250m"}},
        "config": {
            **named["config"],
            # The shipped table asks for a core a share. Here control plane, engines and client share two: a quarter
            # each leaves room for a second revision beside the first. One thread for each engine, since those that
            # wait spin and would take the core that the other engine needs.
            "accelerators": {
                "cpu": {
                    "quantity": "250m",
                    "hostMemory": "2Gi",
                    "environment": {"VLLM_CPU_KVCACHE_SPACE": "1", "OMP_NUM_THREADS": "1"},
                }
            },
        },
    }


def install(place: Place, namespace: str, *, values: Mapping[str, Any], limit_seconds: float = 180.0) -> str:
    """Install or upgrade the chart and wait until its operator is Ready. Raises PlaceError."""
    arguments = ["upgrade", "--install", RELEASE, str(CHART), "--namespace", namespace, "--values", "-"]
    wait = ["--wait", "--timeout", f"{limit_seconds:.0f}s"]
    return place.run_helm(*arguments, *wait, stdin=yaml.safe_dump(dict(values)), limit_seconds=limit_seconds + 30)


def uninstall(place: Place, namespace: str) -> str:
    """Uninstall the chart; CRDs and resources stay. Raises PlaceError."""
    return place.run_helm("uninstall", RELEASE, "--namespace", namespace, "--ignore-not-found", "--wait")
