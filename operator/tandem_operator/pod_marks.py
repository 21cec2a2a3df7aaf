"""Marks pods with what it costs to delete them. All that the operator ever writes to a pod.

A mark that cannot be put keeps nothing back: at worst a pod goes that had more to do, and it answers what it has first.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable

from tandem_operator import names
from tandem_operator.cluster import Cluster, ClusterError, ConflictError, NotFoundError
from tandem_operator.deletion_costs import DeletionCost
from tandem_operator.store import Store

_log = logging.getLogger(__name__)


class PodMarks:
    """Puts them, and says once why it cannot."""

    def __init__(self, cluster: Cluster, store: Store) -> None:
        self._cluster, self._store = cluster, store
        self._is_told = False

    async def put(self, costs: Iterable[DeletionCost], namespace: str) -> None:
        """Mark all of them at once."""
        await asyncio.gather(*(self._put(cost, namespace) for cost in costs))

    async def _put(self, cost: DeletionCost, namespace: str) -> None:
        written = {names.ANNOTATION_DELETION_COST: str(cost.cost) if cost.cost else None}
        try:
            pod = await self._cluster.annotate(cost.ref, namespace, uid=cost.uid, annotations=written)
        except (NotFoundError, ConflictError):
            return  # it has gone meanwhile
        except ClusterError as error:
            if not self._is_told:
                _log.warning("pods cannot be marked, so that those with the least to do go first: %s", error)
            self._is_told = True
            return
        self._is_told = False
        self._store.observe(pod)
