"""The page of conditions and reasons, from the names of the code and conditions.yaml, which says what they mean.

The names have no room for a meaning where they are. One without it is an error, so that none is forgotten.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from deploy.docs.markdown import table
from tandem_contracts.termination import Reason as Cause
from tandem_operator.names import ConditionType, Reason

MEANINGS = Path(__file__).parent / "conditions.yaml"

_TOP = """# Conditions

`tandem status NAME` and `kubectl describe llm NAME` show them with their messages, which name pods, paths and figures.
`observedGeneration` says which generation each one speaks of. `Available`, `Ready` and `Stalled` become events when
they flip; `ScalingActive`, `ScalingLimited` and `LatencyTargetMet` where `ScalingConflict`, `MetricsMissing`,
`AtMaximum` or `TargetMissed` begins or is over.
"""
_REASONS = """## Reasons {#reasons}

Alerts and scripts may match on these words; they are part of the API. `Ready`, `Reconciling` and `Stalled` repeat the
reason of the condition that they follow from. A ModelArtifact's `Ready` has the reasons of `ArtifactsReady` that are
about one model.
"""
_CAUSES = """## Last words of Jobs, engines and wake gates {#causes}

Reasons of a ModelArtifact, and of `ArtifactsReady` and `Stalled` of who needs it; those of pods are in the message of
`PodsFailing`. What is not tried again sooner is looked at again after an hour.
"""


def conditions_page() -> str:
    """The page. Raises ValueError for a name without a meaning, and for a meaning without a name."""
    told: Mapping[str, Mapping[str, Any]] = yaml.safe_load(MEANINGS.read_text(encoding="utf-8"))
    conditions, reasons, causes = told["conditions"], told["reasons"], told["causes"]
    _require_the_same(conditions, ConditionType)
    _require_the_same(reasons, Reason)
    _require_the_same(causes, Cause)
    rows = [(_anchored(kind), conditions[kind]["there"], conditions[kind]["says"]) for kind in map(str, ConditionType)]
    return "\n".join(
        (
            _TOP,
            "## Conditions of an LLMDeployment {#types}\n",
            table(("Condition", "There", "While True"), rows),
            "A ModelArtifact has `Ready`, and `Reconciling` or `Stalled` while they hold.\n",
            _REASONS,
            table(
                ("Reason", "Where", "What it says"),
                ((_anchored(r), f"`{w}`", s) for r, (w, s) in sorted(reasons.items())),
            ),
            _CAUSES,
            table(("Reason", "What it says"), ((f"`{cause}`", said) for cause, said in sorted(causes.items()))),
        )
    )


def _anchored(name: str) -> str:
    return f'<a id="{name}"></a>`{name}`'


def _require_the_same(told: Iterable[str], names: Iterable[str]) -> None:
    known = set(map(str, names))
    differing = sorted(known ^ set(told))
    if differing:
        raise ValueError(f"conditions.yaml and the code's names differ in {', '.join(differing)}")
