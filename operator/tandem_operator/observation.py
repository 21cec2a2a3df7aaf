"""All that status is derived from, as one value, and what of it more than one check asks for. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from tandem_contracts.launch import Role
from tandem_operator.artifact_facts import ArtifactQuality
from tandem_operator.assessment import UNASSESSED, Assessment
from tandem_operator.benchmark_facts import Benchmark
from tandem_operator.cold_start import ColdStart
from tandem_operator.facts import Facts
from tandem_operator.measured_speculation import Measured
from tandem_operator.names import ConditionType
from tandem_operator.plan import Plan
from tandem_operator.rollout import Wait
from tandem_operator.scaling_status import Scaled
from tandem_operator.targets import Problem
from tandem_operator.verdict import Verdict


@dataclass(frozen=True)
class Observation:
    """All that status is derived from."""

    name: str
    generation: int
    facts: Facts
    plan: Plan
    problem: Problem | None = None
    """The spec is refused; the last good revision goes on."""
    predecessors: tuple[str, ...] = ()
    """Objects of an earlier resource of this name that are in the way until they are collected."""
    refused: tuple[str, ...] = ()
    """What the API server refused in this pass, in its own words."""
    unanswered: tuple[str, ...] = ()
    """What it failed at, or gave no answer to: passes by itself."""
    cold_start: ColdStart | None = None
    """The last start of a verifier pod, if one was seen since the operator runs."""
    assessment: Assessment = UNASSESSED
    """What is known of the models."""
    scaled: Scaled | None = None
    """What autoscaling has decided; None without it."""
    benchmark: Benchmark | None = None
    """The newest one of those whose Jobs are still there."""
    qualities: Mapping[Role, ArtifactQuality] = field(default_factory=dict)
    """Of the quantized models that the roles serve."""
    measured: Measured | None = None
    """What verifiers have measured of remote drafts lately; None while there is too little traffic."""


def wait_of(observation: Observation, condition: ConditionType) -> Wait | None:
    """What the plan waits for before the condition can hold."""
    return next((wait for wait in observation.plan.waits if wait.condition is condition), None)


def waiting_for(observation: Observation, condition: ConditionType) -> Verdict | None:
    """The same as a verdict."""
    wait = wait_of(observation, condition)
    return Verdict(holds=False, reason=wait.reason, message=wait.message) if wait else None
