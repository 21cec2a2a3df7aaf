"""What scaling exports of its decisions, and that nothing stays of a deployment that it does not scale any more."""

from __future__ import annotations

from prometheus_client import REGISTRY

from tandem_contracts.launch import Role
from tandem_operator import scaling_figures
from tandem_operator.scaling.decision import Decision, Figures, Health
from tandem_operator.scaling.drafts import DraftDecision
from tandem_operator.scaling.policy import Bounds, Policy, Target
from tandem_operator.serving_cost import Cost
from tandem_operator.store import Key

KEY = Key("n", "x")
POLICY = Policy(Target(95.0, first_token_seconds=2.0), Bounds(1, 8))


def value(name: str, **labels: str) -> float | None:
    return REGISTRY.get_sample_value(f"tandem_scaling_{name}", {"namespace": "n", "deployment": "x", **labels})


def test_a_decision_is_exported_and_goes_with_the_deployment() -> None:
    figures = Figures(9.0, surge_rate=1.5, capacity_rate=4.2, cold_start_seconds=104.0, first_token_attainment=0.97)
    cost = Cost(13.76, per_million_tokens=0.09)
    scaling_figures.show(KEY, Decision(3, "because", Health.BLIND, figures=figures), cost, policy=POLICY)
    assert (value("cost_per_hour"), value("cost_per_million_tokens", tokens="all")) == (13.76, 0.09)
    assert value("cost_per_million_tokens", tokens="output") is None
    assert (value("target_ratio"), value("target_seconds", target="timeToFirstToken")) == (0.95, 2.0)
    assert value("target_seconds", target="timePerOutputToken") is None
    assert [value("replicas_bound", role="verifier", bound=bound) for bound in ("min", "max")] == [1, 8]
    assert value("desired_replicas", role="verifier") == 3
    assert (value("requests_per_second"), value("blind", role="verifier")) == (9.0, 1)
    assert (value("surge_per_second"), value("cold_start_seconds")) == (1.5, 104.0)
    assert value("replica_requests_per_second") == 4.2
    assert value("attainment_ratio", target="timeToFirstToken") == 0.97
    assert value("attainment_ratio", target="timePerOutputToken") is None
    scaling_figures.show(KEY, Decision(3, "because"), None, policy=POLICY)
    assert value("cost_per_hour") is None
    assert value("cost_per_million_tokens", tokens="all") is None
    scaling_figures.show(KEY, Decision(3, "because"), cost, policy=POLICY)
    assert value("attainment_ratio", target="timeToFirstToken") is None
    assert value("replica_requests_per_second") is None, "nothing is learned, which is not that a replica does nothing"
    scaling_figures.forget(KEY)
    left = [
        sample for family in REGISTRY.collect() for sample in family.samples if sample.labels.get("deployment") == "x"
    ]
    assert left == []


def test_a_decision_on_drafts_is_exported_beside_it_and_goes_by_itself() -> None:
    scaling_figures.show(KEY, Decision(3, "because"), None, policy=POLICY)
    decision = DraftDecision(2, "because", Health.BLIND, tokens_rate=1500.0, capacity_rate=2000.0)
    scaling_figures.show_drafts(KEY, decision, Bounds(0, 4))
    assert [value("desired_replicas", role=role) for role in ("verifier", "draft")] == [3, 2]
    assert [value("blind", role=role) for role in ("verifier", "draft")] == [0, 1]
    assert [value("replicas_bound", role="draft", bound=bound) for bound in ("min", "max")] == [0, 4]
    assert (value("draft_tokens_per_second"), value("draft_replica_tokens_per_second")) == (1500, 2000)
    scaling_figures.show_drafts(KEY, DraftDecision(0, "because", is_off=True, capacity_rate=2000.0), Bounds(0, 4))
    assert (value("draft_tokens_per_second"), value("drafts_off")) == (None, 1)
    scaling_figures.forget_drafts(KEY)
    assert [value("desired_replicas", role=role) for role in ("verifier", "draft")] == [3, None]
    assert (value("draft_replica_tokens_per_second"), value("drafts_off")) == (None, None)
    assert value("replicas_bound", role="draft", bound="max") is None
    scaling_figures.forget(KEY)


def changes(role: str) -> list[float | None]:
    return [value("changes_total", role=role, direction=direction) for direction in ("up", "down")]


def test_changes_are_counted_from_0_on_since_an_increase_from_nothing_is_none() -> None:
    scaling_figures.show(KEY, Decision(3, "because"), None, policy=POLICY)
    assert (changes("verifier"), changes("draft")) == ([0, 0], [None, None])
    scaling_figures.show_drafts(KEY, DraftDecision(2, "because"), Bounds(0, 4))
    assert changes("draft") == [0, 0]
    scaling_figures.count_change(KEY, before=3, after=4, role=Role.VERIFIER)
    scaling_figures.count_change(KEY, before=2, after=1, role=Role.DRAFT)
    scaling_figures.show(KEY, Decision(4, "because"), None, policy=POLICY)
    scaling_figures.show_drafts(KEY, DraftDecision(1, "because"), Bounds(0, 4))
    assert (changes("verifier"), changes("draft")) == ([1, 0], [0, 1])
    scaling_figures.forget_drafts(KEY)
    assert (changes("verifier"), changes("draft")) == ([1, 0], [None, None])
    scaling_figures.forget(KEY)
    assert changes("verifier") == [None, None]


def test_deployments_of_one_name_in_two_namespaces_have_figures_of_their_own() -> None:
    other = Key("other", "x")
    scaling_figures.show(KEY, Decision(3, "because"), None, policy=POLICY)
    scaling_figures.show(other, Decision(5, "because"), None, policy=POLICY)
    assert value("desired_replicas", role="verifier") == 3
    scaling_figures.forget(KEY)
    assert value("desired_replicas", role="verifier") is None
    assert value("desired_replicas", role="verifier", namespace="other") == 5
    scaling_figures.forget(other)
