"""Names of fields, metrics and conditions that the pages and the README use are those of the code."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.docs import __main__ as reference
from tandem_contracts.termination import Reason as Cause
from tandem_operator.api.crd import crd_schema
from tandem_operator.names import ConditionType, Reason
from tests.docs.blocks import ALL, PAGES, ROOT

RUNBOOKS = (
    "TandemLatencyBudgetBurn", "TandemSpeculationNotWorthIt", "TandemAcceptanceDropped", "TandemDraftsMissing",
    "TandemKVCacheSaturated", "TandemPreemptions", "TandemPrefixHitsCollapsed", "TandemEngineRestarting",
    "TandemGateFailed", "TandemArtifactStuck", "TandemScalingBlind", "TandemAtMaximum", "TandemColdStartOverTarget",
    "TandemOperatorDown",
)  # fmt: skip
RUNBOOK_PAGES = tuple((ROOT / "docs/runbooks").glob("*.md"))
VLLM_PAGE = ROOT / "benchmarks/scaling/vllm-page.txt"
"""What a real vLLM serves, as the simulator's pages were taken from."""

_METRIC = re.compile(r"\b(tandem_[a-z_0-9]+[a-z0-9]|vllm:[a-z_]+[a-z])\b")
_PATH = re.compile(r"^[a-z][A-Za-z]*(\.[a-z][A-Za-z0-9]*)+$")
_CONDITION = re.compile(r"^([A-Z][A-Za-z]+)=(True|False|Unknown)$")
_LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)\s]*)?\)")
_FILES = (".yaml", ".md", ".py", ".proto", ".json", ".crt", ".key", ".svc", ".v1", ".dev", ".txt")
OF_PODS = ("deployment", "role", "revision", "artifact")
NOT_METRICS = {"tandem_runtime", "tandem_contracts", "tandem_operator", *(f"tandem_dev_{name}" for name in OF_PODS)}
"""Packages, and what Prometheus makes of the names of pods' labels."""
THEIRS = {"OOMKilled"}
"""Reasons that are the kubelet's."""


def words_of(page: Path) -> Iterator[str]:
    """What stands between backticks outside of blocks."""
    prose = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    yield from re.findall(r"`([^`\n]+)`", prose)


def members_of(schema: Mapping[str, Any]) -> Mapping[str, Any]:
    members: Mapping[str, Any] = schema.get("properties") or (schema.get("items") or {}).get("properties") or {}
    return members


def roots() -> list[Mapping[str, Any]]:
    """Objects at which a path of the prose may begin: the resource, its spec, roles and what is in them, the values."""
    whole = crd_schema()
    spec, status = whole["properties"]["spec"], whole["properties"]["status"]
    verifier = members_of(spec)["verifier"]
    model = members_of(verifier)["model"]
    quantization = members_of(model)["quantization"]
    autoscaling = members_of(spec)["autoscaling"]
    return [
        whole, spec, status, verifier, model, quantization, autoscaling, members_of(spec)["speculation"],
        members_of(status)["scaling"], members_of(verifier)["engine"],
    ]  # fmt: skip


def is_field(path: str) -> bool:
    names = path.split(".")
    if _is_value(names, yaml.safe_load((ROOT / "charts/tandem/values.yaml").read_text())):
        return True
    return any(_leads(names, root) for root in roots())


def _leads(names: list[str], schema: Mapping[str, Any]) -> bool:
    for name in names:
        if name not in members_of(schema):
            return False
        schema = members_of(schema)[name]
    return True


def _is_value(names: list[str], values: Any) -> bool:
    for name in names:
        if not isinstance(values, dict) or name not in values:
            return False
        values = values[name]
    return True


def test_every_path_to_a_field_leads_to_one() -> None:
    wrong = {
        (str(page.relative_to(ROOT)), word)
        for page in PAGES
        for word in words_of(page)
        if _PATH.match(word) and not word.endswith(_FILES) and not word.startswith("metadata.") and not is_field(word)
    }

    assert wrong == set()


def known_metrics() -> set[str]:
    told = set(re.findall(r"\| `((?:tandem_|vllm:)[a-z_0-9]+)` \|", reference.pages()["metrics.md"]))
    served = set(re.findall(r"^(vllm:[a-z_]+)", VLLM_PAGE.read_text(), re.MULTILINE))
    return told | served | {f"{name}{ending}" for name in told for ending in ("_bucket", "_sum", "_count")}


def test_every_metric_is_one() -> None:
    known = known_metrics()
    texts = [(page, word) for page in PAGES for word in words_of(page)]
    texts += [(block.page, block.text) for block in ALL]
    used = {(str(page.relative_to(ROOT)), name) for page, text in texts for name in _METRIC.findall(text)}
    wrong = {
        (page, name)
        for page, name in used
        if name not in known | NOT_METRICS and not any(each.startswith(f"{name}_") for each in known)
    }

    assert len(used) > 30
    assert wrong == set()


def test_every_condition_and_reason_is_one() -> None:
    conditions, reasons = set(map(str, ConditionType)), {*map(str, Reason), *map(str, Cause)}
    found = [match for page in PAGES for word in words_of(page) if (match := _CONDITION.match(word))]
    rows = [row for page in RUNBOOK_PAGES for row in page.read_text().splitlines() if row.startswith("| `")]
    named = {word for row in rows for word in re.findall(r"`([A-Z][A-Za-z]+)`", row.split("|")[1])}

    assert len(found) > 15
    assert {match[1] for match in found} <= conditions
    assert len(named) > 20
    assert named - reasons - THEIRS == set()


@pytest.mark.parametrize("name", RUNBOOKS)
def test_every_alert_has_a_runbook_that_says_what_it_means_and_what_to_do(name: str) -> None:
    text = (ROOT / f"docs/runbooks/{name}.md").read_text()

    assert text.startswith(f"# {name}\n")
    assert [part for part in ("What it means", "What to look at", "What to do") if f"\n## {part}\n" not in text] == []
    assert f"({name}.md)" in (ROOT / "docs/runbooks/index.md").read_text()


def test_every_link_of_the_readme_leads_somewhere() -> None:
    """Those of the pages are mkdocs' to check."""
    links = {link for link in _LINK.findall((ROOT / "README.md").read_text()) if not link.startswith("https://")}

    assert len(links) > 20
    assert [link for link in links if not (ROOT / link).exists()] == []
