"""The user's own cluster, with the user's own rights: one namespace of the context of their kubeconfig."""

from __future__ import annotations

import argparse
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import urllib3
from kubernetes import client, config
from yaml import YAMLError

from tandem_operator import names
from tandem_operator.cli.inputs import CommandError
from tandem_operator.cluster import KINDS
from tandem_operator.facts import Manifest
from tandem_operator.masking import one_line
from tandem_operator.yaml_files import told_by_the_parser, told_of

LIMIT_SECONDS = 15
PAGE_LIMIT_SECONDS = 5
"""Of what a pod is asked: one that hangs shall not hold up the others."""
_NO_KUBECONFIG = (TypeError, KeyError, AttributeError, ValueError)
"""What the client raises for a file with something else in it, such as a list or no text."""
AS_TANDEM = {"fieldManager": "kubectl-tandem"}
"""By whose name what a user changes is written: a person's, and not the operator's."""


class Connection:
    """Requests to the API server. Each raises CommandError with the server's own words."""

    def __init__(self, api: client.ApiClient, namespace: str) -> None:
        self._api, self.namespace = api, namespace

    @classmethod
    def open(cls, *, kubeconfig: str | None, context: str | None, namespace: str | None) -> Connection:
        """Connect by kubeconfig (None: as kubectl finds it), to its context's namespace unless one is named."""
        try:
            contexts, current = config.list_kube_config_contexts(kubeconfig)
            chosen = next((c for c in contexts if c["name"] == context), None) if context else current
            if chosen is None:
                raise CommandError(
                    f"context {context} (is unknown): must be of {', '.join(c['name'] for c in contexts)}"
                )
            api = config.new_client_from_config(kubeconfig, context)
        except (config.ConfigException, OSError, YAMLError, *_NO_KUBECONFIG) as error:
            where = kubeconfig or os.environ.get("KUBECONFIG") or "~/.kube/config"
            hint, wrong = "--kubeconfig or KUBECONFIG names another", _wrong_with(where, error)
            raise CommandError(f"no cluster in kubeconfig {where} ({hint}): {wrong}") from error
        return cls(api, namespace or str(chosen["context"].get("namespace") or "default"))

    @classmethod
    def of(cls, options: argparse.Namespace) -> Connection:
        """Connect as a command's options say."""
        return cls.open(kubeconfig=options.kubeconfig, context=options.context, namespace=options.namespace)

    def get(self, kind: str, name: str = "", **query: str) -> Manifest:
        """The object, or without a name the list. Raises CommandError with exit code 2 when there is none."""
        return self._object("GET", kind, name, query=query)

    def patch(self, kind: str, name: str, body: Any, *, content_type: str) -> Manifest:
        """Change an object: `content_type` says whether by merge or by JSON patch."""
        return self._object("PATCH", kind, name, query=AS_TANDEM, body=body, content_type=content_type)

    def create(self, body: Manifest) -> Manifest:
        """Make an object. Raises CommandError."""
        return self._object("POST", body["kind"], "", query=AS_TANDEM, body=body)

    def delete(self, kind: str, name: str) -> None:
        """Delete an object, and what belongs to it in the background. Raises CommandError."""
        self._object("DELETE", kind, name, body={"propagationPolicy": "Background"})

    def page(self, pod: str, port: int, path: str = "metrics") -> str:
        """What a pod answers at a port, by way of the API server. Raises CommandError."""
        where = KINDS["Pod"].path(self.namespace, f"{pod}:{port}", subresource=f"proxy/{path}")
        right = "the right to get pods/proxy is missing"
        what = f"pod {self.namespace}/{pod}, port {port}"
        return self._text(where, what, right=right, limit_seconds=PAGE_LIMIT_SECONDS)

    def log(self, pod: str, container: str, *, lines: int, is_previous: bool) -> str:
        """The last lines that a container wrote, or the one that ran before it. Raises CommandError."""
        where = KINDS["Pod"].path(self.namespace, pod, subresource="log")
        query = {"container": container, "tailLines": str(lines), "previous": str(is_previous).lower()}
        what = f"log of {self.namespace}/{pod}, container {container}"
        return self._text(where, what, right="the right to get pods/log is missing", query=query)

    def version(self) -> Manifest:
        """Of the API server. Raises CommandError."""
        return _parsed(self._text("/version", "version of the API server", right="it may not be asked"), "/version")

    def _object(
        self,
        method: str,
        kind: str,
        name: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Any = None,
        content_type: str = "application/json",
    ) -> Manifest:
        where = KINDS[kind].path(self.namespace, name)
        status, raw = self._send(method, where, query=query, body=body, content_type=content_type)
        if status == 404 and not raw.lstrip().startswith(b"{"):  # a kind that is not there is told in plain text
            told = f"the API server {self._api.configuration.host} knows no {kind}: "
            raise CommandError(f"{told}Tandem is not installed there, or this is another cluster", exit_code=2)
        answer = _parsed(raw, f"{method} {where}")
        if status >= 300:
            what = f"{kind} {self.namespace}/{name}" if name else f"{kind} in namespace {self.namespace}"
            told = f"{what}: {answer.get('message', status)}"
            raise CommandError(told, exit_code=2 if status == 404 else 1)
        return answer

    def _text(
        self,
        where: str,
        what: str,
        *,
        right: str,
        query: Mapping[str, str] | None = None,
        limit_seconds: float = LIMIT_SECONDS,
    ) -> str:
        status, raw = self._send("GET", where, query=query, accept="*/*", limit_seconds=limit_seconds)
        if status >= 300:
            try:
                told = json.loads(raw)["message"]
            except (ValueError, KeyError, TypeError):
                told = f"it answers {status}"
            missing = f"{right}: " if status == 403 else ""
            raise CommandError(one_line(f"{what}: {missing}{told}"), exit_code=2 if status == 404 else 1)
        return raw.decode(errors="replace")

    def _send(
        self,
        method: str,
        where: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Any = None,
        content_type: str = "application/json",
        accept: str = "application/json",
        limit_seconds: float = LIMIT_SECONDS,
    ) -> tuple[int, bytes]:
        """Status and body of the answer, whatever it is. Raises CommandError where there is none."""
        headers = {"Accept": accept, "Content-Type": content_type}
        prepared = self._api.param_serialize(
            method,
            where,
            query_params=list((query or {}).items()),
            header_params=headers,
            body=body,
            auth_settings=["BearerToken"],
        )
        verb, url, header_params, payload, _ = prepared
        try:
            response = self._api.rest_client.request(
                verb, url, headers=header_params, body=payload, _request_timeout=limit_seconds
            )
            return response.status, response.read()
        except (urllib3.exceptions.HTTPError, OSError) as error:
            server = self._api.configuration.host
            raise CommandError(f"no answer from the API server {server}: {_cause(error)}") from error


