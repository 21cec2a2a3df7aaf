"""Predicted speed: the published tables, the integer rule against the best of all depths, and monotony."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tandem_contracts.launch import Speculation
from tandem_operator.speed import (
    Assumptions,
    Engine,
    Prediction,
    Unpredictable,
    best_depth,
    predict,
    step_seconds,
    table_lines,
    tokens_per_step,
)
from tests.unit.operator.models import (
    DEEPSEEK_V3,
    H100,
    L4,
    L40S,
    LLAMA_1B,
    LLAMA_8B,
    LLAMA_70B,
    TINY,
    make_card,
    make_cpu,
    make_model,
)

PLAIN_DRAFT = Assumptions(context_tokens=0)
MAX_DEPTH = 16
IN_ENGINE = "InEngine"


def at_best(
    verify_ms: float, draft_ms: float, round_trip_ms: float, acceptance: float, max_depth: int = MAX_DEPTH
) -> Prediction:
    return best_depth(
        "Remote",
        lambda depth: verify_ms / 1000,
        draft_token_seconds=draft_ms / 1000,
        fixed_seconds=round_trip_ms / 1000,
        max_depth=max_depth,
        assumptions=Assumptions(acceptance=acceptance),
    )


@pytest.mark.parametrize(
    ("verify_ms", "draft_ms", "round_trip_ms", "expected"),
    [
        (8, 1.5, 0.5, ["k2 1.36", "k4 1.68", "k5 2.08"]),
        (8, 1.5, 10, ["k0 1.00", "k5 1.03", "k8 1.37"]),
        (25, 2.5, 0.5, ["k3 1.65", "k5 2.16", "k7 2.82"]),
        (25, 2.5, 2, ["k3 1.58", "k5 2.08", "k8 2.72"]),
        (25, 2.5, 10, ["k4 1.28", "k6 1.73", "k8 2.33"]),
        (50, 3, 2, ["k4 1.80", "k6 2.48", "k9 3.39"]),
        (120, 10, 2, ["k3 1.72", "k5 2.29", "k8 3.04"]),
    ],
)
def test_best_depth_and_speedup_are_the_published_ones(
    verify_ms: float, draft_ms: float, round_trip_ms: float, expected: list[str]
) -> None:
    made = [at_best(verify_ms, draft_ms, round_trip_ms, acceptance) for acceptance in (0.60, 0.75, 0.85)]
    assert [f"k{best.depth} {best.speedup:.2f}" for best in made] == expected


@pytest.mark.parametrize(
    ("card", "weights_gb", "draft_ms", "depth", "speedup"),
    [
        pytest.param(L4, 2.4716, 10.3, 1, 0.998, id="L4 bf16"),
        pytest.param(L4, 1.0271, 4.3, 3, 1.42, id="L4 W4A16"),
        pytest.param(L40S, 1.5009, 2.2, 4, 1.85, id="L40S FP8"),
    ],
)
def test_a_slow_draft_card_makes_the_pair_slower_as_in_the_worked_examples(
    card: object, weights_gb: float, draft_ms: float, depth: int, speedup: float
) -> None:
    """A draft of 1.24 billion parameters beside a verify step of 15 ms, acceptance 0.75, round trip 1 ms."""
    draft = Engine(model=replace(LLAMA_1B, weights_bytes=int(weights_gb * 1e9)), accelerator=card)  # type: ignore[arg-type]
    token_ms = step_seconds(draft, tokens_per_row=1, assumptions=PLAIN_DRAFT) * 1000
    assert token_ms == pytest.approx(draft_ms, abs=0.05)
    drafted = [at_best(15, token_ms, 1, 0.75, max_depth=most) for most in (depth, MAX_DEPTH)]
    if speedup < 1:
        assert (drafted[0].depth, drafted[1].depth) == (0, 0), "plain decoding is faster"
        assert tokens_per_step(0.75, depth) * 15 / (15 + 1 + depth * token_ms) == pytest.approx(speedup, abs=0.005)
    else:
        assert drafted[1].depth == depth
        assert drafted[1].speedup == pytest.approx(speedup, abs=0.01)


def by_the_integer_rule(
    verify: Callable[[int], float], draft_seconds: float, fixed_seconds: float, acceptance: float, max_depth: int
) -> int:
    """Draft one more token while a^(k+1) / c > E(k) / T(k), then compare with not drafting at all."""

    def total(depth: int) -> float:
        return verify(depth) + fixed_seconds + depth * draft_seconds

    depth = 1
    while depth < max_depth:
        cost = total(depth + 1) - total(depth)
        if acceptance ** (depth + 1) * total(depth) <= tokens_per_step(acceptance, depth) * cost:
            break
        depth += 1
    return depth if tokens_per_step(acceptance, depth) / total(depth) > 1 / verify(0) else 0


@given(
    floor=st.floats(0.001, 0.2),
    slope=st.floats(0.0, 0.02),
    draft_seconds=st.floats(0.0001, 0.02),
    fixed_seconds=st.floats(0, 0.02),
    acceptance=st.floats(0.05, 0.99),
    max_depth=st.integers(1, MAX_DEPTH),
)
def test_the_integer_rule_finds_the_best_of_all_depths(
    floor: float, slope: float, draft_seconds: float, fixed_seconds: float, acceptance: float, max_depth: int
) -> None:
    """The rule is what an engine can follow step by step; it is exact where the verify step is a roofline."""

    def verify(depth: int) -> float:
        return max(floor, slope * (depth + 1))

    best = best_depth(
        "Remote",
        verify,
        draft_token_seconds=draft_seconds,
        fixed_seconds=fixed_seconds,
        max_depth=max_depth,
        assumptions=Assumptions(acceptance=acceptance),
    )
    depth = by_the_integer_rule(verify, draft_seconds, fixed_seconds, acceptance, max_depth)
    waited = fixed_seconds + depth * draft_seconds if depth else 0.0
    by_rule = tokens_per_step(acceptance, depth) * verify(0) / (verify(depth) + waited)
    assert by_rule == pytest.approx(best.speedup)


@pytest.mark.parametrize("acceptance", [0.0, 0.3, 0.75, 0.999])
def test_tokens_a_step_are_the_geometric_sum(acceptance: float) -> None:
    for depth in range(MAX_DEPTH):
        closed = (1 - acceptance ** (depth + 1)) / (1 - acceptance)
        assert tokens_per_step(acceptance, depth) == pytest.approx(closed)
    assert tokens_per_step(1.0, 4) == 5.0


VERIFIER = Engine(model=LLAMA_70B, accelerator=H100, count=2)
DRAFT = Engine(model=LLAMA_1B, accelerator=L40S)


def predicted(
    verifier: Engine = VERIFIER, draft: Engine | None = DRAFT, max_depth: int = 8, **assumed: float
) -> dict[str, Prediction]:
    assumptions = replace(Assumptions(), **assumed)  # type: ignore[arg-type]
    made = predict(verifier, draft, max_depth=max_depth, assumptions=assumptions)
    assert not isinstance(made, Unpredictable), made
    return {prediction.method: prediction for prediction in made}


def test_a_large_verifier_gains_from_a_small_draft() -> None:
    made = predicted()
    assert list(made) == ["Off", "Remote", IN_ENGINE]
    assert made["Off"].verify_seconds == pytest.approx(0.0264, abs=0.0003)
    assert made["Off"].speedup == 1.0
    assert made["Remote"].draft_token_seconds == pytest.approx(0.00365, abs=0.0001)
    assert made["Remote"].speedup > 1.5
    assert made["Remote"].is_worth_it


def test_a_draft_on_a_slow_card_is_not_worth_it() -> None:
    small = Engine(model=LLAMA_8B, accelerator=H100)
    made = predicted(small, Engine(model=LLAMA_1B, accelerator=L4))
    assert not made["Remote"].is_worth_it
    assert made[IN_ENGINE].is_worth_it, "the same draft on the verifier's own card is"


def test_without_a_draft_only_plain_decoding_is_predicted() -> None:
    assert list(predicted(draft=None)) == ["Off"]


def test_the_shortest_step_of_a_draft_engine_counts_however_small_the_model() -> None:
    tiny = replace(DRAFT, model=make_model(weights_bytes=2_000_000, parameters=1_000_000, layers=1))
    made = predicted(draft=tiny)
    assert made["Remote"].draft_token_seconds == Assumptions().remote_step_seconds
    assert made[IN_ENGINE].draft_token_seconds == Assumptions().in_engine_step_seconds


@pytest.mark.parametrize("unknown", [{"bandwidth_gb_per_second": 0.0}, {"teraflops": 0.0}])
def test_hardware_whose_figures_are_not_known_is_not_predicted(unknown: dict[str, float]) -> None:
    card = replace(H100, **unknown)  # type: ignore[arg-type]
    for verifier, draft in ((replace(VERIFIER, accelerator=card), DRAFT), (VERIFIER, replace(DRAFT, accelerator=card))):
        made = predict(verifier, draft, max_depth=4, assumptions=Assumptions())
        assert isinstance(made, Unpredictable)
        assert "accelerators.h100.bandwidthGBPerSecond" in made.reason


def test_a_large_batch_leaves_no_compute_for_drafts() -> None:
    depths = [predicted(rows=rows)["Remote"].depth for rows in (1, 16, 512)]
    assert depths == sorted(depths, reverse=True)
    assert depths[-1] == 0


def test_a_longer_round_trip_never_speeds_up_and_asks_for_more_drafts_at_once() -> None:
    made = [predicted(max_depth=16, round_trip_seconds=ms / 1000)["Remote"] for ms in (0.5, 1, 2, 5, 10)]
    speedups, depths = [m.speedup for m in made], [m.depth for m in made]
    assert speedups == sorted(speedups, reverse=True)
    assert depths == sorted(depths)


def test_a_mixture_of_experts_reads_more_experts_for_more_tokens() -> None:
    engine = Engine(model=DEEPSEEK_V3, accelerator=make_card(141, bandwidth_gb_per_second=4800, teraflops=989), count=8)
    one, many = (step_seconds(engine, tokens_per_row=tokens, assumptions=Assumptions()) for tokens in (1, 6))
    assert one < many < 6 * one
    dense = replace(engine, model=replace(DEEPSEEK_V3, experts=0, active_experts=0))
    assert many < step_seconds(dense, tokens_per_row=1, assumptions=Assumptions())


def test_packed_weights_count_as_the_most_parameters_that_they_can_hold() -> None:
    packed = replace(VERIFIER, model=replace(LLAMA_70B, parameters=0, weights_bytes=35 * 10**9))
    same = replace(packed, model=replace(packed.model, parameters=70 * 10**9))
    busy = Assumptions(rows=4096)
    assert step_seconds(packed, tokens_per_row=1, assumptions=busy) == step_seconds(
        same, tokens_per_row=1, assumptions=busy
    )


def test_what_the_verifiers_engine_cannot_run_is_not_predicted() -> None:
    tpu = replace(H100, methods=(Speculation.IN_ENGINE, Speculation.OFF))
    assert list(predicted(replace(VERIFIER, accelerator=tpu))) == ["Off", IN_ENGINE]


def test_shares_of_cpu_read_the_cache_once_whatever_the_number_of_heads() -> None:
    cpu = make_cpu(bandwidth_gb_per_second=5.5, teraflops=100)
    slow, fast = (
        step_seconds(Engine(model=TINY, accelerator=cpu, count=shares), tokens_per_row=1, assumptions=Assumptions())
        for shares in (1, 16)
    )
    assert slow == pytest.approx(16 * fast)


CARDS = st.builds(
    make_card,
    st.just(80.0),
    bandwidth_gb_per_second=st.floats(50, 8000),
    teraflops=st.floats(1, 2500),
)


@given(CARDS, st.floats(1, 4), st.floats(1, 4), st.integers(1, 256), st.integers(1, 17))
def test_more_bandwidth_or_compute_is_never_slower(
    card: object, bandwidth: float, compute: float, rows: int, tokens: int
) -> None:
    better = replace(
        card,  # type: ignore[type-var]
        bandwidth_gb_per_second=card.bandwidth_gb_per_second * bandwidth,  # type: ignore[attr-defined]
        teraflops=card.teraflops * compute,  # type: ignore[attr-defined]
    )
    slow, fast = (
        step_seconds(
            replace(VERIFIER, accelerator=each),  # type: ignore[arg-type]
            tokens_per_row=tokens,
            assumptions=Assumptions(rows=rows),
        )
        for each in (card, better)
    )
    assert fast <= slow


@given(CARDS, st.floats(1, 8), st.integers(1, 64))
def test_a_faster_draft_card_never_lowers_the_speedup_of_remote(card: object, factor: float, rows: int) -> None:
    better = replace(card, bandwidth_gb_per_second=card.bandwidth_gb_per_second * factor)  # type: ignore[type-var, attr-defined]
    slow, fast = (predicted(draft=replace(DRAFT, accelerator=each), rows=rows)["Remote"] for each in (card, better))  # type: ignore[arg-type]
    assert fast.speedup >= slow.speedup - 1e-12


@given(CARDS, st.floats(0, 0.99), st.floats(0, 0.99), st.integers(1, 64))
def test_more_acceptance_never_lowers_the_speedup_and_no_method_falls_below_plain(
    card: object, one: float, other: float, rows: int
) -> None:
    low, high = (
        predicted(replace(VERIFIER, accelerator=card), acceptance=a, rows=rows)  # type: ignore[arg-type]
        for a in sorted((one, other))
    )
    for method in ("Remote", IN_ENGINE):
        assert 1.0 <= low[method].speedup <= high[method].speedup + 1e-12


@pytest.mark.parametrize(("speedup", "is_worth_it"), [(1.09, False), (1.1, True), (1.11, True)])
def test_a_speed_up_of_a_tenth_is_worth_it_and_less_is_not(speedup: float, *, is_worth_it: bool) -> None:
    assert replace(at_best(8, 1.5, 0.5, 0.6), speedup=speedup).is_worth_it is is_worth_it


def test_the_table_shows_each_method_and_every_assumption_is_named() -> None:
    assumptions = Assumptions()
    made = predict(VERIFIER, DRAFT, max_depth=5, assumptions=assumptions)
    assert not isinstance(made, Unpredictable)
    lines = list(table_lines(made))
    assert len({len(line) for line in lines}) == 1, "the columns stand under one another"
    assert re.fullmatch(r"Remote +1 +3\.\d ms +26\.\d ms +\d +\d\.\d\d +\d\.\d\dx", lines[2])
    said = assumptions.sentence()
    for part in (
        "acceptance 0.70",
        "round trip 1.0 ms",
        "2048 tokens",
        "80% of the bandwidth",
        "60% of the compute",
        "at least 1.5 ms, 0.40 ms",
    ):
        assert part in said
