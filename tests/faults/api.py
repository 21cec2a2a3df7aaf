"""The administrator's requests to the API server, past the fault proxy: what a test does, and how it looks at it.

Over `http.client`, since a campaign looks thousands of times and a process for each look would starve two cores.
"""

from __future__ import annotations

import http.client
import json
import socket
import ssl
import threading
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any
from urllib.parse import urlencode, urlsplit

from deploy.local.cluster import Cluster
from deploy.local.record import read_record
from tandem_operator import names
from tandem_operator.cluster import KINDS, Kind

Manifest = dict[str, Any]
LIMIT_SECONDS = 30.0
APPLY = "application/apply-patch+yaml"
_OTHERS: Mapping[str, Kind] = {
    "Pod": Kind("v1", "pods"),
    "ReplicaSet": Kind("apps/v1", "replicasets"),
    "Service": Kind("v1", "services"),
    "Deployment": Kind("apps/v1", "deployments"),
    "ServiceAccount": Kind("v1", "serviceaccounts"),
    "Role": Kind("rbac.authorization.k8s.io/v1", "roles"),
    "RoleBinding": Kind("rbac.authorization.k8s.io/v1", "rolebindings"),
    "ResourceQuota": Kind("v1", "resourcequotas"),
    "LimitRange": Kind("v1", "limitranges"),
    "PersistentVolumeClaim": Kind("v1", "persistentvolumeclaims"),
}


class ApiError(Exception):
    """The API server refused."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"{status}: {message}")
        self.status = status


def kind_of(name: str) -> Kind:
    """Where a kind lives."""
    return KINDS.get(name) or _OTHERS[name]


class Api:
    """Requests as the administrator, from any thread."""

    def __init__(self, cluster: Cluster) -> None:
        record = read_record(cluster.layout)
        assert record is not None
        self.server = record.server
        pki = cluster.layout.pki
        self.tls = ssl.create_default_context(cafile=pki / "ca.crt")
        self._own = ssl.create_default_context(cafile=pki / "ca.crt")
        self._own.load_cert_chain(pki / "admin.crt", pki / "admin.key")
        self._local = threading.local()
        self._open: list[http.client.HTTPSConnection] = []

    # -- objects of a namespace ----------------------------------------------------------------------------------

    def get(self, kind: str, namespace: str, name: str) -> Manifest:
        """One object. Raises ApiError."""
        found = self.request("GET", kind_of(kind).path(namespace, name))
        return {**found, "kind": kind, "apiVersion": kind_of(kind).api_version}

    def find(self, kind: str, namespace: str, name: str) -> Manifest | None:
        """One object, or None when there is none."""
        try:
            return self.get(kind, namespace, name)
        except ApiError as error:
            if error.status != 404:
                raise
            return None

    def listing(self, kind: str, namespace: str, selector: str = "") -> Manifest:
        """A whole listing; its items carry their kind."""
        query = f"?{urlencode({'labelSelector': selector})}" if selector else ""
        found = self.request("GET", kind_of(kind).path(namespace) + query)
        typed = {"kind": kind, "apiVersion": kind_of(kind).api_version}
        return {**found, "items": [{**item, **typed} for item in found["items"]]}

    def items(self, kind: str, namespace: str, selector: str = "") -> list[Manifest]:
        """The objects of a kind."""
        return list(self.listing(kind, namespace, selector)["items"])

    def apply(self, namespace: str, manifest: Manifest) -> Manifest:
        """Server-side apply, as a user."""
        path = kind_of(manifest["kind"]).path(namespace, manifest["metadata"]["name"])
        query = "?fieldManager=user&force=true"
        return self.request("PATCH", path + query, manifest, content_type=APPLY)

    def merge(self, kind: str, namespace: str, name: str, patch: Manifest, *, subresource: str = "") -> Manifest:
        """Merge patch, as a user."""
        path = kind_of(kind).path(namespace, name, subresource=subresource)
        return self.request("PATCH", path, patch, content_type="application/merge-patch+json")

    def create(self, namespace: str, manifest: Manifest) -> Manifest:
        return self.request("POST", kind_of(manifest["kind"]).path(namespace), manifest)

    def delete(self, kind: str, namespace: str, name: str, *, propagation: str = "Background") -> None:
        """Delete; being gone already is success."""
        body = {"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": propagation}
        try:
            self.request("DELETE", kind_of(kind).path(namespace, name), body)
        except ApiError as error:
            if error.status != 404:
                raise

    # -- the wire ------------------------------------------------------------------------------------------------

    def request(self, method: str, path: str, body: Any = None, *, content_type: str = "application/json") -> Manifest:
        """One request; its answer. Raises ApiError."""
        sent = None if body is None else json.dumps(body)
        headers = {"Content-Type": content_type, "Accept": "application/json"}
        connection = getattr(self._local, "connection", None) or self._connect()
        self._local.connection = None
        try:
            connection.request(method, path, sent, headers)
            answer = connection.getresponse()
        except (http.client.HTTPException, ConnectionError, ssl.SSLEOFError):  # one that was kept open has been closed
            connection.close()
            connection = self._connect()
            connection.request(method, path, sent, headers)
            answer = connection.getresponse()
        raw = answer.read()
        self._local.connection = connection
        found: Manifest = json.loads(raw) if raw else {}
        if answer.status >= 300:
            raise ApiError(answer.status, found.get("message", ""))
        return found

    def _connect(self) -> http.client.HTTPSConnection:
        where = urlsplit(self.server)
        made = http.client.HTTPSConnection(str(where.hostname), where.port, context=self._own, timeout=LIMIT_SECONDS)
        self._open.append(made)
        return made

    def close(self) -> None:
        """Close every connection."""
        for connection in self._open:
            connection.close()

    def watch(self, kind: str, namespace: str, *, version: str) -> Watch:
        """Events of a kind after a resourceVersion."""
        connection = self._connect()
        connection.timeout = None
        query = urlencode({"watch": "true", "resourceVersion": version, "timeoutSeconds": 3600})
        connection.request("GET", f"{kind_of(kind).path(namespace)}?{query}", headers={"Accept": "application/json"})
        return Watch(connection, connection.getresponse())


class Watch:
    """An open watch; ends when it is closed."""

    def __init__(self, connection: http.client.HTTPSConnection, answer: http.client.HTTPResponse) -> None:
        self._connection, self._answer = connection, answer

    def __iter__(self) -> Iterator[Manifest]:
        with suppress(OSError, http.client.HTTPException, AttributeError, ValueError):
            while line := self._answer.readline():
                yield json.loads(line)

    def close(self) -> None:
        """End it from another thread."""
        connected = self._connection.sock
        if connected is not None:
            with suppress(OSError):
                connected.shutdown(socket.SHUT_RDWR)

    def release(self) -> None:
        """Give its files back, once nobody reads any more."""
        self._answer.close()
        self._connection.close()


def is_ready(pod: Manifest) -> bool:
    """Whether a pod is Ready and stays."""
    conditions = pod.get("status", {}).get("conditions") or []
    stays = "deletionTimestamp" not in pod["metadata"]
    return stays and any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)


def role_of(manifest: Manifest) -> tuple[str, str]:
    """Role and revision by an object's labels; empty without."""
    labels = manifest["metadata"].get("labels") or {}
    return labels.get(names.LABEL_ROLE, ""), labels.get(names.LABEL_REVISION, "")
