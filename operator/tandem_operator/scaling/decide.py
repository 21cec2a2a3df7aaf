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
        memory = _with_need(memory, seen.now, seen.wanted)
        paused = Decision(seen.wanted, policy.bounds.paused_at(seen.wanted), health, figures=figures)
        return (paused, memory) if seen.wanted else (replace(paused, figures=figures.at_rest), memory.at_rest)
    idle = idle_target(policy, seen, memory)
    if idle is not None:
        replicas, why = idle
        if replicas != seen.wanted:  # no step of the load: it says nothing of patience, nor of `behavior`
            memory = replace(memory, changed_at=seen.now, idle_since=None)
        decision = Decision(replicas, why, Health.GOOD, figures=figures)
        if replicas:
            return decision, _with_need(memory, seen.now, replicas)
        return replace(decision, figures=figures.at_rest), memory.at_rest
    if health in {Health.BLIND, Health.NEW, Health.NO_PODS}:
        kept = policy.bounds.clamped(seen.wanted)
        # What was not seen was needed, for all that is known: the hold begins anew.
        memory = _with_need(memory, seen.now, kept)
        how = policy.bounds.moved(seen.wanted) or f"stays at {kept}"
        return Decision(kept, f"{how}: {told}", health, figures=figures), memory
    need, figures = need_of(policy, seen, memory, figures)
    memory = _with_need(memory, seen.now, need.down)
    target, why = _target(policy, seen, memory, need=need, health=health, told=told)
    bounded = policy.bounds.clamped(target)
    allowed = limited(policy.behavior, wanted=seen.wanted, now=seen.now, target=bounded, changes=memory.changes)
    # Bounds are the user's, and hold at once.
    allowed = policy.bounds.clamped(allowed)
    limit = _limit(policy, need, target=target, allowed=allowed)
    if allowed != seen.wanted:
        memory = changed(policy, memory, now=seen.now, by=allowed - seen.wanted)
    moved = policy.bounds.moved(seen.wanted)
    if moved and allowed == policy.bounds.clamped(seen.wanted):
        reason = f"{moved}; {need.reason}"
    else:
        reason = _reason(need, allowed=allowed, wanted=seen.wanted, why=_LIMITING.get(limit, why))
    return Decision(allowed, reason, health, limit, need.is_learned, figures), memory


_LIMITING = {
    Limited.AT_LEAST: "the least, minReplicas",
    Limited.BEHAVIOR: "spec.autoscaling.behavior allows no more at once",
}


def _reason(need: Need, *, allowed: int, wanted: int, why: str) -> str:
    """The need, and before it why another number is decided where one is."""
    if allowed == need.up or not why:
        return need.reason
    return f"{'stays at' if allowed == wanted else 'to'} {allowed} ({why}); {need.reason}"


def _with_need(memory: Memory, now: float, replicas: int) -> Memory:
    """So many were needed: fewer only once a hold has passed."""
    return replace(memory, wanted=(*memory.wanted, Wanted(now, replicas)))


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
    """Up at once; down only once nothing speaks against it. And why it is not what the load needs, where it is not."""
    if need.up > seen.wanted:
        window = policy.behavior.up.stabilization_seconds
        least = min((each.replicas for each in memory.wanted if each.at > seen.now - window), default=need.up)
        target = max(seen.wanted, min(need.up, least)) if window else need.up
        return target, f"{target} were enough within {window:.0f} s"
    more = f"a little more load would need {need.down}"
    if need.down >= seen.wanted:
        return seen.wanted, more
    hold = hold_seconds(policy, memory)
    most = max(each.replicas for each in memory.wanted if each.at > seen.now - hold)
    needed = f"{most} were needed within {hold:.0f} s"
    against = (
        (health is not Health.GOOD, told),
        (_is_starting(policy, seen, memory), "a pod is still starting"),
        (seen.waiting > 0, "requests wait"),
        (_is_missed(policy, seen, memory), "the target is missed"),
        (seen.now - (memory.since or 0.0) < hold, f"{hold:.0f} s have to be seen first"),
        (most >= seen.wanted, needed),
    )
    for is_so, why in against:
        if is_so:
            return seen.wanted, why
    return max(most, need.down), needed if most > need.down else more


def _is_starting(policy: Policy, seen: Observed, memory: Memory) -> bool:
    """Whether a pod is that may still become Ready; one that has not for very long keeps no others."""
    longest = max(STARTING_SECONDS, 2 * cold_start_seconds(policy, memory, seen.kind))
    return any(p.ready_at is None and not p.is_going and seen.now - p.created_at < longest for p in seen.pods)


def _limit(policy: Policy, need: Need, *, target: int, allowed: int) -> Limited:
    if not need.is_met and allowed >= policy.bounds.most:
        return Limited.AT_MOST
    if need.down < policy.bounds.least == allowed:
        return Limited.AT_LEAST
    if policy.bounds.clamped(target) != allowed:
        return Limited.BEHAVIOR
    return Limited.NO


def _is_missed(policy: Policy, seen: Observed, memory: Memory) -> bool:
    """Whether requests miss the target."""
    if not memory.flow.is_coming(now=seen.now):
        return False
    first, output, error = memory.traffic.attainments(policy.target)
    return any(share is not None and share + error < policy.target.share for share in (first, output))
