"""How many drafts, and why. Pure: same input, same decision.

As many as draft what verifiers ask for: tokens a second over what one pod gives while it is busy, with a margin; before
that is known, one for so many verifiers. Verifiers come first on the way up: while one is starting, no draft is added.
Drafts go first on the way down: their hold is shorter, and a step down of verifiers waits for no hold of theirs.

None while drafts do not pay, which verifiers measure themselves: all of them have chosen depth 0 for a while. Without
drafts nothing can be measured, so they come back, as few as at first, once a verifier has clearly less to do than when
they went, or a revision is another one, or after an hour, for the text may be another one, too. What is not known takes
nothing away. Source: ../shared/background/autoscaling.md 6.5; its gate on a predicted speed-up is the verifiers' own
choice of a depth, which is only read here.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from tandem_operator.scaling.behavior import Change, kept_seconds, limited
from tandem_operator.scaling.decide import SEEING_SHARE
from tandem_operator.scaling.decision import Health
from tandem_operator.scaling.draft_memory import FULL_SHARE, DraftMemory, remembered
from tandem_operator.scaling.drafting import DraftsSeen
from tandem_operator.scaling.memory import Wanted
from tandem_operator.scaling.policy import Behavior, Bounds

VERIFIERS_A_DRAFT = 4
"""Until it is measured what drafts can give."""
MARGIN, DOWN_MARGIN = 1.15, 1.3
"""Over what is asked; the second is what may not be gone below."""
HOLD_SECONDS = 120.0
"""How long fewer have to be enough; less than a verifier's hold is."""
MOST_LATE = 0.5
LATE = 0.1
"""Of the steps, that nothing goes."""
OFF_SECONDS, ON_SECONDS = 60.0, 60.0
"""How long verifiers have to have chosen depth 0, or another one."""
SWITCH_SECONDS = 180.0
"""Between two changes of whether drafts pay."""
EASED_SHARE = 0.7
"""Of the load of a verifier with which drafts went; below it they are tried again."""
LOOK_AGAIN_SECONDS = 3600.0
"""After so long they are tried again with any load."""
_MOST_WORK = 1e6


@dataclass(frozen=True)
class DraftPolicy:
    """All that deciding goes by, besides what is observed."""

    bounds: Bounds
    behavior: Behavior
    is_paused: bool = False


@dataclass(frozen=True)
class DraftDecision:
    """Drafts, and why, in one sentence."""

    replicas: int
    reason: str
    health: Health = Health.GOOD
    is_off: bool = False
    """Drafts do not pay, by measurement."""
    tokens_rate: float | None = None
    """Tokens a second that verifiers ask for."""
    capacity_rate: float | None = None
    """That a draft gives while it is busy."""
    late_share: float = 0.0
    """Of the steps that waited for drafts in vain."""


def decide_drafts(policy: DraftPolicy, seen: DraftsSeen, memory: DraftMemory) -> tuple[DraftDecision, DraftMemory]:
    """The decision, and what the next one has to know. Never raises, whatever pods say."""
    memory = _switched(seen, _pruned(policy, seen, remembered(seen, memory)))
    health, told = _health(seen, memory)
    decision = DraftDecision(
        seen.wanted,
        policy.bounds.paused_at(seen.wanted),
        health,
        is_off=memory.is_off,
        tokens_rate=memory.tokens_rate,
        capacity_rate=_capacity(seen, memory),
        late_share=memory.late_share,
    )
    if policy.is_paused:
        return decision, memory
    if not seen.verifiers_wanted:
        return replace(decision, replicas=0, reason="no verifiers are wanted"), memory
    need = _need(seen, memory)
    down = need.down if health is not Health.BLIND else max(need.down, seen.wanted)
    memory = replace(memory, wanted=(*memory.wanted, Wanted(seen.now, down)))
    target, why = _target(policy, seen, memory, need=need, health=health, told=told)
    bounded = policy.bounds.clamped(target)
    allowed = limited(policy.behavior, wanted=seen.wanted, now=seen.now, target=bounded, changes=memory.changes)
    allowed = policy.bounds.clamped(allowed)
    if allowed != seen.wanted:
        memory = replace(memory, changes=(*memory.changes, Change(seen.now, allowed - seen.wanted)))
    return replace(decision, replicas=allowed, reason=why), memory


@dataclass(frozen=True)
class _Need:
    up: int
    down: int
    """A little more: what may not be gone below."""
    reason: str
    is_measured: bool


def _need(seen: DraftsSeen, memory: DraftMemory) -> _Need:
    """By what is asked and what a draft gives, or in proportion to the verifiers."""
    capacity = _capacity(seen, memory)
    if memory.tokens_rate is None:
        verifiers = min(len(seen.verifiers.ready), seen.verifiers_wanted)
        count = max(1, math.ceil(verifiers / VERIFIERS_A_DRAFT))
        reason = (
            f"needs {count}: {verifiers} Ready verifiers, one for {VERIFIERS_A_DRAFT} until drafts have been measured"
        )
        return _Need(count, count, reason, is_measured=False)
    if capacity is None:  # that takes more work than there was
        return _Need(1, 1, f"needs 1: only {memory.tokens_rate:.0f} tokens/s are asked for", is_measured=True)
    work = min(memory.tokens_rate / capacity, _MOST_WORK)
    # What comes late while pods have time to spare does not come sooner from more of them.
    late = min(memory.late_share, MOST_LATE) if work >= FULL_SHARE * len(seen.ready) else 0.0
    work /= 1 - late
    up, down = (max(1, math.ceil(margin * work)) for margin in (MARGIN, DOWN_MARGIN))
    waits = f", and {100 * late:.0f} % of the steps wait in vain" if late >= 0.01 else ""
    reason = f"needs {up}: {memory.tokens_rate:.0f} tokens/s are asked for, a draft gives {capacity:.0f}{waits}"
    return _Need(up, down, reason, is_measured=True)


