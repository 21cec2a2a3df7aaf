"""LLMDeployments for the tests of the schema: valid ones that use every field between them, and what a leaf can become.

Pure and repeatable: the same seed gives the same documents.
"""

from __future__ import annotations

import copy
import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from tandem_contracts.engine_settings import FLAGS, Whole
from tandem_operator import names

Manifest = dict[str, Any]
Schema = dict[str, Any]
Step = str | int
Path = tuple[Step, ...]

DIGEST = "sha256:" + "0" * 64
LEFT_OUT = "<left out>"
"""Stands for a member that is not there; no document holds it as a value."""


def claim(path: str) -> Manifest:
    return {"source": {"persistentVolumeClaim": {"claimName": "models", "path": path}}}


def image(name: str) -> Manifest:
    return {"source": {"image": {"reference": f"registry.example:5000/models/{name}@{DIGEST}", "path": "a/b"}}}


def _engine() -> Manifest:
    return {
        "type": "VLLM",
        "image": f"registry.example/team/engine:1@{DIGEST}",
        "dataType": "bfloat16",
        "maxModelLength": 4096,
        "kvCacheDtype": "fp8",
        "attentionBackend": "FLASHINFER",
        "compilation": "Compiled",
        "paging": {"blockSize": 64, "memoryUtilizationPercent": 90},
        "scheduler": {"maxSequences": 64, "maxBatchedTokens": 8192, "chunkedPrefill": "Enabled", "policy": "fcfs"},
        "prefixCache": {"mode": "Enabled", "hash": "sha256"},
        "args": {"seed": 1, "generation-config": "vllm"},
    }


def _scheduling() -> Manifest:
    return {
        "tolerations": [{"key": "example.com/team", "operator": "Equal", "value": "chat", "effect": "NoSchedule"}],
        "topologySpread": "Zone",
        "priorityClassName": "serving",
    }


def body_of(spec: Manifest, name: str = "pair") -> Manifest:
    """A resource as a user writes it."""
    return {"apiVersion": names.API_VERSION, "kind": names.KIND, "metadata": {"name": name}, "spec": spec}


REMOTE: Manifest = {
    "servedName": "meta-llama/Llama-3.1-70B-Instruct:fp8",
    "verifier": {
        "model": claim("big"),
        "engine": _engine(),
        "accelerator": {"classes": ["nvidia-h100-80gb"], "count": 4},
        "tensorParallel": 4,
        "scheduling": _scheduling(),
        "replicas": 2,
    },
    "draft": {
        "model": claim("small"),
        "engine": _engine(),
        "accelerator": {"classes": ["nvidia-l40s-48gb", "nvidia-l4-24gb"], "count": 2},
        "tensorParallel": 2,
        "scheduling": _scheduling(),
        "replicas": 1,
    },
    "speculation": {
        "method": "Remote",
        "maxDepth": 5,
        "tls": {"certManager": {"issuerRef": {"name": "ca", "kind": "ClusterIssuer", "group": "cert-manager.io"}}},
    },
    "access": {
        "apiKey": {"secretKeyRef": {"name": "keys", "key": "chat"}},
        "allowedFrom": [{"namespaceLabels": {"kubernetes.io/metadata.name": "web"}, "podLabels": {"app": "gate"}}],
    },
    "rollout": {
        "strategy": "Auto",
        "surgeWait": "2m",
        "drainTimeout": "10m",
        "progressDeadline": "1h30m",
        "onFailure": "Hold",
    },
}
IN_ENGINE: Manifest = {
    "verifier": {"model": image("big"), "accelerator": {"classes": ["nvidia-h100-80gb"]}},
    "draft": {"model": image("small"), "accelerator": {"classes": ["cpu"], "count": 1}},
    "speculation": {"method": "InEngine", "inEngine": {"kind": "EAGLE3", "model": image("head")}},
}
HEAD_ON_CLAIM: Manifest = {
    "verifier": {
        "model": claim("big"),
        "engine": {"maxModelLength": 4096, "scheduler": {"maxBatchedTokens": 4096, "chunkedPrefill": "Disabled"}},
        "accelerator": {"classes": ["nvidia-h100-80gb"]},
    },
    "speculation": {
        "method": "InEngine",
        "inEngine": {"kind": "DraftModel", "model": claim("small")},
        "tls": {"secretName": "drafts-tls"},
    },
}


