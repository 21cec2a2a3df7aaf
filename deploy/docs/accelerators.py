"""The page of accelerator classes: the table that the operator ships, as `tandem accelerators` prints it."""

from __future__ import annotations

from tandem_operator.cli.accelerators import run_accelerators

_TOP = """# Accelerator classes

What `accelerator.classes` may name, as `tandem accelerators` prints it: memory, bandwidth and dense bf16 compute of one
accelerator, and its list price in US dollars. A class with capacity `OnDemand|Spot` is there a second time as
`NAME-spot`. Every figure and label can be changed, and classes added, by `config.accelerators` of the chart
([fields](configuration.md#accelerators)).
"""


def accelerators_page() -> str:
    """The page."""
    return "\n".join((_TOP, "```text", run_accelerators(config=None).rstrip("\n"), "```\n"))
