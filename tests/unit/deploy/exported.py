"""What there is to be asked for: each metric's kind and the values of its labels, as exporters and reference say."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from prometheus_client import REGISTRY
from prometheus_client.core import Metric

from deploy.docs.metrics import metrics_page
from deploy.grafana.rules import RECORDS
from tandem_contracts.launch import Role
from tandem_operator import scaling_figures
from tandem_operator.cold_start import StartPhase
from tandem_operator.names import ConditionType, Reason
from tandem_operator.scaling.decision import Decision, Figures
from tandem_operator.scaling.drafts import DraftDecision
from tandem_operator.scaling.policy import Bounds, Policy, Target
from tandem_operator.serving_cost import Cost
from tandem_operator.store import Key
from tandem_runtime.drafting.counters import Counters
from tandem_runtime.launch.exporter import ProposerCollector

VLLM_PAGE = Path(__file__).parents[3] / "benchmarks/scaling/vllm-page.txt"
SPECULATING = {"num_drafts", "num_draft_tokens", "num_accepted_tokens", "num_accepted_tokens_per_pos"}
"""What the recorded page has no samples of, since its engine did not speculate."""
POD_LABELS = {"tandem_dev_deployment", "tandem_dev_role", "tandem_dev_artifact"}
_ROW = re.compile(r"^\| `([a-z_:0-9]+)` \| (gauge|counter|histogram) \|", re.MULTILINE)
_TYPED = re.compile(r"^# TYPE ([a-z_:0-9]+) (gauge|counter|histogram)$", re.MULTILINE)
_PARTS = {"histogram": ("_bucket", "_sum", "_count")}


@cache
def kinds() -> Mapping[str, str]:
    """By a sample's name: gauge or counter, which the parts of a histogram are, too."""
    families = [*_ROW.findall(metrics_page()), *_TYPED.findall(VLLM_PAGE.read_text(encoding="utf-8"))]
    families += [(f"vllm:spec_decode_{name}_total", "counter") for name in SPECULATING]
    families += [(record.name, "gauge") for record in RECORDS]
    for family in REGISTRY.collect():
        if family.name.startswith("process_"):
            families.append((f"{family.name}_total" if family.type == "counter" else family.name, family.type))
    return {
        f"{name}{part}": "counter" if kind == "histogram" else kind
        for name, kind in families
        for part in _PARTS.get(kind, ("",))
    }


@cache
def values() -> Mapping[str, frozenset[str]]:
    """By a label whose values are not anybody's to choose. `outcome` is by metric: `METRIC outcome`."""
    closed = {"type": ConditionType, "reason": Reason, "role": Role, "tandem_dev_role": Role, "phase": StartPhase}
    found: dict[str, set[str]] = {label: {each.value for each in kind} for label, kind in closed.items()}
    for family in (*_of_scaling(), *_of_proposers()):
        for sample in family.samples:
            for label in sample.labels.keys() & {"target", "tokens", "bound", "direction", "outcome"}:
                at = f"{sample.name} outcome" if label == "outcome" else label
                found.setdefault(at, set()).add(sample.labels[label])
    return {label: frozenset(known) for label, known in found.items()}


def _of_scaling() -> Iterable[Metric]:
    """As after a decision on both roles, with all that may be known."""
    key, bounds = Key("n", "exported"), Bounds(1, 2)
    figures = Figures(first_token_attainment=1.0, output_token_attainment=1.0)
    policy = Policy(Target(95.0, first_token_seconds=1.0, output_token_seconds=1.0), bounds)
    scaling_figures.show(key, Decision(1, "", figures=figures), Cost(1.0, 1.0, 1.0), policy=policy)
    scaling_figures.show_drafts(key, DraftDecision(1, ""), bounds)
    found = [family for family in REGISTRY.collect() if family.name.startswith("tandem_scaling_")]
    scaling_figures.forget_drafts(key)
    scaling_figures.forget(key)
    return found


def _of_proposers() -> Iterator[Metric]:
    with TemporaryDirectory() as folder:
        yield from ProposerCollector(Counters(Path(folder) / "counters")).collect()
