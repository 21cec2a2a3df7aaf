"""A deployment of a model that is published already: how long the operator takes, and how many Jobs it makes.

On the local cluster, with pods that serve. The operator's time is all but that of its pods: from `kubectl apply` until
the pods' Deployment is there, and from the moment that the pod is Ready until the deployment says so.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from deploy.fixtures.pair import model_pair
from deploy.local.cluster import Cluster
from tests.audit import writes_of
from tests.e2e.conftest import Site, quantizing_site
from tests.e2e.quantizing import READY_LIMIT_SECONDS, conditions_of, make_deployment

RUNS = 3
FIRST = "made"


@dataclass(frozen=True)
class Hit:
    """Of one deployment."""

    jobs: int
    until_pods_seconds: float
    until_ready_seconds: float
    whole_seconds: float
    """With the start of its pod."""

    @property
    def operator_seconds(self) -> float:
        return self.until_pods_seconds + self.until_ready_seconds


def warm_hits() -> list[Hit]:
    """Have Jobs make a model, and then deploy it again and again. The cluster must be up."""
    cluster = Cluster()
    cache = cluster.layout.state / "volumes" / secrets.token_hex(4)
    with quantizing_site(cluster, model_pair(), cache) as site:
        _apply_and_wait(site, FIRST)
        return [_hit(site, f"hit-{number}") for number in range(RUNS)]


def _hit(site: Site, name: str) -> Hit:
    jobs, log = _jobs(site), site.cluster.layout.audit_log.stat().st_size
    begun = time.time()
    _apply_and_wait(site, name)
    made = _when_made(site, log, "deployments", f"{name}-verifier-")
    ready = _when_ready(site, log, name)
    (pod,) = site.get("pods", "-l", f"tandem.dev/deployment={name}")["items"]
    conditions = {c["type"]: c for c in pod["status"]["conditions"]}
    # Of whole seconds, cut off: an operator that is quicker than the rest of one took none.
    pod_ready = datetime.fromisoformat(conditions["Ready"]["lastTransitionTime"]).timestamp()
    hit = Hit(_jobs(site) - jobs, made - begun, max(0.0, ready - pod_ready), ready - begun)
    site.run("delete", f"llm/{name}", "--wait=true", limit_seconds=120)
    return hit


def _apply_and_wait(site: Site, name: str) -> None:
    site.apply(make_deployment(name, scheme="W8A8"))
    site.wait_until(
        lambda: conditions_of(site, name).get("Ready", {}).get("status") == "True",
        f"{name} is served",
        limit_seconds=READY_LIMIT_SECONDS,
    )


def _jobs(site: Site) -> int:
    return len(site.get("jobs")["items"])


def _when_made(site: Site, log: int, resource: str, prefix: str) -> float:
    """When the operator made the first such object, by the API server's audit log."""
    for event in writes_of(site.cluster, site.namespace, begin=log):
        about = event["objectRef"]
        is_it = about["resource"] == resource and about["name"].startswith(prefix)
        if is_it and event["responseStatus"]["code"] == 201:
            return _time_of(event)
    raise LookupError(f"nobody has made {resource} {prefix}*")


def _when_ready(site: Site, log: int, name: str) -> float:
    """When the operator said so: its last write of the status until now."""
    written = [
        _time_of(event)
        for event in writes_of(site.cluster, site.namespace, begin=log)
        if (event["objectRef"]["resource"], event["objectRef"]["name"]) == ("llmdeployments", name)
    ]
    return written[-1]


def _time_of(event: Mapping[str, Any]) -> float:
    return datetime.fromisoformat(event["stageTimestamp"]).timestamp()
