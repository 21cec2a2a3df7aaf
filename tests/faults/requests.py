"""A request to the API server, taken apart: what rules match on, and what the proxy's record keeps. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

WRITES = frozenset({"create", "update", "patch", "delete"})
_VERBS = {"POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}
_ROOT = re.compile(r"^/(?:api/v1|apis/[^/]+/[^/]+)(?:/(?P<rest>.*))?$")
_REVISION = re.compile(r"[0-9a-f]{8}(?=-|$)")


@dataclass(frozen=True)
class ApiRequest:
    """One request. What it does not name is empty; a path that is no resource (discovery) has no resource."""

    verb: str
    """get, list, watch, create, update, patch or delete, as the audit log says it."""
    path: str
    resource: str = ""
    """Plural, lower case."""
    namespace: str = ""
    name: str = ""
    subresource: str = ""
    query: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    """Names in lower case."""
    body: Any = None

    @property
    def is_write(self) -> bool:
        """Whether it writes anything but the lease."""
        return self.verb in WRITES and self.resource != "leases"

    @property
    def is_resync(self) -> bool:
        """Whether it is one of the listings that the operator makes in each resync."""
        return self.verb == "list" and "PartialObjectMetadataList" in self.headers.get("accept", "")

    @property
    def kind_of_name(self) -> str:
        """The name with each revision replaced by `*`: the same in every run of a workload."""
        return _REVISION.sub("*", self.name)


def api_request_of(
    method: str, path: str, *, query: Mapping[str, str], headers: Mapping[str, str], body: bytes = b""
) -> ApiRequest:
    """Take a request apart. A body that is not JSON counts as none."""
    resource, namespace, name, subresource = _parts_of(path)
    sent = _json_of(body)
    if method == "GET":
        collection = "watch" if query.get("watch") in {"true", "1"} else "list"
        verb = collection if resource and not name else "get"
    else:
        verb = _VERBS.get(method, method.lower())
    if not name and isinstance(sent, dict):
        name = (sent.get("metadata") or {}).get("name", "")
    lowered = {key.lower(): value for key, value in headers.items()}
    return ApiRequest(verb, path, resource, namespace, name, subresource, dict(query), lowered, sent)


def _parts_of(path: str) -> tuple[str, str, str, str]:
    matched = _ROOT.match(path)
    parts = [part for part in (matched["rest"] or "").split("/") if part] if matched else []
    namespace = ""
    if len(parts) > 2 and parts[0] == "namespaces":
        namespace, parts = parts[1], parts[2:]
    resource, name, subresource = [*parts, "", "", ""][:3]
    return resource, namespace, name, subresource


def _json_of(body: bytes) -> Any:
    try:
        return json.loads(body) if body else None
    except ValueError:
        return None


@dataclass(frozen=True)
class Match:
    """Which requests a rule is about. An empty field matches all; `name` is a regular expression for the whole name."""

    verbs: frozenset[str] = frozenset()
    resource: str = ""
    name: str = ""
    subresource: str | None = None
    """None: any; empty: the object itself."""
    where: Callable[[ApiRequest], bool] | None = None

    def __call__(self, request: ApiRequest) -> bool:
        """The lease is matched only by a rule that names it, so that the operator goes on leading through a fault."""
        return (
            (not self.verbs or request.verb in self.verbs)
            and (request.resource == self.resource if self.resource else request.resource != "leases")
            and (not self.name or re.fullmatch(self.name, request.name) is not None)
            and (self.subresource is None or request.subresource == self.subresource)
            and (self.where is None or self.where(request))
        )


def verbs(*names: str, **more: Any) -> Match:
    """Match these verbs; `more` are the other fields."""
    return Match(frozenset(names), **more)


def writes(**more: Any) -> Match:
    """Match everything that writes."""
    return Match(WRITES, **more)
