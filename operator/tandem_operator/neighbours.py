"""Namespaces that an operator of their own leads: one that serves the whole cluster leaves them alone.

The lease of such an operator says so. It needs not know of the other one, and where it is uninstalled, or dies for
good, the other takes over.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from tandem_operator.lease import Lease

_log = logging.getLogger(__name__)

ASKED_EVERY_SECONDS = 15.0


class Neighbours:
    """Asks for the lease of a namespace before a pass there, and again once the answer has grown old."""

    def __init__(self, lease_of: Callable[[str], Lease]) -> None:
        self._lease_of = lease_of
        self._leases: dict[str, Lease] = {}
        self._known: dict[str, tuple[float, str]] = {}
        """By namespace: when it was asked for, and who leads there."""

    async def leads(self, namespace: str) -> str:
        """Who leads there beside this process; empty for nobody. Raises ClusterError."""
        asked, known = self._known.get(namespace, (float("-inf"), ""))
        if _now() < asked + ASKED_EVERY_SECONDS:
            return known
        lease = self._leases.setdefault(namespace, self._lease_of(namespace))
        begun, holder = _now(), await lease.others()
        if holder != known:
            _log.info("namespace %s: %s", namespace, f"left to {holder}" if holder else "taken over")
        self._known[namespace] = begun, holder
        return holder


def _now() -> float:
    return asyncio.get_running_loop().time()
