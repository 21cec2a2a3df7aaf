"""What the pods cost: by the table's prices, of all that hold accelerators; nothing where a price is not known."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tandem_contracts.launch import Role
from tandem_operator.accelerators import table_of
from tandem_operator.facts import Facts, PodFacts
from tandem_operator.scaling.decision import Figures
from tandem_operator.serving_cost import Cost, cost_of
from tests.builders import make_config, make_pod, make_revision, make_role, make_spec, make_workload
from tests.unit.operator.scaling_world import OUTPUT, PROMPT, World

PAIR = make_spec(
    verifier=make_role("verifier", ("nvidia-h100-80gb",), count=2), draft=make_role("draft", ("nvidia-l4-24gb",))
)
"""6.88 and 0.80 dollars an hour in the table as it is shipped."""
SEVERAL = make_spec(verifier=make_role("verifier", ("nvidia-h100-80gb", "nvidia-h200-141gb")))


def pods(role: Role, revision: str, *names: str, **parts: Any) -> tuple[PodFacts, ...]:
    return tuple(make_pod(role, revision, name=name, **({"node": "n"} | parts)) for name in names)


def cost(spec: Any = PAIR, *more: PodFacts, figures: Figures | None = None, **config: Any) -> Cost | None:
    """Of two verifiers and a draft."""
    verifier, draft = make_revision(spec, **config), make_revision(spec, Role.DRAFT, **config)
    there = (*pods(Role.VERIFIER, verifier.revision, "v0", "v1"), *pods(Role.DRAFT, draft.revision, "d0"), *more)
    facts = Facts(revisions=(verifier, draft), pods=there)
    return cost_of(facts, figures or Figures(), table=table_of(make_config(**config)))


def per_hour(*arguments: Any, **config: Any) -> float | None:
    found = cost(*arguments, **config)
    return found.per_hour if found else None


def test_every_accelerator_of_every_pod_counts_by_the_price_of_its_class() -> None:
    assert per_hour() == pytest.approx(2 * 2 * 6.88 + 0.80)
    dear = {"accelerators": {"nvidia-l4-24gb": {"pricePerHour": "2"}}}
    assert per_hour(**dear) == pytest.approx(2 * 2 * 6.88 + 2.0)
    equal = {"accelerators": {"nvidia-h200-141gb": {"pricePerHour": "6.88"}}}
    assert per_hour({**SEVERAL, "draft": PAIR["draft"]}, **equal) == pytest.approx(2 * 6.88 + 0.80)


def test_pods_that_start_or_go_hold_their_accelerators_and_those_without_a_node_hold_none() -> None:
    revision = make_revision(PAIR).revision
    usual = per_hour() or 0.0
    assert per_hour(PAIR, *pods(Role.VERIFIER, revision, "v2", is_ready=False)) == pytest.approx(usual + 2 * 6.88)
    assert per_hour(PAIR, *pods(Role.VERIFIER, revision, "v2", is_going=True)) == pytest.approx(usual + 2 * 6.88)
    assert per_hour(PAIR, *pods(Role.VERIFIER, revision, "v2", node="")) == pytest.approx(usual)
    assert per_hour(PAIR, *pods(Role.VERIFIER, revision, "v2", is_ready=False, is_over=True)) == pytest.approx(usual)


@pytest.mark.parametrize(
    ("spec", "config"),
    [
        (make_spec(), {}),
        (SEVERAL, {}),
        (PAIR, {"accelerators": {"nvidia-l4-24gb": {"pricePerHour": ""}}}),
    ],
    ids=["class cpu has no price", "only the node knows which class", "one role without a price"],
)
def test_no_figure_rather_than_a_wrong_one(spec: Any, config: Any) -> None:
    assert cost(spec, **config) is None


@pytest.mark.parametrize(
    ("spec", "known"),
    [(PAIR, True), (SEVERAL, True), (make_spec(), False)],
    ids=["a price", "prices", "class cpu has no price"],
)
def test_at_zero_a_deployment_costs_nothing_only_where_its_price_is_known(spec: Any, known: bool) -> None:
    verifier = make_revision(spec)
    at_zero = Facts(revisions=(verifier,), workloads=(make_workload(Role.VERIFIER, verifier.revision, wanted=0),))
    assert cost_of(at_zero, Figures(), table=table_of(make_config())) == (Cost(0.0) if known else None)
    lost = replace(at_zero, revisions=())
    assert cost_of(lost, Figures(), table=table_of(make_config())) is None


def test_of_a_revision_that_is_lost_or_a_class_that_is_gone_nothing_is_known() -> None:
    verifier = make_revision(PAIR)
    there = Facts(revisions=(verifier,), pods=pods(Role.VERIFIER, verifier.revision, "v0"))
    table = table_of(make_config())
    assert cost_of(there, Figures(), table=table) == Cost(2 * 6.88)
    assert cost_of(replace(there, revisions=()), Figures(), table=table) is None
    assert cost_of(there, Figures(), table={}) is None
    assert cost_of(Facts(), Figures(), table=table_of(make_config())) is None, (
        "nobody knows yet what pods there will be"
    )


def test_a_million_tokens_cost_what_an_hour_costs_over_the_tokens_of_an_hour() -> None:
    found = cost(figures=Figures(tokens_rate=5000.0, output_tokens_rate=1000.0))
    assert found is not None
    assert found.per_million_tokens == pytest.approx(found.per_hour / 18.0)
    assert found.per_million_output_tokens == pytest.approx(found.per_hour / 3.6)
    idle = cost()
    assert idle is not None
    assert (idle.per_million_tokens, idle.per_million_output_tokens) == (None, None)


def test_tokens_are_counted_as_they_are_served_whatever_the_load_was_before() -> None:
    world = World(rate=2.0)
    world.run(600)
    world.rate = 5.0
    figures = world.run(1200).figures
    assert figures.output_tokens_rate == pytest.approx(5.0 * OUTPUT, rel=0.02)
    assert figures.tokens_rate == pytest.approx(5.0 * (PROMPT + OUTPUT), rel=0.02)
    world.silent = {"pod-0"}
    assert world.run(60).figures.tokens_rate == 0.0, "nobody knows what that one has served"


def test_tokens_of_long_ago_are_no_pace() -> None:
    world = World(rate=5.0)
    world.run(600)
    world.silent = {engine.name for engine in world.engines}
    assert world.run(60).figures.tokens_rate == 0.0
    world.silent, world.rate = set(), 0.0
    assert world.run(1800).figures.tokens_rate == 0.0


def test_engines_that_are_read_in_turn_serve_no_fewer_tokens() -> None:
    world = World(rate=5.0, wanted=2)
    world.run(300)
    for i in range(240):
        world.silent = {f"pod-{i % 2}"}
        world.tick()
    assert world.decisions[-1].figures.tokens_rate == pytest.approx(5.0 * (PROMPT + OUTPUT), rel=0.1)
