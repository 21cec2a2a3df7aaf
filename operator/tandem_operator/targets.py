"""Which revision a spec asks for: a frozen one where one fits, else a new one. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from tandem_contracts.launch import Role
from tandem_operator.accelerators import AcceleratorClass
from tandem_operator.api.deployment import LLMDeployment
from tandem_operator.config import OperatorConfig
from tandem_operator.facts import Facts, RevisionFacts
from tandem_operator.inputs import is_same_request, requested_of, resolve
from tandem_operator.objects.revision import frozen_revision
from tandem_operator.plan import Want


def wants_of(
    deployment: LLMDeployment, facts: Facts, *, config: OperatorConfig, table: Mapping[str, AcceleratorClass]
) -> dict[Role, Want]:
    """What the spec wants of each role that it uses.

    Raises RejectedSpecError when a new revision cannot be resolved.
    """
    wants = {}
    for role in Role:
        spec = deployment.role(role)
        if spec is not None and deployment.uses(role):
            wants[role] = Want(_target(deployment, facts, role=role, config=config, table=table), spec.replicas)
    return wants


def _target(
    deployment: LLMDeployment,
    facts: Facts,
    *,
    role: Role,
    config: OperatorConfig,
    table: Mapping[str, AcceleratorClass],
) -> RevisionFacts:
    requested = requested_of(deployment, role)
    history = facts.revisions_of(role)
    for frozen in history:
        if is_same_request(frozen.requested, requested):
            return frozen
    inputs = resolve(deployment, role, config=config, table=table)
    for frozen in history:
        if frozen.revision == inputs.revision:
            return frozen  # asked for in other words (a default written out): the same pods
    number = 1 + max((frozen.number for frozen in history), default=0)
    return frozen_revision(deployment.owner, inputs, requested=requested, number=number)
