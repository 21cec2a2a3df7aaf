"""What is learned from one observation to the next: arrivals, what requests are like, step times, cold starts. Pure."""

from __future__ import annotations

import itertools
from dataclasses import replace

from tandem_operator.scaling.behavior import Change, kept_seconds
from tandem_operator.scaling.flow import flowed, quantile_of
from tandem_operator.scaling.idling import idle_since
from tandem_operator.scaling.learning import Cell, Learned, Watch, learned_from, watched
from tandem_operator.scaling.memory import LEAST_DERATE, Memory
from tandem_operator.scaling.observed import Observed
from tandem_operator.scaling.policy import Policy
from tandem_operator.scaling.set_back import of_the_clock
from tandem_operator.scaling.traffic import passed

COLD_STARTS_KEPT = 20
COLD_START_QUANTILE = 0.9
SEEN_SOON_SECONDS = 600.0
"""A pod that is not Ready when it is seen first, and is older than this, may have been Ready before."""
YOUNG_SECONDS = 60.0
"""A pod that has just become Ready has not met any steady load."""
DERATE_SECONDS = 15.0
MOST_PATIENCE = 8.0
SOON_SECONDS = 1800.0
"""A step up so soon after one down has taken that one back."""
KINDS_KEPT = 3
"""Besides those that there are pods of: a rollback goes on from what was learned."""
PATIENCE_SECONDS = 3600.0
"""Without a step down that was taken back, patience halves."""
DERATE_DOWN, DERATE_UP = 0.97, 0.0015


def remembered(policy: Policy, seen: Observed, memory: Memory) -> Memory:
    """The same with what is seen now."""
    memory = of_the_clock(memory, now=seen.now, interval_seconds=seen.interval_seconds)
    seen = replace(seen, readings=seen.possible)
    flow = flowed(memory.flow, seen, before=memory.readings, history_seconds=policy.surge_history_seconds)
    traffic = passed(memory.traffic, seen.readings, before=memory.readings)
    watches, learned = _learned(seen, replace(memory, traffic=traffic))
    since = idle_since(seen, memory, flow)
    kept = max(usual_hold_seconds(policy, memory) * MOST_PATIENCE, policy.behavior.up.stabilization_seconds)
    if memory.patience > 1 and seen.now - memory.taken_back_at > PATIENCE_SECONDS:
        memory = replace(memory, patience=memory.patience / 2, taken_back_at=seen.now)
    memory = replace(
        memory,
        since=seen.now if memory.since is None else memory.since,
        seen_at=seen.now,
        readings={**memory.readings, **seen.readings} if seen.readings else memory.readings,
        flow=flow,
        idle_since=since,
        traffic=traffic,
        watches=watches,
        learned=learned,
        wanted=tuple(each for each in memory.wanted if each.at > seen.now - kept),
        changes=tuple(
            each
            for each in memory.changes
            if each.at > seen.now - max(kept_seconds(policy.behavior), kept, SOON_SECONDS)
        ),
    )
    names = {pod.name for pod in seen.pods}
    memory = replace(memory, readings={name: each for name, each in memory.readings.items() if name in names})
    return _with_derate(policy, seen, _without_old_kinds(seen, _with_cold_starts(seen, memory)))


def _without_old_kinds(seen: Observed, memory: Memory) -> Memory:
    """What is known of revisions that are long gone would else grow without end."""
    there = {pod.kind for pod in seen.pods}
    gone = [kind for kind in {**memory.cold_starts, **memory.learned} if kind not in there]
    newest = sorted(gone, key=lambda kind: _last_seen(memory, kind))[-KINDS_KEPT:]
    if len(newest) == len(gone):
        return memory
    kept = there.union(newest)
    return replace(
        memory,
        learned={kind: each for kind, each in memory.learned.items() if kind in kept},
        cold_starts={kind: each for kind, each in memory.cold_starts.items() if kind in kept},
    )


def _last_seen(memory: Memory, kind: str) -> float:
    cells = memory.learned.get(kind, Learned()).cells.values()
    return max((cell.at for cell in cells), default=0.0)


