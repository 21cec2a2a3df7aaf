"""The ControllerRevision of a role's revision: what was requested, what it resolved to, the template as rendered."""

from __future__ import annotations

import json

from tandem_operator import names
from tandem_operator.api.deployment import Owner
from tandem_operator.facts import Manifest, RevisionFacts
from tandem_operator.objects.devices import claim_spec_of
from tandem_operator.objects.ownership import metadata_of, sealed
from tandem_operator.objects.pod_template import pod_template_of
from tandem_operator.role_inputs import RoleInputs


def frozen_revision(owner: Owner, inputs: RoleInputs, *, requested: Manifest, number: int) -> RevisionFacts:
    """Freeze a new revision: later passes use its template as it is now, whatever the operator learns to render."""
    return RevisionFacts(
        role=inputs.role,
        revision=inputs.revision,
        number=number,
        requested=requested,
        resolved=inputs.as_data(),
        template=pod_template_of(owner, inputs),
        claim=claim_spec_of(inputs),
    )


def revision_object_of(owner: Owner, frozen: RevisionFacts) -> Manifest:
    """The object that keeps a frozen revision. Its data is immutable for the API server too; what becomes of it is
    written beside them.
    """
    name = names.role_child_name(owner.name, frozen.role, revision=frozen.revision)
    metadata = metadata_of(owner, name, role=frozen.role, revision=frozen.revision)
    notes = {
        names.ANNOTATION_FAILED: frozen.failed,
        names.ANNOTATION_REFRESHED: frozen.refreshed,
        names.ANNOTATION_WORDINGS: json.dumps(frozen.wordings) if frozen.wordings else "",
    }
    if any(notes.values()):
        metadata["annotations"] = {key: value for key, value in notes.items() if value}
    return sealed(
        {
            "apiVersion": "apps/v1",
            "kind": "ControllerRevision",
            "metadata": metadata,
            "revision": frozen.number,
            "data": {
                "requested": frozen.requested,
                "resolved": frozen.resolved,
                "template": frozen.template,
                **({"claim": frozen.claim} if frozen.claim else {}),
            },
        }
    )
