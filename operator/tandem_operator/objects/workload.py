"""The Deployment of one revision of a role."""

from __future__ import annotations

from datetime import datetime

from tandem_operator import names
from tandem_operator.api.deployment import Owner
from tandem_operator.facts import Manifest, RevisionFacts
from tandem_operator.objects.ownership import metadata_of, sealed, selector_of


def workload_of(
    owner: Owner,
    frozen: RevisionFacts,
    *,
    replicas: int,
    progress_deadline_seconds: int,
    draining_since: datetime | None = None,
) -> Manifest:
    """Deployment with the frozen pod template and `replicas` pods.

    Its template never changes (another revision is another Deployment), so its own rollout strategy matters only
    when somebody edits it by hand.
    """
    role, revision = frozen.role, frozen.revision
    name = names.role_child_name(owner.name, role, revision=revision)
    metadata = metadata_of(owner, name, role=role, revision=revision)
    if draining_since:
        metadata["annotations"] = {names.ANNOTATION_DRAINING: draining_since.isoformat(timespec="seconds")}
    return sealed(
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": metadata,
            "spec": {
                "replicas": replicas,
                "revisionHistoryLimit": 0,
                "progressDeadlineSeconds": progress_deadline_seconds,
                "selector": {"matchLabels": selector_of(owner, role, revision=revision)},
                "template": frozen.template,
            },
        }
    )
