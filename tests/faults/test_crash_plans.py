"""The operator killed before and after every write of a change: the same end state, nothing twice, service."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import pytest

from deploy.local.cluster import Cluster
from deploy.place import Place
from tests.faults.campaign import drawn, learn, strike_all

DRAWN = {
    "create": 4,
    "scale-up": 0,
    "scale-down": 2,
    "model-change": 4,
    "draft-change": 0,
    "no-drafts": 0,
    "delete": 1,
    "delete-foreground": 0,
    "delete-orphan": 0,
    "delete-and-create": 0,
}
"""How many plans a plain run draws of each change; the campaign carries out all, and alone those with none here."""
NUMBERS = {"create": "A1", "scale-up": "A2", "scale-down": "A2", "model-change": "A3", "draft-change": "A3"}


def _marks(workload: str) -> list[pytest.MarkDecorator]:
    covers = pytest.mark.covers(NUMBERS.get(workload, "A4"))
    return [covers] if DRAWN[workload] else [covers, pytest.mark.campaign]


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("workload", [pytest.param(name, marks=_marks(name)) for name in DRAWN])
def test_a_killed_operator_ends_where_an_unharmed_one_does(
    cluster: Cluster, place: Place, plan_results: dict[str, Any], pytestconfig: pytest.Config, *, workload: str
) -> None:
    learned = learn(cluster, place, workload)
    is_campaign = pytestconfig.getoption("--campaign")
    if is_campaign:
        plans = learned.plans(workload)
    else:
        plans = drawn(learned.certain_plans(workload), DRAWN[workload], seed=pytestconfig.getoption("--fault-seed"))
    verdicts = strike_all(cluster, place, plans, reference=learned.reference)
    failed = [verdict for verdict in verdicts if verdict.failure]
    aimed = [(plan, verdict) for plan, verdict in zip(plans, verdicts, strict=True) if plan.write is not None]
    missed = [plan for plan, verdict in aimed if not verdict.is_struck]
    # A write that comes only in some orders of the pods' events can be missed in all attempts; others hardly.
    certain = [plan for plan, _ in aimed if plan.write in learned.always]
    missed_certain = [str(plan) for plan in missed if plan in certain]
    plan_results[workload] = {
        "writes": len(learned.writes),
        "plans": len(verdicts),
        "with a write": len(aimed),
        "struck": len(aimed) - len(missed),
        "converged": len(verdicts) - len(failed),
        "seconds": round(sum(verdict.seconds for verdict in verdicts), 1),
        "missed": [str(plan) for plan in missed],
        "of every clean run": len(certain),
        "missed of those": missed_certain,
        "failed": [asdict(verdict) for verdict in failed],
    }
    assert not failed, "\n\n".join(f"{verdict.plan}\n{verdict.failure}" for verdict in failed)
    assert len(missed_certain) <= len(certain) / (5 if is_campaign else 2), f"not struck: {', '.join(missed_certain)}"
