"""One case: a namespace of its own, an operator behind the fault proxy, and a monitor that watches past it.

All waits end by what has happened (resyncs that the proxy counted, objects that are there), never by a tight time;
the limit of a case is only there so that a bug ends it.
"""

from __future__ import annotations

import secrets
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from deploy import chart, model_volume
from deploy.local.cluster import Cluster
from deploy.local.processes import wait_until
from deploy.place import Place
from tandem_operator import names
from tandem_operator.api.crd import crd_schema
from tandem_operator.cluster import CHILD_KINDS, WATCHED
from tests import audit
from tests.audit import ACCOUNT
from tests.cluster.world import Operator, World, sample
from tests.faults.api import APPLY, Api, Manifest, Watch, kind_of
from tests.faults.oracles import (
    Reference,
    Seen,
    Snapshot,
    Summary,
    snapshot_of,
    summary_of,
    unexpected_writes,
    violations,
)
from tests.faults.proxy import Proxy

NAME = "llama-70b"
PLACEHOLDER = "namespace-of-the-case"
POLL_SECONDS = 0.1
LIMIT_SECONDS = 240.0
QUIET_RESYNCS = 3
CONFIG: dict[str, Any] = {"resyncSeconds": 1}
"""Resyncs are what time is counted in here. A case that is about them sets its own."""


class CaseError(AssertionError):
    """An oracle was not met; the message has what was seen and where the logs are."""


class Monitor:
    """Watches pods and Services of a namespace by itself, and keeps every event."""

    def __init__(self, api: Api, namespace: str) -> None:
        self._events: list[Seen] = []
        self._watches: list[Watch] = []
        self._threads: list[threading.Thread] = []
        for kind in ("Pod", "Service"):
            version = api.listing(kind, namespace)["metadata"]["resourceVersion"]
            watch = api.watch(kind, namespace, version=version)
            self._watches.append(watch)
            self._threads.append(threading.Thread(target=self._read, args=(kind, watch), daemon=True))
            self._threads[-1].start()

    def _read(self, kind: str, watch: Watch) -> None:
        for event in watch:
            manifest = event["object"]
            if event["type"] in {"ADDED", "MODIFIED", "DELETED"}:
                version = int(manifest["metadata"]["resourceVersion"])
                self._events.append(Seen(version, kind, manifest, event["type"] == "DELETED"))

    def seen(self) -> list[Seen]:
        return list(self._events)

    def close(self) -> None:
        for watch in self._watches:
            watch.close()
        for thread, watch in zip(self._threads, self._watches, strict=True):
            thread.join(timeout=10)
            watch.release()


