"""To zero once it is proven that nobody asks, and back with the first request. Pure.

Nothing that is missing is taken for silence: each Ready engine has to say, again and again for all of the time, that
nothing came. At zero it is the other way round: a gate that says nothing may hold requests, so that pods come back.
"""

from __future__ import annotations

import math

from tandem_operator.scaling.flow import Flow
from tandem_operator.scaling.memory import Memory
from tandem_operator.scaling.observed import Observed
from tandem_operator.scaling.policy import Policy, Select

GATE_SILENCE_SECONDS = 60.0


def idle_since(seen: Observed, memory: Memory, flow: Flow) -> float | None:
    """Since when it is known that nobody asks; None otherwise. `flow`: with the arrivals since `memory`."""
    has_work = any(reading.running + reading.waiting > 0 for reading in seen.fresh) or seen.held > 0
    is_seen = bool(seen.ready) and all(seen.is_fresh(pod.name) for pod in seen.ready)
    if has_work or seen.is_warming or not is_seen:
        return None
    known = set(memory.flow.arrivals)
    if any(each.count > 0 for each in flow.arrivals if each not in known):
        return None
    return seen.now if memory.idle_since is None else memory.idle_since


def idle_target(policy: Policy, seen: Observed, memory: Memory) -> tuple[int, str] | None:
    """Replicas that being idle, or at zero, asks for whatever the load says, and why; None where the load decides."""
    if policy.idle_seconds is None:
        return None
    if seen.held and not seen.ready:
        wanted = max(seen.wanted, policy.bounds.clamped(math.ceil(seen.held / policy.requests_per_pod)))
        return wanted, f"wakes to {wanted}: the gate holds {counted(seen.held)}"
    if seen.wanted == 0:
        return _at_zero(policy, seen, memory)
    silence = 0.0 if memory.idle_since is None else seen.now - memory.idle_since
    if silence >= policy.idle_seconds and policy.behavior.down.select is not Select.DISABLED:
        return 0, f"to zero: no request for {silence:.0f} s"
    return None


def _at_zero(policy: Policy, seen: Observed, memory: Memory) -> tuple[int, str]:
    # Those that are there take requests already: fewer would take away what has just proven to be needed.
    least = policy.bounds.clamped(len([pod for pod in seen.pods if pod.ready_at is not None]))
    work = sum(reading.running + reading.waiting for reading in seen.fresh)
    passed = seen.gate.answering if seen.gate else 0
    arrived = sum(each.count for each in memory.flow.arrivals if each.end > memory.changed_at)
    if work or passed or seen.held or arrived:
        came = max(work, passed, seen.held, arrived)
        return least, f"wakes to {least}: {counted(came)} came before the last pod went"
    # This process has to have listened for so long itself.
    heard = max(seen.gate.at if seen.gate else 0.0, memory.changed_at, memory.since or seen.now)
    if seen.now - heard > GATE_SILENCE_SECONDS:
        return least, f"wakes to {least}: nothing was heard of the gate for {seen.now - heard:.0f} s"
    return 0, "at zero: no request is held"


def counted(requests: float) -> str:
    """For a person."""
    return "1 request" if requests == 1 else f"{requests:.0f} requests"
