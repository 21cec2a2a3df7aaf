"""How many replicas the load asks for, before holds and limits. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from tandem_operator.scaling.capacity import DOWN_SIGMAS, UP_SIGMAS, Engine, Load, Sizing
from tandem_operator.scaling.decision import Figures
from tandem_operator.scaling.flow import MIDDLE_SECONDS, SURGE_LAG_SECONDS
from tandem_operator.scaling.idling import counted
from tandem_operator.scaling.memory import Memory
from tandem_operator.scaling.observed import Observed
from tandem_operator.scaling.policy import Policy, Strategy
from tandem_operator.scaling.remembering import cold_start_seconds

DRAIN_SECONDS = 60.0
"""In which the queue is to be worked off."""
DOWN_ERRORS = 2.0
"""Standard errors of the rate, by which it may turn out to be higher than it looks on the way down. With less, a load
whose need lies between two numbers of pods has one taken away and brought back again and again.
"""
TOLD_DERATE, LEAST_TOLD = 0.995, 0.005
"""What would be rounded to all, or to nothing, is not told."""
KV_FULL, QUEUE_FULL = 0.7, 2.0
"""Rule of thumb while nothing is learned: one more pod where the KV cache, or the queue of a pod, is so full."""


@dataclass(frozen=True)
class Need:
    """Replicas."""

    up: int
    down: int
    """A little more, for what the rate may be in truth: what may not be gone below."""
    reason: str
    is_met: bool = True
    """Whether so many would be enough."""
    is_learned: bool = False


def figures_of(policy: Policy, seen: Observed, memory: Memory) -> Figures:
    """What is known of demand and of how it is served; nothing of the capacity yet."""
    kind = seen.kind
    traffic = memory.traffic
    first, output, error = traffic.attainments(policy.target)
    cold_start = cold_start_seconds(policy, memory, kind)
    told = [pod.name for pod in seen.ready if pod.name in seen.readings]
    # What a pod has served that has fallen silent is not known.
    is_served = traffic.is_known and bool(told) and all(map(seen.is_fresh, told))
    return Figures(
        requests_rate=memory.flow.estimate(now=seen.now),
        surge_rate=memory.flow.surge(quantile=policy.surge_quantile, horizon_seconds=cold_start + SURGE_LAG_SECONDS),
        prompt_tokens=traffic.request_prompt_tokens * traffic.computed_share if traffic.is_known else 0.0,
        output_tokens=traffic.request_output_tokens if traffic.is_known else 0.0,
        cold_start_seconds=cold_start,
        first_token_attainment=first,
        output_token_attainment=output,
        attainment_error=error,
        samples=round(memory.learned[kind].samples) if kind in memory.learned else 0,
        tokens_rate=traffic.tokens_rate if is_served else 0.0,
        output_tokens_rate=traffic.output_tokens_rate if is_served else 0.0,
    )


def need_of(policy: Policy, seen: Observed, memory: Memory, figures: Figures) -> tuple[Need, Figures]:
    """By the model of step times, or by rule of thumb; and the figures with those of the capacity."""
    learned = memory.learned.get(seen.kind)
    if policy.strategy is Strategy.CONCURRENCY or learned is None or not learned.model or not memory.traffic.is_known:
        return _need_by_count(policy, seen), figures
    traffic = memory.traffic
    load = Load(
        prompt_tokens=traffic.request_prompt_tokens,
        computed_tokens=traffic.request_prompt_tokens * traffic.computed_share,
        output_tokens=traffic.request_output_tokens,
        tokens_per_step=traffic.tokens_per_step,
        spread=traffic.spread(policy.target.share),
    )
    kv_tokens = max((reading.kv_tokens for reading in seen.readings.values()), default=0.0)
    engine = Engine(learned.model, kv_tokens, policy.most_requests, memory.derate)
    sizing = Sizing(engine, load, policy.target)
    capacity = sizing.capacity()
    figures = replace(figures, capacity_rate=capacity.rate)
    waiting = seen.waiting
    rate = (figures.requests_rate + figures.surge_rate) / seen.seen_share + waiting / DRAIN_SECONDS
    most = policy.bounds.most
    up = sizing.need(rate, most=most, sigmas=UP_SIGMAS)
    error = math.sqrt(figures.requests_rate / MIDDLE_SECONDS) / seen.seen_share
    down = sizing.need(rate + DOWN_ERRORS * error, most=most, sigmas=DOWN_SIGMAS)
    reason = (
        f"needs {up or f'more than {most}'}: {_demand(figures, waiting)}, "
        f"{load.steps * capacity.step_seconds:.1f} s each at most; a pod does {_rate(capacity.rate)} requests/s, "
        f"{capacity.requests:.1f} at once"
    )
    if memory.derate < TOLD_DERATE:
        reason += f", counted as {memory.derate:.0%} of what was learned since requests missed the target"
    too_few = up - 1 if up else most
    if too_few and (shortage := sizing.shortage(rate, too_few, UP_SIGMAS)):
        reason += f"; with {too_few}: {shortage}"
    if not sizing.is_in_reach:
        reason += f"; a request alone takes {sizing.alone_seconds:.2f} s to its first token"
    return Need(up or most, down or most, reason, is_met=up is not None, is_learned=True), figures


def _demand(figures: Figures, waiting: float) -> str:
    """What comes, what may come, and what waits."""
    told = f"{_rate(figures.requests_rate)} requests/s"
    if figures.surge_rate >= LEAST_TOLD:
        start = figures.cold_start_seconds
        told += f" and {_rate(figures.surge_rate)} for what a cold start of {start:.0f} s may bring"
    return f"{told} and {waiting:.0f} that wait" if waiting else told


def _rate(rate: float) -> str:
    """A second; with two digits after the point where one would leave none."""
    return f"{rate:.2f}" if rate < 1 else f"{rate:.1f}"


def _need_by_count(policy: Policy, seen: Observed) -> Need:
    """As many pods as hold the requests in work, and one more where engines are full."""
    fresh = seen.fresh
    work = sum(each.running + each.waiting for each in fresh) / seen.seen_share + seen.held
    count = max(1, math.ceil(work / policy.requests_per_pod))
    reason = f"needs {count}: {counted(work)} in work, {policy.requests_per_pod:.0f} a pod"
    is_learning = policy.strategy is Strategy.HEADROOM
    if is_learning:
        reason += " as a rule of thumb while its pace is still to be learned"
    is_full = any(each.kv_usage > KV_FULL or each.waiting > QUEUE_FULL for each in fresh)
    if is_full and is_learning and count <= seen.wanted and not seen.is_warming:
        count = seen.wanted + 1
        reason = f"needs {count}: an engine is full, and its pace is still to be learned"
    most = policy.bounds.most
    return Need(min(count, most), min(count, most), reason, is_met=count <= most)
