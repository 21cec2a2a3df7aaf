"""What deciding on drafts sees: what verifiers say of their drafts, and draft servers of their work. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from tandem_contracts import metrics
from tandem_operator.scaling.observed import STALE_INTERVALS, Observed, Pod, newest_kind
from tandem_operator.scaling.reading import samples_in

_OF_VERIFIERS = {
    (metrics.DRAFT_ROWS, "drafted"): "drafted_rows",
    (metrics.DRAFT_ROWS, "empty"): "empty_rows",
    (metrics.DRAFT_CALLS, "answered"): "answered",
    (metrics.DRAFT_DEADLINES_MISSED, ""): "missed",
    (metrics.DRAFT_DEPTH, ""): "depth",
    (metrics.DRAFT_PODS, ""): "pods",
    (metrics.DRAFT_BREAKERS_OPEN, ""): "left_alone",
}
_OF_SERVERS = {
    (metrics.DRAFT_SERVER_ASKED_TOKENS, ""): "tokens",
    (metrics.DRAFT_SERVER_BUSY_SECONDS, ""): "busy_seconds",
}
_FAMILIES = tuple(name for name, _ in (*_OF_VERIFIERS, *_OF_SERVERS))
_MOST = 1e15
"""No counter gets there."""


@dataclass(frozen=True)
class Proposer:
    """A verifier at one time. All but the last three count from its start."""

    at: float
    """Seconds since the epoch."""
    drafted_rows: float
    """Rows of decode steps: so many requests were in each of them."""
    empty_rows: float
    answered: float
    """Calls of drafts, by steps and draft pods."""
    missed: float
    """Steps that waited in vain for as long as they may."""
    depth: float
    """Tokens that the last step asked for."""
    pods: float
    """Draft pods that it knows of."""
    left_alone: float
    """Those of them that it does not ask for now, since they were silent, slow or wrong."""

    @property
    def rows(self) -> float:
        """With and without a draft."""
        return self.drafted_rows + self.empty_rows

    @property
    def may_draft(self) -> bool:
        """Whether there is a pod to ask: only then a depth of 0 is a choice."""
        return self.pods > self.left_alone


@dataclass(frozen=True)
class Server:
    """A draft pod at one time. Both count from its start."""

    at: float
    """Seconds since the epoch."""
    tokens: float
    """That verifiers asked for, and got."""
    busy_seconds: float
    """That it took for them."""


Said = Proposer | Server


def work_between(before: Said | None, after: Said) -> tuple[float, float] | None:
    """Tokens a second that a draft pod gave, and the share of the time that it took; None where that is not known."""
    if not isinstance(before, Server) or not isinstance(after, Server) or after.at <= before.at:
        return None
    seconds, tokens = after.at - before.at, after.tokens - before.tokens
    busy = after.busy_seconds - before.busy_seconds
    return (tokens / seconds, busy / seconds) if tokens >= 0 and busy >= 0 else None


def said_in(page: str, *, at: float) -> Said | None:
    """What a page tells; None where it is of neither, lacks something, or something is not a number."""
    samples = samples_in(page, _FAMILIES)
    found = {(each.name, each.labels.get("outcome", "")): each.value for each in samples or ()}
    if not all(0 <= value <= _MOST for value in found.values()):  # false for what is not a number, too
        return None
    if found.keys() >= _OF_VERIFIERS.keys():
        return Proposer(at=at, **{field: found[series] for series, field in _OF_VERIFIERS.items()})
    if found.keys() >= _OF_SERVERS.keys():
        return Server(at=at, **{field: found[series] for series, field in _OF_SERVERS.items()})
    return None


@dataclass(frozen=True)
class DraftsSeen:
    """The drafts of a deployment and those whom they draft for, at one time."""

    now: float
    """Seconds since the epoch."""
    wanted: int
    """Drafts that were asked for last."""
    verifiers: Observed
    """As they were decided for in this pass."""
    verifiers_wanted: int
    """What was decided."""
    pods: tuple[Pod, ...] = ()
    """Of drafts, of any revision."""
    said: Mapping[str, Said] = field(default_factory=dict)
    """The newest of each pod of both roles, by its name; of a silent pod an old one."""
    interval_seconds: float = 5.0
    """In which a pod is read."""
    cold_start_seconds: float = 120.0
    """Of a verifier."""
    pair: str = ""
    """The revisions of the verifiers that measure, and of the drafts; empty where that is not known."""

    @property
    def ready(self) -> list[Pod]:
        """Drafts that can be asked."""
        return [pod for pod in self.pods if pod.ready_at is not None and not pod.is_going]

    @property
    def kind(self) -> str:
        """Of the newest drafts that can be asked."""
        return newest_kind(self.ready)

    @property
    def silent(self) -> list[Pod]:
        """Drafts that can be asked, and say nothing new of their work."""
        return self._silent(self.ready)

    @property
    def silent_verifiers(self) -> list[Pod]:
        """Verifiers that serve, and say nothing new of their drafts."""
        return self._silent(self.verifiers.ready)

    @property
    def load(self) -> float | None:
        """Requests in work of a verifier, in the mean; None while none tells."""
        fresh = self.verifiers.fresh
        return sum(each.running + each.waiting for each in fresh) / len(fresh) if fresh else None

    @property
    def verifiers_start(self) -> bool:
        """Whether a verifier that was asked for is still to become Ready, unless it has taken twice its time."""
        starting = (pod for pod in self.verifiers.pods if pod.ready_at is None and not pod.is_going)
        return any(self.now - pod.created_at < 2 * self.cold_start_seconds for pod in starting)

    @property
    def are_left_alone(self) -> bool:
        """Whether a verifier does not ask a draft for now: what is asked is then less than is wanted."""
        found = (self.said.get(pod.name) for pod in self.verifiers.ready if self.is_fresh(pod.name))
        return any(isinstance(said, Proposer) and said.left_alone > 0 for said in found)

    def is_fresh(self, name: str) -> bool:
        """Whether what a pod said is new enough to go by."""
        said = self.said.get(name)
        return said is not None and abs(self.now - said.at) <= STALE_INTERVALS * self.interval_seconds

    @property
    def possible(self) -> dict[str, Said]:
        """What pods have said, but for what is of a time to come: of a clock that was set back since."""
        latest = self.now + STALE_INTERVALS * self.interval_seconds
        return {name: said for name, said in self.said.items() if said.at <= latest}

    def _silent(self, ready: list[Pod]) -> list[Pod]:
        """One that has been Ready for less than two readings has not been asked yet."""
        known = (pod for pod in ready if self.now - (pod.ready_at or 0.0) >= 2 * self.interval_seconds)
        return [pod for pod in known if not self.is_fresh(pod.name)]
