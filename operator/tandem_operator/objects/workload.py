"""The Deployment of one revision of a role."""

from __future__ import annotations

from tandem_operator import names
from tandem_operator.api.deployment import Owner
from tandem_operator.facts import Manifest, RevisionFacts
from tandem_operator.objects.ownership import metadata_of, sealed, selector_of

PROGRESS_DEADLINE_SECONDS = 1800


def workload_of(owner: Owner, frozen: RevisionFacts, *, replicas: int) -> Manifest:
    """Deployment with the frozen pod template and `replicas` pods.

    Its template never changes (another revision is another Deployment), so its own rollout strategy matters only
    when somebody edits it by hand.
    """
    role, revision = frozen.role, frozen.revision
    name = names.role_child_name(owner.name, role, revision=revision)
    return sealed(
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": metadata_of(owner, name, role=role, revision=revision),
            "spec": {
                "replicas": replicas,
                "revisionHistoryLimit": 0,
                "progressDeadlineSeconds": PROGRESS_DEADLINE_SECONDS,
                "selector": {"matchLabels": selector_of(owner, role, revision=revision)},
                "template": frozen.template,
            },
        }
    )
