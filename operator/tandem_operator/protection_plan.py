"""Which ServiceAccounts, NetworkPolicies, PodDisruptionBudgets and published keys there should be now. Pure.

They go before the pods that they are for, and stay until the last of those pods is gone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from tandem_contracts.launch import Role
from tandem_operator.api.access import Peer
from tandem_operator.api.deployment import LLMDeploymentSpec, Owner
from tandem_operator.config import OperatorConfig
from tandem_operator.facts import Facts, Manifest, ProtectionFacts, Ref
from tandem_operator.objects.draft_access import keys_config_map_of
from tandem_operator.objects.protection import Watchers, disruption_budget_of, network_policy_of, service_account_of


@dataclass(frozen=True)
class Terms:
    """What the spec and the operator's configuration say of it."""

    allowed_from: tuple[Peer, ...] = ()
    """Clients of the verifiers; none named: everybody."""
    is_spec_known: bool = True
    """False for a spec that cannot be read: who may talk to the verifiers then stays as it is."""
    watchers: Watchers = field(default_factory=Watchers)
    traces_namespaces: tuple[str, ...] = ()
    """Where verifiers send traces."""
    pull_secrets: tuple[str, ...] = ()
    has_gate: bool = False
    """A wake gate passes requests on to the verifiers, or may."""


ANYBODY = Terms()


def terms_of(spec: LLMDeploymentSpec | None, config: OperatorConfig) -> Terms:
    """The terms of a spec under the operator's configuration; None is a spec that cannot be read."""
    return Terms(
        allowed_from=spec.access.allowed_from if spec else (),
        is_spec_known=spec is not None,
        watchers=watchers_of(config),
        traces_namespaces=config.traces.namespaces if config.traces.url else (),
        pull_secrets=config.engine_pull_secrets,
    )


def watchers_of(config: OperatorConfig) -> Watchers:
    """Who reads the metrics of pods under the operator's configuration."""
    return Watchers(config.prometheus_namespaces, config.operator_namespace)


@dataclass(frozen=True)
class Served:
    """The pods of a role that serve: wanted replicas, and their revision (empty: they are of several)."""

    replicas: int
    revision: str = ""
    checks_tokens: bool = False
    """They need the keys that the API server publishes."""


@dataclass(frozen=True)
class Protection:
    """The step: what to apply before the pods, what to delete, and why."""

    apply: tuple[Manifest, ...]
    delete: tuple[ProtectionFacts, ...]
    details: tuple[str, ...]


def plan_protection(owner: Owner, facts: Facts, served: Mapping[Role, Served], *, terms: Terms) -> Protection:
    """The protection of every role that is served; a role that is not keeps its own while it has pods."""
    wanted: list[Manifest] = []
    kept: set[Ref] = set()
    for role in Role:
        mine = [protection.ref for protection in facts.protections if protection.role is role]
        if role in served:
            wanted += _protection_of(owner, role, served[role], terms=terms)
            kept.update(ref for ref in mine if ref.kind == "NetworkPolicy" and not terms.is_spec_known)
            if served[role].checks_tokens and facts.issuer_keys.issuer:
                wanted.append(keys_config_map_of(owner, facts.issuer_keys))
            elif served[role].checks_tokens:  # those that were read before are better than none
                kept.update(ref for ref in mine if ref.kind == "ConfigMap")
        elif facts.workloads_of(role) or any(pod.role is role for pod in facts.pods):
            kept.update(mine)
    kept.update(Ref.of(manifest) for manifest in wanted)
    superfluous = tuple(protection for protection in facts.protections if protection.ref not in kept)
    details = tuple(f"{p.ref.kind} {p.ref.name} is deleted: {_why(p, served)}" for p in superfluous)
    return Protection(tuple(wanted), superfluous, details)


def _protection_of(owner: Owner, role: Role, served: Served, *, terms: Terms) -> list[Manifest]:
    objects = [service_account_of(owner, role, pull_secrets=terms.pull_secrets)]
    if terms.is_spec_known or role is Role.DRAFT:
        policy = network_policy_of(
            owner,
            role,
            allowed_from=terms.allowed_from,
            watchers=terms.watchers,
            has_gate=terms.has_gate,
            traces_namespaces=terms.traces_namespaces,
        )
        objects.append(policy)
    if _is_budget_of_use(served):
        objects.append(disruption_budget_of(owner, role, revision=served.revision))
    return objects


def _is_budget_of_use(served: Served) -> bool:
    """One pod that may be missing of one is no budget; one of none allows no eviction, were there a pod after all."""
    return served.replicas > 1


def _why(protection: ProtectionFacts, served: Mapping[Role, Served]) -> str:
    if protection.role not in served:
        return "the last pod of its role is gone"
    if protection.ref.kind == "PodDisruptionBudget" and not _is_budget_of_use(served[protection.role]):
        return "one pod has no other to wait for"
    return "nothing of that name is wanted"