def _learned(seen: Observed, memory: Memory) -> tuple[dict[str, Watch], dict[str, Learned]]:
    watches: dict[str, Watch] = {}
    samples: dict[str, list[Cell]] = {}
    context = _context_of_request(memory)
    for pod in seen.pods:
        reading = seen.readings.get(pod.name)
        if reading is None or pod.ready_at is None:
            continue
        watches[pod.name], sample = watched(memory.watches.get(pod.name), reading, context_of_request=context)
        if sample and seen.now - pod.ready_at >= YOUNG_SECONDS:
            samples.setdefault(pod.kind, []).append(sample)
    learned = dict(memory.learned)
    for kind, found in samples.items():
        learned[kind] = learned_from(learned.get(kind, Learned()), found)
    return watches, learned


def _context_of_request(memory: Memory) -> float:
    traffic = memory.traffic
    return traffic.request_prompt_tokens + traffic.request_output_tokens / 2 if traffic.is_known else 0.0


def _with_cold_starts(seen: Observed, memory: Memory) -> Memory:
    """A pod that is not Ready for a while, long after it was made, has not started anew."""
    starts = dict(memory.cold_starts)
    for pod in seen.pods:
        if pod.ready_at is not None and pod.name in memory.warming:
            seconds = max(0.0, pod.ready_at - pod.created_at)
            starts[pod.kind] = (*starts.get(pod.kind, ()), seconds)[-COLD_STARTS_KEPT:]
    warming = frozenset(
        pod.name
        for pod in seen.pods
        if pod.ready_at is None
        and (pod.name in memory.warming or seen.now - pod.created_at < SEEN_SOON_SECONDS)
        and pod.name not in memory.started
    )
    started = memory.started.union(pod.name for pod in seen.pods if pod.ready_at is not None)
    memory = replace(memory, started=started.intersection(pod.name for pod in seen.pods))
    return replace(memory, cold_starts=starts, warming=warming)


def _with_derate(policy: Policy, seen: Observed, memory: Memory) -> Memory:
    """Less is counted on where requests miss their target with all pods Ready, and by and by more again."""
    if seen.now - memory.derated_at < DERATE_SECONDS:
        return memory
    first, output, error = memory.traffic.attainments(policy.target)
    found = [share + error for share in (first, output) if share is not None]
    settled = not seen.is_warming and seen.now - memory.changed_at > YOUNG_SECONDS
    if not found or not settled or not memory.flow.is_coming(now=seen.now):
        return replace(memory, derated_at=seen.now)
    misses, allowed = 1 - min(found), 1 - policy.target.share
    derate = memory.derate
    if misses > allowed:
        derate = max(LEAST_DERATE, derate * DERATE_DOWN)
    elif misses < 0.2 * allowed:
        derate = min(1.0, derate + DERATE_UP)
    return replace(memory, derate=derate, derated_at=seen.now)


def cold_start_seconds(policy: Policy, memory: Memory, kind: str) -> float:
    """Of most pods of a kind, from being made to Ready; of all kinds while there is no pod."""
    known = memory.cold_starts
    found = sorted(known.get(kind, ()) if kind else itertools.chain(*known.values()))
    return quantile_of(found, COLD_START_QUANTILE) if found else policy.cold_start_seconds


def hold_seconds(policy: Policy, memory: Memory) -> float:
    """How long a lower need has to last before replicas go."""
    return usual_hold_seconds(policy, memory) * memory.patience


def changed(policy: Policy, memory: Memory, *, now: float, by: int) -> Memory:
    """The memory of a change. One up that soon follows one down has taken that one back: the next waits longer."""
    soon = max(hold_seconds(policy, memory), SOON_SECONDS)
    is_taken_back = by > 0 and any(each.by < 0 and now - each.at < soon for each in memory.changes)
    if is_taken_back and memory.taken_back_at < max(each.at for each in memory.changes if each.by < 0):
        memory = replace(memory, patience=min(2 * memory.patience, MOST_PATIENCE), taken_back_at=now)
    return replace(memory, changes=(*memory.changes, Change(now, by)), changed_at=now)


def usual_hold_seconds(policy: Policy, memory: Memory) -> float:
    """The longer one of the user's window and two cold starts."""
    slowest = max((cold_start_seconds(policy, memory, kind) for kind in memory.cold_starts), default=0.0)
    return max(policy.behavior.down.stabilization_seconds, 2 * (slowest or policy.cold_start_seconds))