@dataclass
class Case:
    """What a test has in hand."""

    world: World
    api: Api
    proxy: Proxy
    monitor: Monitor
    config: dict[str, Any] = field(default_factory=lambda: dict(CONFIG))
    _begun: int = 0
    """Where the audit log stood when the case began."""
    _started: int = 0
    _since: int = 0
    """Where the proxy's record stood when the newest operator was started."""

    @property
    def namespace(self) -> str:
        return self.world.namespace

    @property
    def operator(self) -> Operator:
        """The newest operator process."""
        return self.world.operators[-1]

    # -- the operator --------------------------------------------------------------------------------------------

    def start(self, **config: Any) -> Operator:
        """Start an operator behind the proxy."""
        self._started += 1
        self._since = len(self.proxy.record)
        return self.world.operator(f"operator-{self._started}", **{**self.config, **config}).start()

    def kill(self) -> None:
        """SIGKILL the newest operator; for the proxy's rules. `restart` goes on from there."""
        self.operator.send(signal.SIGKILL)

    def uninstall(self) -> None:
        """Take away what the chart brought for the operator."""
        for kind in ("RoleBinding", "Role", "ServiceAccount"):
            self.api.delete(kind, self.namespace, ACCOUNT)

    def restart(self, **config: Any) -> Operator:
        """Another operator in place of one that was killed or ended.

        The lease of a killed one would run out by itself, which tests/cluster/test_leadership.py shows; here it is
        taken away, so that each of many cases need not wait for it.
        """
        self.operator.end(signal.SIGKILL)
        self.api.delete("Lease", self.namespace, names.LEASE)
        return self.start(**config)

    # -- what a user does ----------------------------------------------------------------------------------------

    def apply(self, manifest: Manifest | None = None) -> None:
        self.api.apply(self.namespace, manifest or deployment())

    def change(self, spec: Manifest) -> None:
        """Merge into the spec."""
        self.api.merge(names.KIND, self.namespace, NAME, {"spec": spec})

    def delete(self, *, propagation: str = "Background") -> None:
        self.api.delete(names.KIND, self.namespace, NAME, propagation=propagation)

    # -- looking -------------------------------------------------------------------------------------------------

    def resource(self) -> Manifest | None:
        return self.api.find(names.KIND, self.namespace, NAME)

    def condition(self, kind: str) -> Manifest:
        """A condition of the newest generation; empty when there is none."""
        resource = self.resource() or {"metadata": {}}
        for condition in resource.get("status", {}).get("conditions") or []:
            is_current = condition.get("observedGeneration") == resource["metadata"].get("generation")
            if condition["type"] == kind and is_current:
                found: Manifest = condition
                return found
        return {}

    def says(self, kind: str, status: str = "True", reason: str = "") -> bool:
        condition = self.condition(kind)
        return condition.get("status") == status and reason in {"", condition.get("reason")}

    def children(self) -> list[Manifest]:
        """Everything that the operator has made, of every kind that it owns."""
        return [child for kind in CHILD_KINDS for child in self.api.items(kind, self.namespace, names.MANAGED_SELECTOR)]

    def shared(self) -> list[Manifest]:
        """ModelArtifacts and the Jobs that look into their models: the namespace's, and no deployment's own."""
        return [made for kind in (names.ARTIFACT_KIND, "Job") for made in self.api.items(kind, self.namespace)]

    def has_inspected(self) -> bool:
        """Whether every model that was asked for has been looked into; that is the last thing to happen."""
        artifacts = self.api.items(names.ARTIFACT_KIND, self.namespace)
        known = [(artifact.get("status") or {}).get("model") for artifact in artifacts]
        return bool(known) and all(known)

    def pods(self, selector: str = names.LABEL_DEPLOYMENT) -> list[Manifest]:
        return self.api.items("Pod", self.namespace, selector)

    def snapshot(self) -> Snapshot:
        read = self.resource(), self.children(), self.pods()
        return snapshot_of(*read, namespace=self.namespace, shared=self.shared())

    def summary(self) -> Summary:
        """The operator's writes since the case began."""
        return summary_of(audit.writes_of(self.world.cluster, self.namespace, begin=self._begun))

    def writes(self) -> int:
        """How many writes the operator has sent, the lease's aside."""
        return sum(exchange.request.is_write for exchange in self.proxy.record)

    def quiet_resyncs(self, since: int) -> int:
        """Resyncs of the newest operator since its last write, and since a place in the proxy's record."""
        count = 0
        for exchange in reversed(self.proxy.record[max(self._since, since) :]):
            if exchange.request.is_write:
                break
            count += exchange.request.is_resync and exchange.request.resource == names.PLURAL
        return count

    def has_read_everything(self) -> bool:
        """Whether the newest operator has listed every kind that it watches: kopf for its watch, and the store for its
        beginning.
        """
        record = self.proxy.record[self._since :]
        listed = Counter(e.request.resource for e in record if e.request.verb == "list" and e.told == 200)
        return all(listed[kind_of(kind).plural] >= 2 for kind in WATCHED)

    # -- waiting -------------------------------------------------------------------------------------------------

    def wait(self, condition: Callable[[], bool], what: str, *, limit_seconds: float = LIMIT_SECONDS) -> None:
        """Wait until something holds. Raises CaseError with what the operator logged."""
        deadline = time.monotonic() + limit_seconds
        while not condition():
            if time.monotonic() > deadline:
                raise CaseError(f"waited {limit_seconds:.0f} s for {what}\n{self._told()}")
            time.sleep(POLL_SECONDS)

    def wait_for(self, kind: str, status: str = "True", reason: str = "") -> Manifest:
        """Wait for a condition of the newest generation; returns it."""
        self.wait(lambda: self.says(kind, status, reason), f"{kind}={status} {reason}; is {self.condition(kind)}")
        return self.condition(kind)

    def wait_resyncs(self, count: int) -> None:
        """Wait until so many more resyncs have begun."""

        def resyncs() -> int:
            record = list(self.proxy.record)
            return sum(e.request.is_resync and e.request.resource == names.PLURAL for e in record)

        wanted = resyncs() + count
        self.wait(lambda: resyncs() >= wanted, f"{count} resyncs")

    def settle(self, is_done: Callable[[], bool] | None = None, *, limit_seconds: float = LIMIT_SECONDS) -> None:
        """Wait until the newest spec is served, and then nothing was written through several resyncs.

        They begin from now on: what has just been done to the cluster may not have reached the operator yet.
        """
        done = is_done or (lambda: self.says("Ready"))
        begun = len(self.proxy.record)
        self.wait(
            lambda: self.quiet_resyncs(begun) >= QUIET_RESYNCS and done(),
            f"quiet and done; Ready is {self.condition('Ready')}",
            limit_seconds=limit_seconds,
        )

    # -- judging -------------------------------------------------------------------------------------------------

    def matches(self, reference: Reference, *, limit_seconds: float = LIMIT_SECONDS) -> None:
        """Wait until the end state is the reference's, and stays it. Raises CaseError with the differences."""
        deadline, begun = time.monotonic() + limit_seconds, len(self.proxy.record)
        while self.quiet_resyncs(begun) < QUIET_RESYNCS or reference.differences(self.snapshot()):
            if time.monotonic() > deadline:
                differences = "\n".join(reference.differences(self.snapshot())[:20])
                quiet = self.quiet_resyncs(begun)
                raise CaseError(f"{quiet} resyncs without a write; other end state:\n{differences}\n{self._told()}")
            time.sleep(POLL_SECONDS)

    def wrote_as(self, reference: Reference, *, interruptions: int = 1) -> None:
        """Raises CaseError when something was made twice, or written without need."""
        found = unexpected_writes(self.summary(), reference, interruptions=interruptions)
        if found:
            raise CaseError("\n".join([*found, self._told()]))

    def served(self, *, most_pods: int, keeps_serving: bool = True) -> None:
        """Raises CaseError when service was broken or too many pods were there."""
        found = violations(self.monitor.seen(), service=NAME, most_pods=most_pods, keeps_serving=keeps_serving)
        if found:
            raise CaseError("\n".join([*found, self._told()]))

    def _told(self) -> str:
        """For a message: the last requests, watches and the lease aside, and the end of the operator's log."""
        requests = [
            f"{e.request.verb} {e.request.resource}/{e.request.name} {e.request.subresource}: {e.status}, told {e.told}"
            for e in self.proxy.record[-200:]
            if e.request.verb != "watch" and e.request.resource not in {"", "leases"}
        ]
        log = self.operator.says().splitlines()[-25:] if self.world.operators else []
        where = f"namespace {self.namespace}, operator {self._started}"
        return "\n".join([f"{where}, its last requests:", *requests[-25:], "the end of its log:", *log])


