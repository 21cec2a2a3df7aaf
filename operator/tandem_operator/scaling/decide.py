"""From what was observed to how many replicas, by demand over capacity. Pure: same input, same decision.

Demand is what arrives, plus as much as it may grow by within one cold start, plus the queue. Capacity is what one pod
does within the target, by a model of its step times that is learned. Latency only trims the capacity. Up at once, down
after a hold. What is not known never takes a pod away. Source: ../shared/background/autoscaling.md 6.
"""

from __future__ import annotations

from dataclasses import replace

from tandem_operator.scaling.behavior import limited
from tandem_operator.scaling.decision import Decision, Health, Limited
from tandem_operator.scaling.idling import idle_target
from tandem_operator.scaling.memory import Memory, Wanted
from tandem_operator.scaling.need import Need, figures_of, need_of
from tandem_operator.scaling.observed import Observed
from tandem_operator.scaling.policy import Policy
from tandem_operator.scaling.remembering import changed, cold_start_seconds, hold_seconds, remembered

STARTING_SECONDS = 1800.0
"""A pod that has not become Ready for so long, and for two cold starts, is not waited for."""
FIRST_READING = "the engines are being read for the first time"
SEEING_SHARE = 0.7
"""Of the Ready pods, that have to say something for replicas to change."""


def decide(policy: Policy, seen: Observed, memory: Memory) -> tuple[Decision, Memory]:
    """The decision, and what the next one has to know. Never raises, whatever the engines say."""
    seen = seen.without_standstill(memory.readings)
    memory = remembered(policy, seen, memory)
    health, told = health_of(seen)
    if health is Health.BLIND and _has_just_begun(seen, memory):
        health, told = Health.NEW, FIRST_READING
    figures = figures_of(policy, seen, memory)
    if policy.is_paused:
        # Whatever is needed meanwhile, what there is was not too much for all that is known: the hold begins anew.
        memory = replace(memory, wanted=(*memory.wanted, Wanted(seen.now, seen.wanted)))
        return Decision(seen.wanted, policy.bounds.paused_at(seen.wanted), health, figures=figures), memory
    idle = idle_target(policy, seen, memory)
    if idle is not None:
        replicas, why = idle
        if replicas != seen.wanted:  # no step of the load: it says nothing of patience, nor of `behavior`
            memory = replace(memory, changed_at=seen.now, idle_since=None)
        if replicas == 0:
            figures, memory = figures.at_rest, replace(memory, flow=memory.flow.without_history)
        return Decision(replicas, why, Health.GOOD, figures=figures), memory
    if health in {Health.BLIND, Health.NEW, Health.NO_PODS}:
        kept = policy.bounds.clamped(seen.wanted)
        # What was not seen was needed, for all that is known: the hold begins anew.
        memory = replace(memory, wanted=(*memory.wanted, Wanted(seen.now, kept)))
        return Decision(kept, f"stays at {kept}: {told}", health, figures=figures), memory
    need, figures = need_of(policy, seen, memory, figures)
    memory = replace(memory, wanted=(*memory.wanted, Wanted(seen.now, need.down)))
    target, why = _target(policy, seen, memory, need=need, health=health, told=told)
    bounded = policy.bounds.clamped(target)
    allowed = limited(policy.behavior, wanted=seen.wanted, now=seen.now, target=bounded, changes=memory.changes)
    # Bounds are the user's, and hold at once.
    allowed = policy.bounds.clamped(allowed)
    limit = _limit(policy, need, target=target, allowed=allowed)
    if allowed != seen.wanted:
        memory = changed(policy, memory, now=seen.now, by=allowed - seen.wanted)
    return Decision(allowed, why, health, limit, need.is_learned, figures), memory


def health_of(seen: Observed) -> tuple[Health, str]:
    """Whether the engines can be seen, and what is wrong with it."""
    ready = seen.ready
    if not ready:
        return Health.NO_PODS, "no pod is Ready"
    silent = [pod for pod in ready if not seen.is_fresh(pod.name)]
    if not silent:
        return Health.GOOD, ""
    # One that has been Ready for less than two readings has not been asked yet.
    new = [pod for pod in silent if seen.now - (pod.ready_at or 0.0) < 2 * seen.interval_seconds]
    told = f"{len(silent)} of {len(ready)} Ready pods say nothing new of their load"
    told += f" ({seen.trouble})" if seen.trouble else ""
    if len(new) == len(ready):
        return Health.NEW, FIRST_READING
    is_seen = len(silent) < len(ready) and len(ready) - len(silent) + len(new) >= SEEING_SHARE * len(ready)
    return (Health.PARTIAL if is_seen else Health.BLIND), told


def _has_just_begun(seen: Observed, memory: Memory) -> bool:
    """Whether no engine can have been heard yet, since this process has only just asked."""
    return not seen.readings and seen.now - (memory.since or seen.now) < 2 * seen.interval_seconds


def _target(
    policy: Policy, seen: Observed, memory: Memory, *, need: Need, health: Health, told: str
) -> tuple[int, str]:
    """Up at once; down only once nothing speaks against it."""
    if need.up > seen.wanted:
        window = policy.behavior.up.stabilization_seconds
        least = min((each.replicas for each in memory.wanted if each.at > seen.now - window), default=need.up)
        target = max(seen.wanted, min(need.up, least)) if window else need.up
        return target, need.reason
    if need.down >= seen.wanted:
        is_spare = need.up < seen.wanted
        kept = f"stays at {seen.wanted} (a little more load would need {need.down}); " if is_spare else ""
        return seen.wanted, kept + need.reason
    hold = hold_seconds(policy, memory)
    most = max(each.replicas for each in memory.wanted if each.at > seen.now - hold)
    against = (
        (health is not Health.GOOD, told),
        (_is_starting(policy, seen, memory), "a pod is still starting"),
        (seen.waiting > 0, "requests wait"),
        (_is_missed(policy, seen, memory), "the target is missed"),
        (seen.now - (memory.since or 0.0) < hold, f"{hold:.0f} s have to be seen first"),
        (most >= seen.wanted, f"{most} were needed within {hold:.0f} s"),
    )
    for is_so, why in against:
        if is_so:
            return seen.wanted, f"stays at {seen.wanted} ({why}); {need.reason}"
    return max(most, need.down), need.reason


def _is_starting(policy: Policy, seen: Observed, memory: Memory) -> bool:
    """Whether a pod is that may still become Ready; one that has not for very long keeps no others."""
    longest = max(STARTING_SECONDS, 2 * cold_start_seconds(policy, memory, seen.kind))
    return any(p.ready_at is None and not p.is_going and seen.now - p.created_at < longest for p in seen.pods)


def _limit(policy: Policy, need: Need, *, target: int, allowed: int) -> Limited:
    if not need.is_met and allowed >= policy.bounds.most:
        return Limited.AT_MOST
    if target < policy.bounds.least:
        return Limited.AT_LEAST
    if target != allowed and policy.bounds.least <= target <= policy.bounds.most:
        return Limited.BEHAVIOR
    return Limited.NO


def _is_missed(policy: Policy, seen: Observed, memory: Memory) -> bool:
    """Whether requests miss the target."""
    if not memory.flow.is_coming(now=seen.now):
        return False
    first, output, error = memory.traffic.attainments(policy.target)
    return any(share is not None and share + error < policy.target.share for share in (first, output))
