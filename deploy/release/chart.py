"""The chart's package, by Helm, from a copy whose times and rights do not depend on the checkout."""

from __future__ import annotations

import tempfile
from pathlib import Path

from deploy.chart_files import CHART, output_of
from deploy.release.packing import stage


def pack_chart(folder: Path, *, chart: Path = CHART) -> None:
    """Write `tandem-VERSION.tgz` into `folder`, with the version of Chart.yaml."""
    with tempfile.TemporaryDirectory() as work:
        copy = Path(work) / chart.name
        stage(chart, copy)
        output_of("helm4", "package", str(copy), "--destination", str(folder))
