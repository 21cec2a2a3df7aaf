"""A world with one lease: a fake API server, and the operators that want to lead."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest

from tandem_operator.facts import Manifest
from tandem_operator.lease import Lease, LeaseLostError, Terms
from tests.unit.operator.fake_api_server import FakeApiServer, connect, serve
from tests.unit.operator.virtual_time import now, run

PATH = "/apis/coordination.k8s.io/v1/namespaces/chat/leases/tandem-operator"


TERMS = Terms(15)


class World:
    """A server and the operators that want to lead."""

    def __init__(self, server: FakeApiServer, stack: AsyncExitStack) -> None:
        self.server, self._stack = server, stack

    async def operator(self, identity: str) -> Lease:
        cluster = await self._stack.enter_async_context(connect(self.server, identity))
        return Lease(cluster, "chat", identity=identity, terms=TERMS)

    @property
    def spec(self) -> Manifest:
        found: Manifest = self.server.objects[PATH]["spec"]
        return found

    def held_by(self, holder: str, **spec: Any) -> None:
        """Write the lease as somebody else would."""
        self.server.put(
            PATH,
            {
                "apiVersion": "coordination.k8s.io/v1",
                "kind": "Lease",
                "metadata": {"name": "tandem-operator", "namespace": "chat"},
                "spec": {"holderIdentity": holder, "leaseDurationSeconds": 15, "leaseTransitions": 4, **spec},
            },
        )


def play(script: Callable[[World], Awaitable[None]]) -> None:
    async def main() -> None:
        async with serve() as server, AsyncExitStack() as stack:
            await script(World(server, stack))

    run(main())


async def seconds_until(wanted: Awaitable[None]) -> float:
    begun = now()
    await wanted
    return now() - begun


async def lost(lease: Lease) -> LeaseLostError:
    """Keep the lease until it is lost."""
    with pytest.raises(LeaseLostError) as caught:
        await lease.keep()
    return caught.value