def deployment_called(connection: Connection, name: str | None) -> Manifest:
    """An LLMDeployment; without a name the only one of the namespace. Raises CommandError, also where that is none."""
    if name is not None:
        return connection.get(names.KIND, name)
    found: list[Manifest] = connection.get(names.KIND)["items"]
    if len(found) == 1:
        return found[0]
    where = f"namespace {connection.namespace}"
    if not found:
        raise CommandError(f"{where} has no {names.KIND}", exit_code=2)
    told = ", ".join(sorted(each["metadata"]["name"] for each in found))
    raise CommandError(f"NAME is omitted, and {where} has {len(found)}: {told}")


def _parsed(raw: str | bytes, what: str) -> Manifest:
    try:
        answer: Manifest = json.loads(raw)
    except ValueError as error:
        raise CommandError(f"{what}: the answer is no JSON: {error}") from error
    return answer


def _wrong_with(where: str, error: Exception) -> str:
    """Why nothing can be read from kubeconfig, whose paths are joined as in KUBECONFIG."""
    if isinstance(error, OSError):
        return told_of(error)
    if isinstance(error, YAMLError):
        return told_by_the_parser(error)
    if not any(Path(path).expanduser().exists() for path in where.split(os.pathsep)):
        return "there is no such file"
    if isinstance(error, _NO_KUBECONFIG):
        return "is no kubeconfig, which is YAML with lists of clusters, users and contexts"
    return one_line(str(error))


def _cause(error: Exception) -> str:
    """What went wrong, without the retries and the connection object that urllib3 names before it."""
    told = re.sub(r"^\w+\(.*?\): ", "", str(getattr(error, "reason", None) or error))
    return re.sub(r"\[Errno \d+\] ", "", told)
