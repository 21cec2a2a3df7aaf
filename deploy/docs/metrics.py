"""The page of metrics: of engine pods, Jobs and wake gates by their contract, of the operator as it makes them."""

from __future__ import annotations

import importlib
import pkgutil
import re
from collections.abc import Iterator
from types import SimpleNamespace
from typing import cast

from prometheus_client.metrics import MetricWrapperBase

import tandem_operator
from deploy.docs.markdown import docstrings_in, prose, table
from tandem_contracts import metrics
from tandem_contracts.ports import HTTP_PORT, METRICS_PORT
from tandem_operator.artifact_figures import ArtifactFigures
from tandem_operator.deployment_figures import DeploymentFigures
from tandem_operator.store import Store

GROUPS = {
    "start": (
        "Every engine pod",
        f"Port {METRICS_PORT} of verifier and draft pods.",
        ("tandem_start_", "tandem_engine_", "tandem_memory_"),
    ),
    "drafts": ("Remote drafts, as a verifier sees them", f"Port {METRICS_PORT} of verifier pods.", ("tandem_draft_",)),
    "draft-server": ("A draft server", f"Port {METRICS_PORT} of draft pods.", ("tandem_draft_server_",)),
    "gate": ("The wake gate", f"Port {METRICS_PORT} of its pod, while a deployment is at zero.", ("tandem_gate_",)),
    "jobs": ("Jobs that make models", f"Port {METRICS_PORT} of their pods.", ("tandem_artifact_step_",)),
    "engine": (
        "vLLM's own",
        f"Port {HTTP_PORT} of verifier pods: those that the operator and `tandem top` read.",
        ("vllm:",),
    ),
}
"""By anchor: title, where they are, and how their names begin; the longest beginning counts."""
OPERATOR_PORT = 9090
_CONSTANT = re.compile(r"`([A-Z_]{4,})`")
_KINDS = re.compile(r"^(Gauge|Counter|Histogram)( over [A-Z_]+)?( of the engine itself)?(, always 1)?[:,] ?")


def metrics_page() -> str:
    """The page."""
    told = docstrings_in(metrics)
    named = [(value, told[name]) for name, value in vars(metrics).items() if isinstance(value, str) and name in told]
    parts = [
        "# Metrics\n",
        "For Prometheus. A histogram has the endings `_bucket`, `_sum` and `_count`.\n",
        "## The operator {#operator}\n",
        f"Port {OPERATOR_PORT} of the operator's pod.\n",
        table(("Metric", "Type", "Labels", "What it is"), sorted({*_of_the_operator(), *_of_the_store()})),
    ]
    for anchor, (title, where, _) in GROUPS.items():
        rows = [_row(name, text) for name, text in named if _group_of(name) == anchor]
        parts += [f"## {title} {{#{anchor}}}\n", where + "\n", table(("Metric", "Type", "What it is"), rows)]
    grid = ", ".join(f"{bound:g}" for bound in metrics.LATENCY_GRID)
    parts += ["## Bounds of latencies {#grid}\n", prose(told["LATENCY_GRID"]) + f"\n\n`{grid}`\n"]
    return "\n".join(parts)


def _group_of(name: str) -> str:
    beginnings = {beginning: anchor for anchor, (_, _, each) in GROUPS.items() for beginning in each}
    return beginnings[max((each for each in beginnings if name.startswith(each)), key=len)]


def _row(name: str, told: str) -> tuple[str, ...]:
    kind = _KINDS.match(told)
    if kind is None:
        raise ValueError(
            f"tandem_contracts/metrics.py does not say of {name} whether it is a gauge, counter or histogram"
        )
    text = _CONSTANT.sub(lambda found: f"`{vars(metrics)[found[1]]}`", told[kind.end() :].strip())
    return f"`{name}`", kind[1].lower(), prose(text[0].upper() + text[1:])


def _of_the_operator() -> Iterator[tuple[str, ...]]:
    """Whatever is a metric in one of its modules."""
    for found in pkgutil.walk_packages(tandem_operator.__path__, "tandem_operator."):
        if found.name.endswith("__main__"):
            continue
        for value in vars(importlib.import_module(found.name)).values():
            if isinstance(value, MetricWrapperBase):
                (family,) = value.describe()
                ending = "_total" if family.type == "counter" else ""
                labels = ", ".join(f"`{label}`" for label in value._labelnames)  # noqa: SLF001 -- it has no other word for it
                yield f"`{family.name}{ending}`", family.type, labels, prose(family.documentation)


def _of_the_store() -> Iterator[tuple[str, ...]]:
    """Those that are read from the store when they are asked for."""
    empty = cast("Store", SimpleNamespace(artifacts=tuple, deployments=tuple))
    for family in (*ArtifactFigures(empty).collect(), *DeploymentFigures(empty).collect()):
        labels = ", ".join(f"`{label}`" for label in family._labelnames)  # type: ignore[attr-defined]  # noqa: SLF001
        yield f"`{family.name}`", family.type, labels, prose(family.documentation)
