"""The keys that check ServiceAccount tokens, read from where the API server publishes them. Reads only.

Once after each resync, and only for deployments whose draft pods check tokens. A failed read keeps what was known and
says so; the next resync asks again.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace

from tandem_operator.causes import steady
from tandem_operator.cluster import Cluster, ClusterError
from tandem_operator.facts import IssuerKeys

_log = logging.getLogger(__name__)


class PublishedKeys:
    """What the API server last published."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._known = IssuerKeys()
        self._is_due = True
        self._reading = asyncio.Lock()

    def outdate(self) -> None:
        """The next who wants the keys reads them."""
        self._is_due = True

    async def latest(self) -> IssuerKeys:
        """The keys, read anew where that is due; never raises for what the API server answers."""
        async with self._reading:
            if self._is_due:
                self._is_due = False  # before the read: what becomes due meanwhile is read again
                self._known = await self._read()
        return self._known

    async def _read(self) -> IssuerKeys:
        try:
            return await self._cluster.issuer_keys()
        except ClusterError as error:
            _log.warning("the keys that check tokens cannot be read: %s", error)
            return replace(self._known, problem=steady(str(error)))
