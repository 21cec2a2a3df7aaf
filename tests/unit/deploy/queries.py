"""What may be wrong with a query though Prometheus answers it: with nothing, or with something else."""

from __future__ import annotations

import re

from tests.unit.deploy.exported import POD_LABELS, kinds, values

NAMED = re.compile(r"\b(?:tandem|vllm|process)[_:][a-z0-9_:]+")
SELECTED = re.compile(NAMED.pattern + r"(?:\{([^}]*)\})?")
MATCHER = re.compile(r'(\w+)(=~|!~|!=|=)"([^"]*)"')
OPEN = {"namespace", "deployment", "tandem_dev_deployment"}
"""Labels that a viewer chooses by."""
UNITS = {
    "_seconds": "s",
    "_bytes": "bytes",
    "_ratio": "percentunit",
    "_perc": "percentunit",
    "_requests_per_second": "reqps",
    "_tokens_per_second": "short",
    "_cost_per_hour": "currencyUSD",
    "_cost_per_million_tokens": "currencyUSD",
}
"""Of a figure by the end of its name."""
PLAIN = {"none", "short", "reqps", "bool_yes_no"}
"""Of a figure whose name ends otherwise."""
COUNTS = {"none", "short", "reqps", "ops", "percentunit"}
"""Of what is counted, a second or a window of time; a share, where seconds are counted."""


def named_in(expression: str) -> set[str]:
    """The metrics."""
    return set(NAMED.findall(re.sub(r'"[^"]*"', "", expression))) - POD_LABELS


def unknown_values(expression: str) -> set[str]:
    """What labels are compared with and never are."""
    found = set()
    for selected in SELECTED.finditer(expression):
        name = selected[0].partition("{")[0]
        for label, how, value in MATCHER.findall(selected[1] or ""):
            if label in OPEN:
                continue
            known = values().get(f"{name} outcome" if label == "outcome" else label, frozenset())
            wanted = value.split("|") if "~" in how else [re.escape(value)]
            found |= {f'{label}="{each}"' for each in wanted if not any(re.fullmatch(each, one) for one in known)}
    return found


def wrongly_counted(expression: str) -> set[str]:
    """Gauges of which a rate is asked, and counters of which none is."""
    rated = {each[1] for each in re.finditer(rf"\b(?:rate|irate|increase)\(({NAMED.pattern})", expression)}
    bare = re.sub(r"\{[^}]*\}", "", expression)
    raw = {each[1] for each in re.finditer(rf"({NAMED.pattern})(?![a-z0-9_:]|\[| unless )", bare)} - POD_LABELS
    return {name for name in rated if kinds().get(name) == "gauge"} | {
        name for name in raw if kinds().get(name) == "counter"
    }


def units_of(expression: str) -> set[str]:
    """In which its answer may be told; empty where arithmetic makes another figure of it."""
    bare = re.sub(r'\{[^}]*\}|"[^"]*"', "", expression)
    names = [name for name in NAMED.findall(bare) if name not in POD_LABELS]
    bases = {re.sub("_(bucket|sum|count)$", "", name) for name in names}
    is_mean = len(bases) == 1 and names[0].endswith("_sum") and names[-1].endswith("_count")
    if "histogram_quantile" not in bare and not is_mean:
        if re.search(r" [/*] |^1 \+ ", bare):
            return set()
        if re.search(r"\b(?:rate|increase|count)\b", bare):
            return COUNTS
    (base, *_) = (re.sub("_(bucket|sum|count)$", "", name) for name in names)
    return {unit for end, unit in UNITS.items() if base.endswith(end)} or PLAIN
