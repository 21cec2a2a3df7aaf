"""How long a pod took from its creation until it was Ready, by phase. Pure.

Schedule, pull and the total are read from the pod's own status; what happens inside the engine is timed by its launcher
(`tandem_contracts.metrics`). A phase that nobody tells is absent, never 0.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from tandem_contracts.launch import Role
from tandem_contracts.metrics import START_PHASE_SECONDS


class StartPhase(StrEnum):
    """Phases in their order; the values are the label `phase` of the histogram."""

    SCHEDULE = "schedule"
    PULL = "pull"
    PROCESS = "process"
    WEIGHTS = "weights"
    COMPILE = "compile"
    WARM_UP = "warm_up"
    TOTAL = "total"


_OF_THE_ENGINE = frozenset({StartPhase.PROCESS, StartPhase.WEIGHTS, StartPhase.COMPILE, StartPhase.WARM_UP})


@dataclass(frozen=True)
class ColdStart:
    """The start of one pod. `seconds` holds the phases that are known."""

    pod: str
    role: Role
    seconds: Mapping[StartPhase, float]

    def with_engine(self, phases: Mapping[StartPhase, float]) -> ColdStart:
        """The same with the phases that the engine's launcher has timed."""
        return ColdStart(self.pod, self.role, {**self.seconds, **phases})


def cold_start_of(pod: Mapping[str, Any], role: Role) -> ColdStart | None:
    """What the status of a Ready pod tells of its start; None when one of its containers was started again."""
    metadata, status = pod["metadata"], pod.get("status") or {}
    containers = status.get("containerStatuses") or []
    if any(container.get("restartCount") for container in containers):
        return None
    reached = {
        condition["type"]: condition.get("lastTransitionTime")
        for condition in status.get("conditions") or []
        if condition.get("status") == "True"
    }
    runs = [((container.get("state") or {}).get("running") or {}).get("startedAt") for container in containers]
    ran = max((at for at in runs if at), default=None)
    marks = {
        StartPhase.SCHEDULE: (metadata.get("creationTimestamp"), reached.get("PodScheduled")),
        StartPhase.PULL: (reached.get("PodScheduled"), ran),
        StartPhase.TOTAL: (metadata.get("creationTimestamp"), reached.get("Ready")),
    }
    seconds = {
        phase: max(0.0, (datetime.fromisoformat(end) - datetime.fromisoformat(begin)).total_seconds())
        for phase, (begin, end) in marks.items()
        if begin and end
    }
    return ColdStart(metadata["name"], role, seconds)


def engine_phases_in(page: str) -> dict[StartPhase, float]:
    """The phases that a launcher's metrics page tells; empty when it is none."""
    lines = [line for line in page.splitlines() if line.startswith(START_PHASE_SECONDS + "{")]
    try:
        samples = [
            sample for family in text_string_to_metric_families("\n".join(lines) + "\n") for sample in family.samples
        ]
    except ValueError:
        return {}
    told = {sample.labels.get("phase"): sample.value for sample in samples}
    return {phase: told[phase.value] for phase in _OF_THE_ENGINE if 0 <= told.get(phase.value, -1.0) < float("inf")}


def written(seconds: float) -> str:
    """As status shows it: two digits are enough to act on, and the same start always reads the same."""
    return f"{seconds:.1f}s" if seconds < 10 else f"{seconds:.0f}s"
