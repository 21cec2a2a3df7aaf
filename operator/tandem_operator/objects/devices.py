"""How the pods of a revision claim their accelerators, where they do not ask for an extended resource.

Pure. Dynamic resource allocation, `resource.k8s.io/v1`: a claim is rendered and frozen with the revision, like its pod
template; Kubernetes makes each pod a ResourceClaim of its own from the ResourceClaimTemplate, and deletes it.
"""

from __future__ import annotations

from tandem_operator import names
from tandem_operator.accelerators import AcceleratorClass
from tandem_operator.api.deployment import Owner
from tandem_operator.facts import Manifest, RevisionFacts
from tandem_operator.objects.ownership import metadata_of, sealed
from tandem_operator.role_inputs import RoleInputs

CLAIM = "accelerator"
"""Name of the claim within the pod, and of the request within the claim."""


def pod_claims_of(owner: Owner, inputs: RoleInputs) -> Manifest:
    """`resourceClaims` of the pod; empty without a claim."""
    if not inputs.accelerator.is_claimed:
        return {}
    name = names.role_child_name(owner.name, inputs.role, revision=inputs.revision)
    return {"resourceClaims": [{"name": CLAIM, "resourceClaimTemplateName": name}]}


def claim_spec_of(inputs: RoleInputs) -> Manifest:
    """Spec of each pod's ResourceClaim, empty without one: one request; of several classes the first that is there."""
    if not inputs.accelerator.is_claimed:
        return {}
    if len(inputs.accelerators) == 1:
        return {"devices": {"requests": [{"name": CLAIM, "exactly": _devices(inputs.accelerator, inputs.count)}]}}
    ranked = [{"name": each.name, **_devices(each, inputs.count)} for each in inputs.accelerators]
    return {"devices": {"requests": [{"name": CLAIM, "firstAvailable": ranked}]}}


def claim_template_of(owner: Owner, frozen: RevisionFacts) -> Manifest:
    """The ResourceClaimTemplate of a revision that has a claim. Its spec is immutable for the API server too."""
    name = names.role_child_name(owner.name, frozen.role, revision=frozen.revision)
    return sealed(
        {
            "apiVersion": "resource.k8s.io/v1",
            "kind": names.CLAIM_TEMPLATE_KIND,
            "metadata": metadata_of(owner, name, role=frozen.role, revision=frozen.revision),
            "spec": {"spec": frozen.claim},
        }
    )


def _devices(accelerator: AcceleratorClass, count: int) -> Manifest:
    selectors = [{"cel": {"expression": expression}} for expression in accelerator.device_selectors]
    return {
        "deviceClassName": accelerator.device_class,
        "allocationMode": "ExactCount",
        "count": int(accelerator.quantity) * count,
        **({"selectors": selectors} if selectors else {}),
    }
