"""Artifacts, their Jobs and pods as the API server has them, and their plan by the operator's own rules, for tests."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import Any

from tandem_contracts.artifact_job import Evaluated, Made
from tandem_contracts.launch import Role
from tandem_contracts.quality import Quality
from tandem_contracts.reference import Reference
from tandem_contracts.termination import ExitCode, Phase, TerminationMessage
from tandem_contracts.termination import Reason as Cause
from tandem_operator import names
from tandem_operator.api.artifact import ModelArtifactSpec
from tandem_operator.api.deployment import Owner
from tandem_operator.artifact_attempts import attempts_of
from tandem_operator.artifact_known import Artifact
from tandem_operator.artifact_needs import Need, Settings, needs_in
from tandem_operator.artifact_plan import ArtifactPlan, Unmakeable, plan_artifact
from tandem_operator.artifact_status import artifact_status_of
from tandem_operator.artifact_steps import Step
from tandem_operator.artifact_terms import Referrers, job_maker
from tandem_operator.facts import ArtifactFacts, Manifest
from tandem_operator.model_files import ModelFiles
from tandem_operator.names import Reason
from tests.builders import NAMESPACE, make_body, make_config, make_role, make_spec
from tests.unit.operator.models import TINY

NOW = datetime(2030, 1, 1, 12, tzinfo=UTC)
HUB = {"huggingFace": {"repo": "team/model"}}
SETTINGS = Settings.of(make_config())
GOOD = Quality(
    tokens=20480, perplexity_source=10.0, perplexity=10.01, increase_percent=0.1, increase_percent_upper=0.2,
    kl_divergence=0.001, top1_agreement=0.99, evaluation="e" * 64,
)  # fmt: skip
MADE = Made(
    model=TINY,
    bytes=54_600_000,
    manifest="d" * 64,
    free_bytes=10**9,
    capacity_bytes=0,
    seconds=3.5,
    revision="c" * 40,
    source="b" * 64,
)


def make_texts(name: str, key: str = "texts.jsonl") -> Manifest:
    """A reference to texts in a ConfigMap."""
    return {"configMapKeyRef": {"name": name, "key": key}}


def make_artifact_body(
    name: str = "pair",
    *,
    source: Manifest | None = None,
    classes: tuple[str, ...] = ("cpu",),
    ttl: str | None = None,
    quantization: Manifest | None = None,
) -> Manifest:
    """A deployment whose verifier comes from a hub, or from `source`, and is quantized where that is said."""
    model: Manifest = {"source": source or HUB, **({} if quantization is None else {"quantization": quantization})}
    cache = {"volume": {"claimName": "cache"}, **({} if ttl is None else {"ttlAfterUnused": ttl})}
    verifier = {**make_role(classes=classes), "model": model}
    return make_body({**make_spec(draft=None, verifier=verifier, speculation={"method": "Off"}), "cache": cache}, name)


def need_of(body: Manifest, settings: Settings = SETTINGS) -> Need:
    """What the verifier of a deployment needs."""
    return needs_in(body, settings)[Role.VERIFIER]


FETCHED = need_of(make_artifact_body()).artifact
QUANTIZED = need_of(make_artifact_body(quantization={"scheme": "W8A8"})).artifact
SOURCE = ArtifactFacts(
    FETCHED.key, TINY, Reason.PUBLISHED, "", files=ModelFiles(claim_name="cache", path=FETCHED.key)
)  # fmt: skip


def make_artifact(spec: ModelArtifactSpec, **parts: Any) -> Artifact:
    made = Artifact(
        name=spec.key, namespace=NAMESPACE, uid="a1", resource_version="7", generation=1, is_ours=True, spec=spec
    )
    return replace(made, **parts)


@dataclass(frozen=True)
class Told:
    """A plan, the status that says it, and the Job that it makes."""

    plan: ArtifactPlan
    status: Manifest

    @property
    def job(self) -> Manifest:
        assert self.plan.make_job is not None, self.message
        return self.plan.make_job

    @property
    def conditions(self) -> dict[str, tuple[str, str]]:
        return {c["type"]: (c["status"], c["reason"]) for c in self.status["conditions"]}

    @property
    def message(self) -> str:
        return str(self.status["conditions"][0]["message"])

    @property
    def does(self) -> str:
        """Of the plan, in a word or two; empty: nothing."""
        parts = {
            "make": self.plan.make_job is not None,
            "delete": self.plan.delete_job is not None,
            "forget": self.plan.delete_artifact,
        }
        return " ".join(word for word, does in parts.items() if does)


def make_job(
    spec: ModelArtifactSpec,
    step: Step,
    course: str = "",
    *,
    by: Iterable[Manifest] = (),
    ended: datetime = NOW,
    status: Mapping[str, Any] | None = None,
    source: ArtifactFacts | None = SOURCE,
    settings: Settings = SETTINGS,
    uid: str = "j1",
) -> Manifest:
    """The Job of a step as the operator makes it for these deployments, running or with the condition `course`."""
    artifact = make_artifact(spec, status=status or {})
    referrers = Referrers(spec.key, by, settings)
    owner = Owner(name=spec.key, namespace=NAMESPACE, uid="a1")
    made = job_maker(owner, artifact, source, referrers=referrers, settings=settings)(step)
    assert not isinstance(made, Unmakeable), made.message
    stamp = ended.strftime("%Y-%m-%dT%H:%M:%SZ")
    end = {"type": course, "status": "True", "lastTransitionTime": stamp, "reason": "R", "message": "m"}
    metadata = {**made["metadata"], "uid": uid, "resourceVersion": "8"}
    return {**made, "metadata": metadata, "status": {"conditions": [end] if course else []}}


def make_last_word(
    job: Manifest, message: str = "", *, exit_code: int | None = 0, reason: str = "", **status: Any
) -> Manifest:
    """The pod of a Job, at its end with this message; without an exit code it runs."""
    ended = {"terminated": {"exitCode": exit_code, "message": message, "reason": reason}}
    phase = "Running" if exit_code is None else "Failed" if exit_code else "Succeeded"
    name = job["metadata"]["name"]
    labels = {**job["metadata"]["labels"], "batch.kubernetes.io/controller-uid": job["metadata"]["uid"]}
    state = {"running": {}} if exit_code is None else ended
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": f"{name}-x",
            "namespace": NAMESPACE,
            "uid": f"p-{name}",
            "labels": labels,
            "creationTimestamp": "2030-01-01T11:00:00Z",
        },
        "status": {
            "phase": phase,
            "podIP": "10.0.0.9",
            "containerStatuses": [{"name": job["metadata"]["labels"][names.LABEL_COMPONENT], "state": state}],
            **status,
        },
    }


def make_refusal(code: ExitCode, phase: Phase, reason: Cause, message: str = "why") -> str:
    return TerminationMessage(code=code, phase=phase, reason=reason, message=message).encode()


def make_measured(quality: Quality = GOOD, reference: Reference | None = None) -> str:
    return Evaluated(quality=quality, seconds=2.0, reference=reference).encode()


def decide(
    spec: ModelArtifactSpec,
    *children: Manifest,
    by: Iterable[Manifest] = (),
    now: datetime = NOW,
    source: ArtifactFacts | None = SOURCE,
    settings: Settings = SETTINGS,
    refused: str = "",
    mishaps: Mapping[str, str] = MappingProxyType({}),
    **parts: Any,
) -> Told:
    """The plan for an artifact that these objects name, as its pass makes it."""
    artifact = make_artifact(spec, **parts)
    referrers = Referrers(spec.key, by, settings)
    owner = Owner(name=spec.key, namespace=NAMESPACE, uid="a1")
    source = source if spec.quantization is not None else None
    plan = plan_artifact(
        artifact,
        attempts_of(children, artifact_uid="a1", mishaps=mishaps),
        asked=referrers.asked(),
        job_of=job_maker(owner, artifact, source, referrers=referrers, settings=settings),
        source=source,
        now=now,
        ttl=timedelta(seconds=referrers.ttl_seconds(artifact.status)),
        refused=refused,
    )
    kept = referrers.ttl_kept(artifact.status)
    return Told(plan, artifact_status_of(artifact, plan, now=now, ttl_seconds=kept))