def hub(repo: str) -> Manifest:
    return {
        "huggingFace": {
            "repo": f"team/{repo}",
            "revision": "refs/pr-1",
            "hub": "internal",
            "secretKeyRef": {"name": "hub", "key": "token"},
        }
    }


def bucket(path: str) -> Manifest:
    place = {"bucket": "team-models", "prefix": path, "store": "minio", "region": "eu-1"}
    return {"s3": {**place, "secretName": "keys"}}


def _quantized(source: Manifest) -> Manifest:
    return {
        "source": source,
        "quantization": {
            "mode": "Offline",
            "scheme": "W4A16",
            "algorithm": "GPTQ",
            "ignore": ["lm_head", "re:.*gate$"],
            "kvCache": "fp8",
            "calibration": {
                "configMapKeyRef": {"name": "calibration", "key": "data.jsonl"},
                "samples": 64,
                "maxSequenceLength": 1024,
                "seed": 7,
            },
            "gate": {
                "evaluation": {"configMapKeyRef": {"name": "evaluation", "key": "data.jsonl"}},
                "maxPerplexityIncreasePercent": "1.5",
                "maxKLDivergence": "0.02",
                "minTop1Agreement": "0.95",
                "tasks": {
                    "configMapName": "tasks",
                    "tasks": [{"name": "gsm8k", "limit": 250, "minRecoveryPercent": "97.5"}],
                },
                "longContext": {"tokens": 8192, "minRecall": "0.8"},
                "onFailure": "ServeUnquantized",
            },
            "job": {"classes": ["nvidia-l40s-48gb"], "memory": "64Gi", "activeDeadline": "8h"},
        },
    }


QUANTIZED: Manifest = {
    "verifier": {"model": _quantized(hub("big")), "accelerator": {"classes": ["nvidia-h100-80gb"]}},
    "draft": {"model": _quantized(hub("small")), "accelerator": {"classes": ["nvidia-l4-24gb"]}},
    "cache": {"volume": {"claimName": "cache"}, "ttlAfterUnused": "24h"},
}
OF_BUCKETS: Manifest = {
    "verifier": {"model": {"source": bucket("a/big")}, "accelerator": {"classes": ["nvidia-h100-80gb"]}},
    "draft": {"model": {"source": bucket("a/small")}, "accelerator": {"classes": ["nvidia-l4-24gb"]}},
    "cache": {"volume": {"claimName": "cache"}},
}
HEAD_OF_BUCKET: Manifest = {
    "verifier": {"model": claim("big"), "accelerator": {"classes": ["nvidia-h100-80gb"]}},
    "speculation": {"method": "InEngine", "inEngine": {"kind": "EAGLE3", "model": {"source": bucket("head")}}},
    "cache": {"volume": {"claimName": "cache"}},
}
HEAD_OF_HUB: Manifest = {
    "verifier": {"model": claim("big"), "accelerator": {"classes": ["nvidia-h100-80gb"]}},
    "speculation": {"method": "InEngine", "inEngine": {"kind": "EAGLE3", "model": {"source": hub("head")}}},
    "cache": {"volume": {"claimName": "cache"}},
}
_RULES: Manifest = {
    "stabilizationWindowSeconds": 60,
    "selectPolicy": "Min",
    "policies": [{"type": "Pods", "value": 2, "periodSeconds": 60}],
}
AUTOSCALED: Manifest = {
    "verifier": {"model": claim("big"), "accelerator": {"classes": ["nvidia-h100-80gb"]}},
    "draft": {"model": claim("small"), "accelerator": {"classes": ["nvidia-l4-24gb"]}},
    "autoscaling": {
        "slo": {"percentile": 95, "timeToFirstToken": "1.5s", "timePerOutputToken": "80ms"},
        "verifier": {"minReplicas": 2, "maxReplicas": 8},
        "draft": {"minReplicas": 0, "maxReplicas": 4},
        "strategy": "Headroom",
        "requestsPerReplica": 48,
        "surgeQuantile": "0.75",
        "behavior": {"scaleUp": _RULES, "scaleDown": _RULES},
        "idle": {"after": "10m", "maxHeldRequests": 500, "holdTimeout": "5m"},
        "paused": False,
    },
}
SHORTEST: Manifest = {"verifier": {"model": claim("big"), "accelerator": {"classes": ["cpu"]}}}
BASES: tuple[Manifest, ...] = (
    REMOTE,
    IN_ENGINE,
    HEAD_ON_CLAIM,
    QUANTIZED,
    OF_BUCKETS,
    HEAD_OF_BUCKET,
    HEAD_OF_HUB,
    AUTOSCALED,
    SHORTEST,
)


