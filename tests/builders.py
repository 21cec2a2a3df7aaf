"""Builders for tests: raw resources and the values that the operator makes of them, with sensible parts filled in.

Each builder takes only what the test is about; everything else is a small pair on CPUs. No input, no output.
"""

from __future__ import annotations

import copy
from datetime import UTC, datetime
from functools import partial
from typing import Any

from tandem_contracts.launch import Role
from tandem_operator import names
from tandem_operator.accelerators import table_of
from tandem_operator.api.deployment import LLMDeployment
from tandem_operator.artifact_facts import names_in
from tandem_operator.artifact_needs import Settings
from tandem_operator.config import OperatorConfig
from tandem_operator.facts import Facts, Manifest, PodFacts, Ref, RevisionFacts, ServiceFacts, WorkloadFacts
from tandem_operator.inputs import requested_of, resolve
from tandem_operator.objects.revision import frozen_revision
from tandem_operator.role_inputs import RoleInputs
from tandem_operator.rollout import Clock
from tandem_operator.store import Key, Store

NAME = "pair"
NAMESPACE = "chat"
UID = "11111111-1111-1111-1111-111111111111"
KEY = Key(NAMESPACE, NAME)
CLOCK = Clock(datetime(2030, 1, 1, tzinfo=UTC))


def make_role(
    path: str = "verifier",
    classes: tuple[str, ...] = ("cpu",),
    *,
    count: int | None = 1,
    replicas: int | None = None,
    image: str | None = None,
) -> Manifest:
    """A role as a user writes it; what is None is left out."""
    role: Manifest = {
        "model": {"source": {"persistentVolumeClaim": {"claimName": "models", "path": path}}},
        "accelerator": {"classes": list(classes), **({} if count is None else {"count": count})},
    }
    if replicas is not None:
        role["replicas"] = replicas
    if image is not None:
        role["engine"] = {"image": image}
    return role


def make_spec(**parts: Any) -> Manifest:
    """A pair with method Remote, or what `parts` replace of it; a part that is None is left out."""
    spec = {
        "verifier": make_role("verifier"),
        "draft": make_role("draft"),
        "speculation": {"method": "Remote", "maxDepth": 4},
        **parts,
    }
    return {name: copy.deepcopy(part) for name, part in spec.items() if part is not None}


def make_body(
    spec: Manifest | None = None, name: str = NAME, *, generation: int = 1, uid: str = UID, **metadata: Any
) -> Manifest:
    """An LLMDeployment as the API server gives it."""
    return {
        "apiVersion": names.API_VERSION,
        "kind": names.KIND,
        "metadata": {"name": name, "namespace": NAMESPACE, "uid": uid, "generation": generation, **metadata},
        "spec": make_spec() if spec is None else spec,
    }


def make_deployment(spec: Manifest | None = None, name: str = NAME) -> LLMDeployment:
    """A validated LLMDeployment."""
    return LLMDeployment.parse(make_body(spec, name))


def make_config(**settings: Any) -> OperatorConfig:
    """The operator's configuration, with camelCase keys as in its file."""
    return OperatorConfig.model_validate(settings)


def make_store(config: OperatorConfig | None = None) -> Store:
    """An empty store that knows which artifacts objects name."""
    return Store(partial(names_in, settings=Settings.of(config or OperatorConfig())))


def make_inputs(spec: Manifest | None = None, role: Role = Role.VERIFIER, **settings: Any) -> RoleInputs:
    """Resolved inputs of a role under a configuration of `settings`."""
    config = make_config(**settings)
    return resolve(make_deployment(spec), role, config=config, table=table_of(config))


def make_revision(
    spec: Manifest | None = None, role: Role = Role.VERIFIER, *, number: int = 1, **settings: Any
) -> RevisionFacts:
    """The frozen revision that a spec asks for."""
    deployment = make_deployment(spec)
    inputs = make_inputs(spec, role, **settings)
    return frozen_revision(deployment.owner, inputs, requested=requested_of(deployment, role), number=number)


def make_workload(
    role: Role,
    revision: str,
    *,
    wanted: int = 1,
    ready: int = 1,
    is_observed: bool = True,
    is_going: bool = False,
    message: str = "",
    cannot_create: str = "",
) -> WorkloadFacts:
    """The Deployment of a revision as seen."""
    name = names.role_child_name(NAME, role, revision=revision)
    return WorkloadFacts(
        ref=Ref("Deployment", name),
        uid=f"uid-of-{name}",
        resource_version="7",
        role=role,
        revision=revision,
        wanted=wanted,
        replicas=wanted,
        ready=ready,
        is_observed=is_observed,
        is_going=is_going,
        message=message,
        cannot_create=cannot_create,
    )


def make_pod(
    role: Role,
    revision: str,
    *,
    name: str = "",
    is_ready: bool = True,
    trouble: str = "",
    **parts: Any,
) -> PodFacts:
    """A pod of a revision as seen."""
    name = name or f"{names.role_child_name(NAME, role, revision=revision)}-5d9c8-x2x4q"
    seen: dict[str, Any] = {"address": "10.0.0.7", "is_going": False, "created": datetime(2030, 1, 1, tzinfo=UTC)}
    return PodFacts(
        ref=Ref("Pod", name),
        uid=f"uid-of-{name}",
        role=role,
        revision=revision,
        is_ready=is_ready,
        trouble=trouble,
        **(seen | parts),
    )


def make_raw_pod(role: Role, revision: str, *, name: str = "p", version: int = 1, **status: Any) -> Manifest:
    """A raw pod of a revision, with `status`, as the API server gives it."""
    manifest = make_child("Pod", name, version=version, status=status)
    manifest["apiVersion"] = "v1"
    manifest["metadata"]["creationTimestamp"] = "2030-01-01T00:00:00Z"
    manifest["metadata"]["labels"] |= {names.LABEL_ROLE: role.value, names.LABEL_REVISION: revision}
    return manifest


def make_service(role: Role, selected: str, *, name: str = NAME) -> ServiceFacts:
    """A Service of ours as seen."""
    return ServiceFacts(ref=Ref("Service", name), resource_version="9", role=role, selected_revision=selected)


def make_pair_facts(
    verifier: RevisionFacts, draft: RevisionFacts, *, verifier_ready: int = 1, draft_ready: int = 1
) -> Facts:
    """A pair that is rolled out, with one pod wanted in each role."""
    draft_service = names.draft_service_name(NAME, verifier.revision)
    return Facts(
        revisions=(verifier, draft),
        workloads=(
            make_workload(Role.VERIFIER, verifier.revision, ready=verifier_ready),
            make_workload(Role.DRAFT, draft.revision, ready=draft_ready),
        ),
        services=(
            make_service(Role.VERIFIER, verifier.revision),
            make_service(Role.DRAFT, draft.revision, name=draft_service),
        ),
    )


def make_child(kind: str, name: str, *, version: int = 1, uid: str = "", **parts: Any) -> Manifest:
    """A raw child of the deployment, as the API server gives it."""
    return {
        "apiVersion": "v1" if kind == "Service" else "apps/v1",
        "kind": kind,
        "metadata": {
            "name": name,
            "namespace": NAMESPACE,
            "uid": uid or f"uid-of-{name}",
            "resourceVersion": str(version),
            "labels": {names.LABEL_DEPLOYMENT: NAME, names.LABEL_MANAGED_BY: names.MANAGED_BY},
        },
        **parts,
    }
