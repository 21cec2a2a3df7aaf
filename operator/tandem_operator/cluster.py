"""The Kubernetes client: server-side apply, get, list, delete, status, lease, events. The only code that talks to the
API server besides kopf's watches.

A thin layer over `kubernetes.aio`: a static table of the kinds that Tandem touches instead of discovery, a limit on
every request, and errors as a small tree. Decides nothing and retries nothing; the queue does.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import aiohttp
from kubernetes.aio import client, config
from prometheus_client import Counter

from tandem_operator import names
from tandem_operator.accelerators import AcceleratorClass, uses_claims
from tandem_operator.facts import PROTECTION_KINDS, IssuerKeys, Manifest, Ref


@dataclass(frozen=True)
class Kind:
    """Where the objects of a kind live in the API."""

    api_version: str
    plural: str

    def path(self, namespace: str, name: str = "", *, subresource: str = "") -> str:
        """Of an object, of all those of a namespace, or of all that there are where none is given."""
        root = "/api/" if "/" not in self.api_version else "/apis/"
        place = ("namespaces", namespace) if namespace else ()
        parts = [root + self.api_version, *place, self.plural, name, subresource]
        return "/".join(part for part in parts if part)


KINDS: Mapping[str, Kind] = {
    names.KIND: Kind(names.API_VERSION, names.PLURAL),
    names.ARTIFACT_KIND: Kind(names.API_VERSION, names.ARTIFACT_PLURAL),
    "Deployment": Kind("apps/v1", "deployments"),
    "ControllerRevision": Kind("apps/v1", "controllerrevisions"),
    "Service": Kind("v1", "services"),
    "ServiceAccount": Kind("v1", "serviceaccounts"),
    "ConfigMap": Kind("v1", "configmaps"),
    "NetworkPolicy": Kind("networking.k8s.io/v1", "networkpolicies"),
    "PodDisruptionBudget": Kind("policy/v1", "poddisruptionbudgets"),
    names.CLAIM_TEMPLATE_KIND: Kind("resource.k8s.io/v1", "resourceclaimtemplates"),
    "Job": Kind("batch/v1", "jobs"),
    "Pod": Kind("v1", "pods"),
    "Lease": Kind("coordination.k8s.io/v1", "leases"),
    "Event": Kind("events.k8s.io/v1", "events"),
}
CHILD_KINDS = ("Deployment", "ControllerRevision", "Service", *PROTECTION_KINDS)
WATCHED: Mapping[str, str] = {
    names.KIND: "",
    names.ARTIFACT_KIND: "",
    **dict.fromkeys((*CHILD_KINDS, "Job", "Pod"), names.MANAGED_SELECTOR),
}
"""Every kind that is watched and listed, with the label selector for it."""
OPTIONAL_WATCHED: Mapping[str, str] = {names.CLAIM_TEMPLATE_KIND: names.MANAGED_SELECTOR}
"""Kinds that an API server may not have, or the operator no right to; see `watched_of`."""
PAGE_SIZE = 100
_OF_NO_OBJECT = "1"
"""A resourceVersion that no object has, since etcd counts from 2: an apply of it creates what is missing, and conflicts
with whatever is there."""
_JSON = "application/json"
_METADATA = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
_KEY_SET = "application/jwk-set+json"
_APPLY = "application/apply-patch+yaml"
_MERGE = "application/merge-patch+json"
_METHODS = {
    "get": "GET",
    "list": "GET",
    "apply": "PATCH",
    "apply_status": "PATCH",
    "patch": "PATCH",
    "create": "POST",
    "update": "PUT",
    "delete": "DELETE",
}

REQUESTS = Counter(
    "tandem_operator_api_requests_total",
    "Requests to the API server besides the watches, by kind, verb and HTTP status (none: no answer).",
    ["kind", "verb", "status"],
)


def watched_of(table: Mapping[str, AcceleratorClass]) -> Mapping[str, str]:
    """The kinds to watch under an accelerator table, with their selectors: claims only where some class has them."""
    return {**WATCHED, **OPTIONAL_WATCHED} if uses_claims(table) else WATCHED


class Cause(StrEnum):
    """Who or what is at fault where a request failed, in one word for the metric."""

    UNANSWERED = "unanswered"
    UNAUTHORIZED = "unauthorized"
    FORBIDDEN = "forbidden"
    NOT_FOUND = "not_found"
    CONFLICT = "conflict"
    THROTTLED = "throttled"
    REFUSED = "refused"
    UNAVAILABLE = "unavailable"


_CAUSES = {
    0: Cause.UNANSWERED,
    401: Cause.UNAUTHORIZED,
    403: Cause.FORBIDDEN,
    404: Cause.NOT_FOUND,
    409: Cause.CONFLICT,
    429: Cause.THROTTLED,
}


class ClusterError(Exception):
    """A request failed. `status` is the HTTP status, 0 when there was no answer."""

    def __init__(self, status: int, message: str, *, retry_after_seconds: float = 0.0) -> None:
        super().__init__(f"{status}: {message}" if status else message)
        self.status = status
        self.message = message
        self.retry_after_seconds = retry_after_seconds

    @property
    def cause(self) -> Cause:
        """Who or what is at fault."""
        return _CAUSES.get(self.status, Cause.REFUSED if 400 <= self.status < 500 else Cause.UNAVAILABLE)


class NotFoundError(ClusterError):
    """The object, or its namespace, is not there."""


class ConflictError(ClusterError):
    """The object is another one, or newer, than the request assumed."""


class RefusedError(ClusterError):
    """The API server understood and will not do it (403, 400, 422): a person has to change something."""


@dataclass(frozen=True)
class Listing:
    """Objects of one kind as they were at one resourceVersion."""

    items: tuple[Manifest, ...]
    version: int


class Cluster:
    """Requests to one API server."""

    def __init__(self, api: client.ApiClient, *, timeout_seconds: float) -> None:
        self._api = api
        self._api.user_agent = names.MANAGED_BY
        self._timeout = aiohttp.ClientTimeout(total=timeout_seconds)

    @classmethod
    async def connect(cls, *, timeout_seconds: float) -> Cluster:
        """Connect as the pod's ServiceAccount, or by kubeconfig where there is none."""
        configuration = client.Configuration()
        try:
            config.load_incluster_config(client_configuration=configuration)
        except config.ConfigException:
            await config.load_kube_config(client_configuration=configuration)
        return cls(client.ApiClient(configuration), timeout_seconds=timeout_seconds)

    async def close(self) -> None:
        await self._api.close()

    async def get(self, ref: Ref, namespace: str) -> Manifest:
        """One object. Raises NotFoundError."""
        return _typed(await self._request("get", ref.kind, KINDS[ref.kind].path(namespace, ref.name)), ref.kind)

    async def issuer_keys(self) -> IssuerKeys:
        """Who signs ServiceAccount tokens, and the keys that check them. Raises ClusterError."""
        discovery = await self._request("get", "OpenID", "/.well-known/openid-configuration")
        keys = await self._request("get", "OpenID", "/openid/v1/jwks", accept=_KEY_SET)
        if not discovery.get("issuer") or not keys.get("keys"):
            raise ClusterError(0, "the API server publishes no issuer of tokens, or no keys of it")
        return IssuerKeys(str(discovery["issuer"]), json.dumps(keys, sort_keys=True))

    async def list_objects(self, kind: str, namespace: str, *, selector: str = "", fields: str = "") -> Listing:
        """All objects of a kind that have these labels and fields; of every namespace where none is given."""
        items: list[Manifest] = []
        listing = await self.list_versions(kind, namespace, selector=selector, fields=fields, take=items.append)
        return Listing(tuple(items), listing.version)

    async def list_versions(
        self,
        kind: str,
        namespace: str,
        *,
        selector: str = "",
        fields: str = "",
        take: Callable[[Manifest], object] | None = None,
    ) -> Listing:
        """Name and version of all objects of a kind: cheap enough for once a minute.

        With `take` the objects are read whole and handed to it, of which no more than a page is in memory.
        """
        items: list[Manifest] = []
        version = 0
        accept = _JSON if take else _METADATA
        async for page in self._pages(kind, namespace, selector=selector, fields=fields, accept=accept):
            for item in page.items:
                if take:
                    take(item)
                metadata = item["metadata"]
                seen = {key: metadata[key] for key in ("name", "namespace", "resourceVersion")}
                items.append({"kind": kind, "metadata": seen})
            version = page.version
        return Listing(tuple(items), version)

    async def apply(self, manifest: Manifest, *, resource_version: str = "") -> Manifest:
        """Server-side apply of a complete object. With a resource version, only if that is still the newest."""
        body = manifest
        if resource_version:
            body = {**manifest, "metadata": {**manifest["metadata"], "resourceVersion": resource_version}}
        return await self._apply(body)

    async def make(self, manifest: Manifest) -> Manifest:
        """Server-side apply of an object that is not there, in one request. Raises ConflictError when it is."""
        return await self.apply(manifest, resource_version=_OF_NO_OBJECT)

    async def apply_status(self, ref: Ref, namespace: str, *, status: Manifest, uid: str) -> Manifest:
        """Server-side apply of the status subresource of the object with this uid."""
        kind = KINDS[ref.kind]
        body = {
            "apiVersion": kind.api_version,
            "kind": ref.kind,
            "metadata": {"name": ref.name, "namespace": namespace, "uid": uid},
            "status": status,
        }
        return await self._apply(body, subresource="status")

    async def annotate(self, ref: Ref, namespace: str, *, uid: str, annotations: Mapping[str, str | None]) -> Manifest:
        """Set annotations of the object with this uid, or take those of None away, and leave all else as it is.

        Raises NotFoundError, and ConflictError for another object of that name.
        """
        path = KINDS[ref.kind].path(namespace, ref.name)
        query = [("fieldManager", names.FIELD_MANAGER)]
        body = {"metadata": {"uid": uid, "annotations": annotations}}
        answer = await self._request("patch", ref.kind, path, query=query, body=body, content_type=_MERGE)
        return _typed(answer, ref.kind)

    async def delete(self, ref: Ref, namespace: str, *, uid: str = "", resource_version: str = "") -> bool:
        """Delete an object if it still is the one that was seen; whether it was there. Being gone is success, too."""
        seen = {"uid": uid, "resourceVersion": resource_version}
        body = {
            "propagationPolicy": "Background",
            "preconditions": {key: value for key, value in seen.items() if value},
        }
        try:
            await self._request("delete", ref.kind, KINDS[ref.kind].path(namespace, ref.name), body=body)
        except NotFoundError:
            return False
        return True

    async def create(self, manifest: Manifest) -> Manifest:
        """Create an object. Raises ConflictError when it exists."""
        kind, namespace = manifest["kind"], manifest["metadata"]["namespace"]
        query = [("fieldManager", names.FIELD_MANAGER)]
        path = KINDS[kind].path(namespace)
        return _typed(await self._request("create", kind, path, query=query, body=manifest), kind)

    async def replace(self, manifest: Manifest) -> Manifest:
        """Update an object whose manifest carries the resourceVersion it was read with. Raises ConflictError."""
        kind, metadata = manifest["kind"], manifest["metadata"]
        path = KINDS[kind].path(metadata["namespace"], metadata["name"])
        return _typed(await self._request("update", kind, path, body=manifest), kind)

    async def _apply(self, body: Manifest, *, subresource: str = "") -> Manifest:
        kind, metadata = body["kind"], body["metadata"]
        path = KINDS[kind].path(metadata["namespace"], metadata["name"], subresource=subresource)
        query = [("fieldManager", names.FIELD_MANAGER), ("force", "true"), ("fieldValidation", "Strict")]
        verb = "apply_status" if subresource else "apply"
        answer = await self._request(verb, kind, path, query=query, body=body, content_type=_APPLY)
        return _typed(answer, kind)

    async def _pages(
        self, kind: str, namespace: str, *, selector: str, fields: str, accept: str
    ) -> AsyncIterator[Listing]:
        continued = ""
        while True:
            selectors = [("labelSelector", selector), ("fieldSelector", fields)]
            query = [("limit", str(PAGE_SIZE)), *selectors, ("continue", continued)]
            given = [(key, value) for key, value in query if value]
            page = await self._request("list", kind, KINDS[kind].path(namespace), query=given, accept=accept)
            metadata = page["metadata"]
            yield Listing(
                tuple(_typed(item, kind) for item in page.pop("items", None) or []), int(metadata["resourceVersion"])
            )
            continued = metadata.get("continue", "")
            if not continued:
                return

    async def _request(
        self,
        verb: str,
        kind: str,
        path: str,
        *,
        query: list[tuple[str, str]] | None = None,
        body: Any = None,
        accept: str = _JSON,
        content_type: str = _JSON,
    ) -> Manifest:
        method = _METHODS[verb]
        headers = {"Accept": accept, "Content-Type": content_type}
        prepared = await self._api.param_serialize(
            method, path, query_params=query or [], header_params=headers, body=body, auth_settings=["BearerToken"]
        )
        _, url, header_params, payload, _ = prepared
        try:
            response = await self._api.rest_client.request(
                method, url, headers=header_params, body=payload, _request_timeout=self._timeout
            )
            raw = await response.read()
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            REQUESTS.labels(kind, verb, "none").inc()
            raise ClusterError(0, f"{method} {path}: {type(error).__name__} {error}".rstrip()) from error
        REQUESTS.labels(kind, verb, str(response.status)).inc()
        if response.status >= 300:
            raise _error(response.status, raw, retry_after=response.getheader("Retry-After", "0"))
        try:
            answer: Manifest = json.loads(raw)
        except ValueError as error:
            raise ClusterError(0, f"{method} {path}: the answer is not JSON") from error
        return answer


def _typed(manifest: Manifest, kind: str) -> Manifest:
    """Items of a list come without their type."""
    return {**manifest, "apiVersion": KINDS[kind].api_version, "kind": kind}


def _error(status: int, raw: bytes, *, retry_after: str) -> ClusterError:
    try:
        message = str(json.loads(raw)["message"])
    except (ValueError, KeyError, TypeError):
        message = raw[:200].decode(errors="replace")
    kind = {404: NotFoundError, 409: ConflictError, 400: RefusedError, 403: RefusedError, 422: RefusedError}
    seconds = float(retry_after) if retry_after.isdecimal() else 0.0
    return kind.get(status, ClusterError)(status, message, retry_after_seconds=seconds)