@contextmanager
def open_case(cluster: Cluster, place: Place, *, folder: Path, **config: Any) -> Iterator[Case]:
    """A case in a namespace of its own, with the chart's rights and a claim that pods can name; all goes afterwards."""
    api, namespace = Api(cluster), f"f-{secrets.token_hex(4)}"
    with Proxy(api.server, tls=api.tls) as proxy:
        _furnish(api, place, namespace, folder)
        _write_kubeconfig(api, namespace, folder / "kubeconfig", server=proxy.url)
        world = World(cluster, place, namespace, folder, server=proxy.url)
        begun = cluster.layout.audit_log.stat().st_size
        case = Case(world, api, proxy, Monitor(api, namespace), config={**CONFIG, **config}, _begun=begun)
        try:
            yield case
        finally:
            for operator in world.operators:
                operator.end(signal.SIGKILL)
            case.monitor.close()
            for path in (f"/api/v1/namespaces/{namespace}", f"/api/v1/persistentvolumes/models-{namespace}"):
                api.request("DELETE", path)
            api.close()


def _furnish(api: Api, place: Place, namespace: str, folder: Path) -> None:
    """The namespace, as strict as a user's may be, and what the operator is there.

    Straight from the chart's templates and without Helm or kubectl: a campaign does this hundreds of times.
    """
    enforce = "pod-security.kubernetes.io/enforce"
    labels = {enforce: "restricted", f"{enforce}-version": "latest"}
    body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace, "labels": labels}}
    api.request("POST", "/api/v1/namespaces", body)
    for manifest in yaml.safe_load_all(_rights_of(place).replace(PLACEHOLDER, namespace)):
        api.apply(namespace, manifest)
    volume = f"/api/v1/persistentvolumes/models-{namespace}?fieldManager=test"
    api.request("PATCH", volume, model_volume.volume_of(namespace, folder), content_type=APPLY)
    api.apply(namespace, model_volume.claim_of(namespace))
    wait_until(  # pods are refused before it is there
        lambda: api.find("ServiceAccount", namespace, "default") is not None,
        f"ServiceAccount {namespace}/default",
        limit_seconds=60,
        poll_seconds=POLL_SECONDS,
    )


