"""What the tests of quantized models have in common: deployments of a model on a hub that wants a token."""

from __future__ import annotations

from typing import Any

from tests.e2e.conftest import Site

READY_LIMIT_SECONDS = 600


def make_deployment(name: str, *, repo: str = "fixtures/verifier", **quantization: Any) -> dict[str, Any]:
    source = {"huggingFace": {"repo": repo, "hub": "demo", "secretKeyRef": {"name": "hub", "key": "token"}}}
    return {
        "apiVersion": "tandem.dev/v1alpha1",
        "kind": "LLMDeployment",
        "metadata": {"name": name},
        "spec": {
            "verifier": {
                "model": {"source": source, "quantization": quantization},
                "accelerator": {"classes": ["cpu"], "count": 1},
            },
            "cache": {"volume": {"claimName": "cache"}, "ttlAfterUnused": "1h"},
        },
    }


def conditions_of(site: Site, name: str) -> dict[str, dict[str, Any]]:
    status = site.get("llm", name).get("status") or {}
    return {c["type"]: c for c in status.get("conditions") or []}


def artifacts_of(site: Site) -> dict[str, dict[str, Any]]:
    """By their form; the model as it is has none."""
    return {item["status"].get("scheme", ""): item for item in site.get("ma")["items"] if item.get("status")}
