"""Load that differs, until the operator knows what a verifier does within its target."""

from __future__ import annotations

import itertools
import time
from collections.abc import Sequence

from deploy.demo.scaling import Pace
from deploy.load import Load
from tests.e2e.conftest import Site

LEARNING_SECONDS, LEARNING_LIMIT_SECONDS = 30, 400


def learn(site: Site, name: str, *, clients: Sequence[int], max_tokens: int) -> None:
    """Load the deployment's verifiers with so many clients by turns. Three minutes at least."""
    pace, deadline = Pace(site.place, site.namespace), time.monotonic() + LEARNING_LIMIT_SECONDS
    for asking in itertools.cycle(clients):
        with Load(site.address(name), model=name, clients=asking, max_tokens=max_tokens):
            end = time.monotonic() + LEARNING_SECONDS
            while time.monotonic() < end:
                if pace.is_learned():
                    return
                assert time.monotonic() < deadline, (
                    f"no pace was learned in {LEARNING_LIMIT_SECONDS} s: {_told(site, name)}"
                )
                time.sleep(1)


def _told(site: Site, name: str) -> object:
    return site.get("llm", name)["status"].get("scaling")