# -- places in a document ----------------------------------------------------------------------------------------


def places(schema: Schema, value: Any, path: Path = ()) -> Iterator[tuple[Path, Schema]]:
    """Every member of `value`, containers included, with its schema; the document itself is left out."""
    if path:
        yield path, schema
    if isinstance(value, dict):
        properties, others = schema.get("properties", {}), schema.get("additionalProperties", {})
        for key, member in value.items():
            yield from places(properties.get(key, others), member, (*path, key))
    elif isinstance(value, list):
        for index, member in enumerate(value):
            yield from places(schema["items"], member, (*path, index))


def at(document: Any, path: Path) -> Any:
    """What is at a path."""
    for step in path:
        document = document[step]
    return document


def changed(document: Manifest, path: Path, value: Any) -> Manifest:
    """A copy with one member replaced, or left out."""
    copied = copy.deepcopy(document)
    parent = at(copied, path[:-1])
    if value is LEFT_OUT:
        del parent[path[-1]]
    else:
        parent[path[-1]] = copy.deepcopy(value)
    return copied


# -- what a member can become ------------------------------------------------------------------------------------

HOSTILE: tuple[str, ...] = (
    " ", "a b", "a\n", "\na", "a\nb", "a\tb", "a\x00b", "a\u202eb", "ä", "模型", "\U0001f98a", "a\u00a0", "ａ",
    "../a", "a/../b", "a/..", "/etc/passwd", "a//b", "./a", "~root", "C:\\a", "a\\b",
    "$(VLLM_API_KEY)", "${HOME}", "`id`", "a;id", "a|id", "--flag", "-v", "a=b,c", "{}", "[]", "'a'", '"a"', "%2e%2e/a",
    "http://user:secret@host/a", "https://host/a", "user:secret@host/a", "file:///etc/passwd",
)  # fmt: skip
"""Texts that no field takes."""
HOSTS: tuple[str, ...] = (
    f"169.254.169.254/latest@{DIGEST}", f"10.0.0.1:5000/a@{DIGEST}", f"[::1]:5000/a@{DIGEST}", f"127.1/a/b@{DIGEST}",
    f"metadata.google.internal/a@{DIGEST}", f"metadata/a@{DIGEST}", f"2852039166:80/a@{DIGEST}",
    f"instance-data:80/a@{DIGEST}", f"a.0x7f.1.2/b@{DIGEST}", f"user:pw@reg.example/a@{DIGEST}",
    f"reg.example/a@sha256:{'0' * 63}",    f"reg.example/a@md5:{'0' * 64}", f"reg.example/A@{DIGEST}", f"http://reg.example/a@{DIGEST}",
)  # fmt: skip
"""References to images that are refused."""
WRONG_TYPES: tuple[Any, ...] = (None, True, 1, 1.5, "1", [], {}, [None], {"a": 1}, LEFT_OUT)


def values_for(schema: Schema, present: Any) -> Iterator[Any]:
    """Values worth trying in place of `present`: the edges of what the schema allows, both sides, and what is wrong."""
    yield from WRONG_TYPES
    if "enum" in schema:
        yield from schema["enum"]
        yield from ("", "Wrong", schema["enum"][0].swapcase(), schema["enum"][-1] + "\n")
    elif isinstance(present, bool):
        yield not present
    elif isinstance(present, int):
        yield from _numbers(schema)
    elif isinstance(present, str):
        yield from _texts(schema, present)
    elif isinstance(present, list):
        yield from ([present[0]] * schema["maxItems"], [present[0]] * (schema["maxItems"] + 1), [1], ["\n"], [[]])
    elif "additionalProperties" in schema:
        yield from _maps(schema, present)


