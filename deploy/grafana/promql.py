"""The PromQL that dashboards and rules have in common. Labels as the chart's PodMonitor gives them.

Series of pods have the pod's labels `tandem_dev_deployment` and `tandem_dev_role`; the operator's have `deployment`.
"""

from __future__ import annotations

WINDOW = "$__rate_interval"
POD = "tandem_dev_deployment"
OURS = 'namespace=~"$namespace"'
OF_DEPLOYMENT = f'{OURS}, deployment=~"$deployment"'
OF_PODS = f'{OURS}, {POD}=~"$deployment"'
BY_DEPLOYMENT = f"namespace, {POD}"
OR_ZERO = " or on() 0 * count"
"""Before what tells that there is nothing; without `on()` a 0 would lie beside lines with labels, too."""
NAMED = "{{namespace}}/{{" + POD + "}}"


def per_second(counter: str, *, of: str = OF_PODS, by: str = BY_DEPLOYMENT, window: str = WINDOW) -> str:
    """Of a counter, first by series, since each may begin anew, then summed."""
    return f"sum by ({by}) (rate({counter}{{{of}}}[{window}]))"


def quantile(share: float, histogram: str, *, of: str = OF_PODS, by: str = BY_DEPLOYMENT) -> str:
    """Of a histogram of many pods: of their summed buckets, never a mean of quantiles."""
    return f"histogram_quantile({share}, sum by (le, {by}) (rate({histogram}_bucket{{{of}}}[{WINDOW}])))"


def mean(histogram: str, *, of: str = OF_PODS, by: str = BY_DEPLOYMENT) -> str:
    """Of what a histogram has seen."""
    return ratio(per_second(f"{histogram}_sum", of=of, by=by), per_second(f"{histogram}_count", of=of, by=by))


def ratio(part: str, whole: str) -> str:
    """Nothing, instead of NaN, where the whole is 0."""
    return f"{part} / ({whole} > 0)"


def or_zero(expression: str, known: str) -> str:
    """0 where nothing is found, as long as `known` is told: of an operator that is gone nothing is known, not 0."""
    return f"{expression}{OR_ZERO}({known})"


def total(gauge: str, *, of: str = OF_PODS, by: str = BY_DEPLOYMENT) -> str:
    """Of a gauge over pods."""
    return f"sum by ({by}) ({gauge}{{{of}}})"


def counted(counter: str, window: str) -> str:
    """By series, how often within so long. What was not there before has been counted from 0 on, though its first
    sample may be a 1: from nothing nothing increases.
    """
    now = f"{counter}{{{OURS}}}"
    return f"(({now} unless last_over_time({now}[1d] offset {window})) or increase({now}[{window}]))"


def renamed(expression: str) -> str:
    """The operator's series with the pods' name of the label beside their own, to be summed by and joined with theirs
    in a table, whose columns are all labels."""
    return f'label_replace({expression}, "{POD}", "$1", "deployment", "(.*)")'