def _capacity(seen: DraftsSeen, memory: DraftMemory) -> float | None:
    """Of the newest drafts; of those before while nothing is known of them."""
    return memory.capacity.get(seen.kind) or next(reversed(tuple(memory.capacity.values())), None)


def _target(
    policy: DraftPolicy, seen: DraftsSeen, memory: DraftMemory, *, need: _Need, health: Health, told: str
) -> tuple[int, str]:
    if memory.is_off:
        return policy.bounds.least, _why_off(seen, memory)
    if not seen.verifiers.ready:
        return seen.wanted, f"stays at {seen.wanted}: no verifier is Ready"
    least = max(1, policy.bounds.least)
    if seen.wanted < least:
        return max(least, need.up), need.reason
    if not seen.ready:
        return seen.wanted, f"stays at {seen.wanted}: no draft is Ready"
    if health is Health.BLIND:
        return seen.wanted, f"stays at {seen.wanted}: {told}"
    if need.up > seen.wanted:
        if seen.verifiers_start:
            return seen.wanted, f"stays at {seen.wanted} (a verifier is starting, which comes first); {need.reason}"
        return need.up, need.reason
    if need.down >= seen.wanted:
        return seen.wanted, need.reason
    if seen.verifiers_wanted < seen.verifiers.wanted and (health is Health.GOOD or not need.is_measured):
        return need.down, f"{need.reason}; drafts go before verifiers"
    most = max(each.replicas for each in memory.wanted)
    against = (
        (health is not Health.GOOD, told),
        (not need.is_measured, "what they could give is not measured yet"),
        (memory.late_share > LATE, "steps wait in vain"),
        (seen.are_left_alone, "verifiers leave drafts alone that were silent, slow or wrong"),
        (any(pod.ready_at is None and not pod.is_going for pod in seen.pods), "a draft is still starting"),
        (seen.now - (memory.since or 0.0) < HOLD_SECONDS, f"{HOLD_SECONDS:.0f} s have to be seen first"),
        (most >= seen.wanted, f"{most} were needed within {HOLD_SECONDS:.0f} s"),
    )
    for is_so, why in against:
        if is_so:
            return seen.wanted, f"stays at {seen.wanted} ({why}); {need.reason}"
    return max(most, need.down), need.reason


def _health(seen: DraftsSeen, memory: DraftMemory) -> tuple[Health, str]:
    """Whether drafts and verifiers can be seen. Drafts of which none has ever told anything are not blind: they may be
    of a server that counts nothing, and are as many as the verifiers want.
    """
    silent = len(seen.silent)
    if silent and not memory.capacity and memory.tokens_rate is None:
        return Health.PARTIAL, "drafts say nothing of their work"
    if silent:
        told = f"{silent} of {len(seen.ready)} Ready drafts say nothing new of their work"
        is_seen = len(seen.ready) - silent >= SEEING_SHARE * len(seen.ready)
        return (Health.PARTIAL if is_seen else Health.BLIND), told
    silent, ready = len(seen.silent_verifiers), len(seen.verifiers.ready)
    if silent:
        return Health.PARTIAL, f"{silent} of {ready} Ready verifiers say nothing new of their drafts"
    return Health.GOOD, ""


def _switched(seen: DraftsSeen, memory: DraftMemory) -> DraftMemory:
    """Whether drafts pay, as it is known now."""
    if seen.now - memory.switched_at < SWITCH_SECONDS:
        return memory
    if not memory.is_off:
        if memory.without_seconds < OFF_SECONDS or seen.silent_verifiers or not seen.ready:
            return memory
        memory = replace(memory, is_off=True, load_when_off=memory.load or 0.0, pair_when_off=seen.pair)
    elif memory.with_seconds < ON_SECONDS and not _is_worth_a_try(seen, memory):
        return memory
    else:
        memory = replace(memory, is_off=False)
    return replace(memory, switched_at=seen.now, without_seconds=0.0, with_seconds=0.0)


def _is_worth_a_try(seen: DraftsSeen, memory: DraftMemory) -> bool:
    """Without any draft: whether they may pay now. Somebody has to be there to find out."""
    if seen.ready or not seen.load or memory.load is None:
        return False
    is_eased = memory.load <= EASED_SHARE * memory.load_when_off
    is_another = seen.pair not in {"", memory.pair_when_off}
    return is_eased or is_another or seen.now - memory.switched_at >= LOOK_AGAIN_SECONDS


def _why_off(seen: DraftsSeen, memory: DraftMemory) -> str:
    if seen.ready:
        return "drafts do not pay: verifiers chose to go without"
    left = max(0.0, LOOK_AGAIN_SECONDS - (seen.now - memory.switched_at))
    eased = EASED_SHARE * memory.load_when_off
    return (
        "drafts do not pay: verifiers chose to go without; they are tried again once a verifier has "
        f"{eased:.1f} requests in work or fewer, or in {left / 60:.0f} min"
    )


def _pruned(policy: DraftPolicy, seen: DraftsSeen, memory: DraftMemory) -> DraftMemory:
    """Without what no decision asks for any more."""
    kept = max(kept_seconds(policy.behavior), HOLD_SECONDS)
    return replace(
        memory,
        wanted=tuple(each for each in memory.wanted if each.at > seen.now - HOLD_SECONDS),
        changes=tuple(each for each in memory.changes if each.at > seen.now - kept),
    )
