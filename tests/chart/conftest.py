"""Fixtures: the programs that render the chart, and the environment of checkov."""

from __future__ import annotations

import pytest

from deploy.local.binaries import Binaries, build
from deploy.local.layout import layout_of
from deploy.local.progress import Progress
from tests.chart.rendering import HELMS


@pytest.fixture(scope="session")
def binaries() -> Binaries:
    """The local cluster's programs; built already, unless this is the first test that ever runs."""
    return build(layout_of(), Progress())


@pytest.fixture(params=HELMS)
def helm(request: pytest.FixtureRequest, binaries: Binaries) -> str:
    """Both Helms, one after the other."""
    return binaries[request.param]
