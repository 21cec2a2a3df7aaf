"""JSON schemas of the kinds that an API server has, made from what it publishes (`/openapi/v3`), for kubeconform.

Strict: a key that a kind does not know is an error, as for `kubectl apply`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from deploy.local.kubectl import Kubectl

Schema = dict[str, Any]
FILES = "{{ .ResourceKind }}{{ .KindSuffix }}.json"
"""As kubeconform is to look for them, with the folder before it: such as role-rbac-v1.json."""


def write_schemas(kubectl: Kubectl, versions: Iterable[str], folder: Path) -> None:
    """One file for each kind of these API versions, such as apps/v1."""
    paths = json.loads(kubectl.run("get", "--raw", "/openapi/v3"))["paths"]
    for version in sorted(set(versions)):
        path = f"apis/{version}" if "/" in version else f"api/{version}"
        schemas = json.loads(kubectl.run("get", "--raw", paths[path]["serverRelativeURL"]))["components"]["schemas"]
        shared = {"components": {"schemas": {name: _strict(schema) for name, schema in schemas.items()}}}
        for name, schema in schemas.items():
            for kind in schema.get("x-kubernetes-group-version-kind", []):
                if version == "/".join(part for part in (kind["group"], kind["version"]) if part):
                    parts = (kind["kind"].lower(), kind["group"].partition(".")[0], kind["version"])
                    file = "-".join(part for part in parts if part)
                    (folder / f"{file}.json").write_text(json.dumps({"$ref": f"#/components/schemas/{name}", **shared}))


def _strict(schema: Any) -> Any:
    """The same, with every object that lists its keys closed."""
    if isinstance(schema, list):
        return [_strict(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    inner = {
        key: {name: _strict(each) for name, each in value.items()} if key == "properties" else _strict(value)
        for key, value in schema.items()
    }
    is_open = "additionalProperties" in schema or schema.get("x-kubernetes-preserve-unknown-fields")
    return {**inner, "additionalProperties": False} if "properties" in schema and not is_open else inner