def _numbers(schema: Schema) -> Iterator[Any]:
    # Not 2.0: the API server takes it for 2 where no rule reads it, stores 2, and trips over it in a rule.
    least, most = schema.get("minimum", 0), schema.get("maximum", 2**31 - 1)
    yield from (least, most, least - 1, most + 1, 0, -1, 2**31, 2**63, 2**64, 1e300, least + 1)


def _texts(schema: Schema, present: str) -> Iterator[str]:
    most = schema.get("maxLength", 64)
    rest = present[present.index("@") :] if "@" in present else ""
    yield from ("", "a", "A", "0", "a-", "a.b", "a_b", "system-node-critical", "node-role.kubernetes.io/control-plane")
    yield from ("a" * (most - len(rest)) + rest, "a" * (most + 1 - len(rest)) + rest, "a" * 63, "a" * 64)
    yield from HOSTILE
    if "@" in present:
        yield from HOSTS
    if any("a duration" in rule["message"] for rule in schema.get("x-kubernetes-validations", [])):
        yield from ("0s", "1s", "9s", "10s", "1h", "1h1s", "24h", "24h1s", "9999h", "1m1h", "1.5h", "10", "1d", "00m1s")


def _maps(schema: Schema, present: dict[str, Any]) -> Iterator[Manifest]:
    most, value = schema["maxProperties"], next(iter(present.values()))
    for count in (most, most + 1):
        yield {f"key-{n}": value for n in range(count)}
    for key in ("", "a b", "a\n", "ä", "a/b/c", "-a", "trust-remote-code", "a" * 63, "a" * 318):
        yield {key: value}
    for wrong in (None, 1, True, 1.5, [], {}, "a\n", "a" * 65):
        yield {**present, next(iter(present)): wrong}


# -- documents ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Document:
    """A spec, and what was done to a valid one to make it."""

    spec: Manifest
    changes: tuple[tuple[Path, Any], ...] = ()

    def __str__(self) -> str:
        return "; ".join(f"{'.'.join(map(str, path))} = {repr(value)[:60]}" for path, value in self.changes) or "valid"


def every_single_change(schema: Schema) -> Iterator[Document]:
    """Each member of each base document, replaced by each value worth trying.

    Of the draft, which has the verifier's schema, only what is wrong in type.
    """
    seen = set()
    for base in BASES:
        yield Document(base)
        for path, part in places(schema, base):
            for value in WRONG_TYPES if path[0] == "draft" else values_for(part, at(base, path)):
                made = Document(changed(base, path, value), ((path, value),))
                if repr(made.spec) not in seen:
                    seen.add(repr(made.spec))
                    yield made


def every_flag() -> Iterator[Document]:
    """Each flag of the list with values at the edges of its range, both sides."""
    path: Path = ("verifier", "engine", "args")
    for name, kind in FLAGS.items():
        if isinstance(kind, Whole):
            values: list[Any] = [kind.least, kind.most, kind.least - 1, kind.most + 1, str(kind.least), 1.5]
        else:
            values = [*kind.choices[:3], kind.choices[-1], "", "Wrong", kind.choices[0].swapcase(), 1, True]
        for value in values:
            yield Document(changed(REMOTE, path, {name: value}), (((*path, name), value),))


def own_drafts() -> Iterator[Document]:
    """A draft server of one's own, with and without the image that it needs."""
    path: Path = ("draft", "engine")
    for engine in ({"type": "Custom"}, {"type": "Custom", "image": "registry.example/drafts:1"}):
        yield Document(changed(REMOTE, path, engine), ((path, engine),))


def combinations(schema: Schema, *, seed: int, count: int) -> Iterator[Document]:
    """Documents with two to four changes in different places, none below another."""
    chooser = random.Random(seed)
    for _ in range(count):
        base = chooser.choice(BASES[:3])
        every = list(places(schema, base))
        document = Document(base)
        for path, part in chooser.sample(every, chooser.randint(2, 4)):
            if any(path[: len(other)] == other or other[: len(path)] == path for other, _ in document.changes):
                continue
            value = chooser.choice(list(values_for(part, at(base, path))))
            document = Document(changed(document.spec, path, value), (*document.changes, (path, value)))
        yield document
