"""What `tandem plan` says of autoscaling, as comments: bounds, targets, the way to zero, and the gate's objects."""

from __future__ import annotations

from collections.abc import Iterator

from tandem_contracts.launch import Role
from tandem_operator import names
from tandem_operator.api.autoscaling import LatencyTargets
from tandem_operator.api.deployment import LLMDeployment
from tandem_operator.config import OperatorConfig
from tandem_operator.facts import Manifest
from tandem_operator.gate_plan import Gatekeeping, Rest, gate_objects_of
from tandem_operator.protection_plan import terms_of
from tandem_operator.scaling_terms import gate_terms_of


def scaling_lines(deployment: LLMDeployment) -> Iterator[str]:
    """Nothing without spec.autoscaling."""
    autoscaling = deployment.spec.autoscaling
    if autoscaling is None:
        return
    yield f"scaling: {_targets(autoscaling.slo)}, by {autoscaling.strategy}"
    for role, bounds in ((Role.VERIFIER, autoscaling.verifier), (Role.DRAFT, autoscaling.draft)):
        spec = deployment.role(role)
        if spec is None or not deployment.uses(role):
            continue
        if bounds is None:
            yield f"  {role}: always {spec.replicas}"
            continue
        first = bounds.clamped(spec.replicas)
        yield f"  {role}: {bounds.min_replicas} to {bounds.max_replicas} replicas, {first} at first"
    if autoscaling.paused:
        yield "  paused: replicas stay as they are"
    idle, name = autoscaling.idle, deployment.owner.name
    if idle is None:
        yield "  never to zero: idle is omitted"
    else:
        yield (
            f"  to zero after {idle.after} without a request; then the wake gate holds {idle.max_held_requests} "
            f"requests at most, each for {idle.hold_timeout}, until a verifier is Ready"
        )
    yield f"ConfigMap {names.scaling_name(name)}: made beside these, with what scaling has learned"


def gate_of(deployment: LLMDeployment, config: OperatorConfig) -> tuple[Manifest, ...]:
    """What is made on the way to zero, and goes once a verifier is Ready; nothing where there is no zero."""
    keeping, terms = keeping_of(deployment, config), terms_of(deployment.spec, config)
    return tuple(gate_objects_of(deployment.owner, Rest(0, has_gate=True), keeping, terms=terms))


def keeping_of(deployment: LLMDeployment, config: OperatorConfig) -> Gatekeeping:
    """All that is known of a gate before there is one."""
    return Gatekeeping(gate_terms_of(deployment, config))


def _targets(slo: LatencyTargets) -> str:
    first, output = slo.time_to_first_token, slo.time_per_output_token
    within = [f"{first} to the first token"] if first else []
    within += [f"{output} a token after it"] if output else []
    return f"{slo.percentile} % of requests within {' and '.join(within)}"
