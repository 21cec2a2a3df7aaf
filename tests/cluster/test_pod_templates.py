"""The API server takes the pods of every kind of spec, under PodSecurity `restricted`, and keeps what was rendered."""

from __future__ import annotations

import json
from typing import Any

import pytest

from deploy.place import Place
from tandem_contracts.launch import Role
from tandem_operator.api.deployment import LLMDeployment, Owner
from tandem_operator.drift import needs_apply
from tandem_operator.objects.ownership import sealed
from tandem_operator.objects.pod_template import pod_template_of
from tests.builders import make_inputs
from tests.documents import BASES, Manifest, body_of

SETTINGS: dict[str, Any] = {"engineImageAllowList": [".*"]}
READY = [base for base in BASES if "cache" not in base]
"""Those whose models need not be made first."""


def with_counts(spec: Manifest) -> Manifest:
    """The same with a count in each role, so that no model has to be known."""
    sized = {
        role: {**spec[role], "accelerator": {"count": 1, **spec[role]["accelerator"]}} for role in Role if role in spec
    }
    return {**spec, **sized}


@pytest.mark.parametrize("base", READY)
def test_the_pods_of_a_spec_are_accepted_as_rendered(place: Place, namespace: str, base: Manifest) -> None:
    spec = with_counts(base)
    deployment = LLMDeployment.parse(body_of(spec))
    owner = Owner(name="pair", namespace=namespace, uid="11111111-1111-1111-1111-111111111111")
    for role in Role:
        if deployment.role(role) is None:
            continue
        template = pod_template_of(owner, make_inputs(spec, role, **SETTINGS))
        _provide(place, namespace, template["spec"])
        metadata = {"name": f"pair-{role}", "namespace": namespace, "labels": template["metadata"]["labels"]}
        _created(place, {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template["spec"]})
        # Admission adds tolerations to pods; what is kept of a template shows in a Deployment.
        workload = sealed(
            {
                "apiVersion": "apps/v1",
                "kind": "Deployment",
                "metadata": metadata,
                "spec": {"selector": {"matchLabels": metadata["labels"]}, "template": template},
            }
        )
        assert not needs_apply(workload, _created(place, workload)), role


def _created(place: Place, manifest: Manifest) -> Manifest:
    """What the API server would keep."""
    answer = place.run("create", "--dry-run=server", "-o", "json", "-f", "-", stdin=json.dumps(manifest))
    kept: Manifest = json.loads(answer)
    return kept


def _provide(place: Place, namespace: str, pod: Manifest) -> None:
    """What must be there before a pod is admitted: its ServiceAccount and its PriorityClass."""
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": pod["serviceAccountName"]}}
    place.apply(account, namespace=namespace)
    if "priorityClassName" in pod:
        metadata = {"name": pod["priorityClassName"]}
        place.apply({"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": metadata, "value": 1})