@cache
def _rights_of(place: Place) -> str:
    """The chart's ServiceAccount, Role and RoleBinding, for the namespace PLACEHOLDER."""
    values = ["--set", "crds.install=false"]
    text = place.run_helm("template", chart.RELEASE, str(chart.CHART), "--namespace", PLACEHOLDER, *values)
    kept = [m for m in yaml.safe_load_all(text) if m and m["kind"] in {"ServiceAccount", "Role", "RoleBinding"}]
    return yaml.safe_dump_all(kept)


def _write_kubeconfig(api: Api, namespace: str, path: Path, *, server: str) -> None:
    """The operator's way to the API server: through the proxy, with a real token of its ServiceAccount."""
    asked = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"expirationSeconds": 7200}}
    token = api.request("POST", kind_of("ServiceAccount").path(namespace, ACCOUNT, subresource="token"), asked)
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "proxy",
        "clusters": [{"name": "proxy", "cluster": {"server": server}}],
        "users": [{"name": ACCOUNT, "user": {"token": token["status"]["token"]}}],
        "contexts": [{"name": "proxy", "context": {"cluster": "proxy", "user": ACCOUNT, "namespace": namespace}}],
    }
    path.write_text(yaml.safe_dump(config))


def deployment(**spec: Any) -> Manifest:
    """What the cases apply: two small verifiers and a draft. `spec` replaces parts."""
    made = sample("gpu-pair", **spec)
    made["spec"]["verifier"]["accelerator"]["count"] = 1
    if "rollout" in crd_schema()["properties"]["spec"]["properties"]:
        made["spec"]["rollout"] = {"surgeWait": "2s", "drainTimeout": "2s", **spec.get("rollout", {})}
    return made


def path_of(kind: str, namespace: str, name: str, *, subresource: str = "") -> str:
    """Where an object is, for requests of their own kind."""
    return kind_of(kind).path(namespace, name, subresource=subresource)
