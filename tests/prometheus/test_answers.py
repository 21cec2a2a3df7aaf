"""That the answers which the unit tests' stand-in plays back are those of a real Prometheus. It also records them:
TANDEM_UPDATE_GOLDEN=1.
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

from tests.prometheus.exporters import Exporters
from tests.prometheus.server import Prometheus

RECORD = Path(__file__).with_name("answers.json")
PAGE = """\
# TYPE probe gauge
probe{kind="number"} 3
probe{kind="nan"} NaN
probe{kind="infinite"} +Inf
probe{kind="negative infinite"} -Inf
probe{kind="large"} 1e308
probe{kind="exact"} 0.1
"""
_POD = 'pod="counting"'
QUERIES: dict[str, dict[str, str]] = {
    "no query": {"query": ""},
    "no PromQL": {"query": "sum("},
    "nothing of that name": {"query": "probe_of_nobody"},
    **{f"a value, {kind}": {"query": f'probe{{kind="{kind}",{_POD}}}'} for kind in re.findall('kind="(.*)"', PAGE)},
    "a series that has ended": {"query": f"probe{{{_POD}}}"},
    "a number": {"query": "1"},
    "a range": {"query": "probe_of_nobody[1m]"},
    "two series of the same labels": {"query": f'label_replace(probe{{{_POD}}}, "kind", "same", "kind", ".*")'},
    "a query that takes too long": {"query": "count_over_time(vector(1)[10000h:1s])", "timeout": "0.05"},
}


def test_the_recorded_answers_are_those_of_a_real_prometheus(prometheus: Prometheus, exporters: Exporters) -> None:
    exporters.serve("counting", PAGE)
    prometheus.wait_for(f"count(probe{{{_POD}}})", 6)
    ended = "a series that has ended"
    found = {name: _asked(prometheus, asked) for name, asked in QUERIES.items() if name != ended}
    del exporters.pages["counting"]
    prometheus.wait_for(f"probe{{{_POD}}}")
    found[ended] = _asked(prometheus, QUERIES[ended])
    assert prometheus.values(f"count(last_over_time(probe{{{_POD}}}[1m]))") == [6], "of a range it is still a part"
    lines = ",\n".join(f"{json.dumps(name)}: {json.dumps(found[name])}" for name in QUERIES)
    text = f"{{\n{lines}\n}}\n"
    if os.environ.get("TANDEM_UPDATE_GOLDEN"):
        RECORD.write_text(text)
    assert text == RECORD.read_text()


def _asked(prometheus: Prometheus, asked: dict[str, str]) -> dict[str, Any]:
    """The question with its answer, as it would be at another time and from another port."""
    status, body = prometheus.ask(**asked)
    text = re.sub(r'"127\.0\.0\.1:\d+"', '"127.0.0.1:8000"', json.dumps(body))
    return {**asked, "status": status, "body": json.loads(re.sub(r"\[\d+(\.\d+)?, ", "[1700.0, ", text))}
