"""A world in which Jobs of artifacts end and pods become Ready, for whole passes on a fake API server."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from tandem_contracts.artifact_job import Smoked
from tandem_contracts.quality import Quality
from tandem_contracts.reference import Reference
from tandem_contracts.termination import Phase
from tandem_operator import names
from tandem_operator.facts import Manifest
from tests.unit.operator.artifact_passes import World
from tests.unit.operator.artifacts import GOOD, MADE, make_measured
from tests.unit.operator.models import TINY

ROUNDS = 30


class Nodes:
    """What the rest of the cluster does: runs Jobs and pods, and collects what has lost its owner."""

    def __init__(self, quality: Callable[[Manifest], Quality] = lambda _: GOOD) -> None:
        """`quality`: what the evaluation of an artifact finds."""
        self._quality = quality
        self.space = MADE.free_bytes, MADE.capacity_bytes
        """Of the volume, as Jobs tell it that publish: free and in all."""
        self.reference: Reference | None = None
        """What evaluations record."""
        self.smoked = Smoked(ready_seconds=20.0, tokens_per_second=50.0, kernel="Kernel").encode(), 0
        """The last word of smoke tests, and their exit code."""
        self.begun: list[str] = []
        """Names of the Jobs that have been run, in order."""

    @property
    def made(self) -> list[str]:
        """The same without smoke tests, which make nothing."""
        return [name for name in self.begun if f"-{Phase.SMOKE}-" not in name]

    async def live(self, world: World) -> None:
        """Passes and what follows from them, until nothing changes any more."""
        for _ in range(ROUNDS):
            before = dict(world.server.objects)
            await world.settle()
            self.step(world)
            if world.server.objects == before:
                return
        raise AssertionError(f"it goes on and on: {world.writes()[-5:]}")

    def step(self, world: World) -> None:
        """What the cluster does meanwhile."""
        self._collect(world)
        for path in world.paths("Job"):
            if not world.server.objects[path].get("status"):
                self._run(world, path)
        for path in world.paths("Deployment"):
            there = world.server.objects[path]
            wanted = there["spec"].get("replicas", 1)
            counters = {"observedGeneration": there["metadata"]["generation"], "replicas": wanted}
            status = {**counters, "readyReplicas": wanted, "updatedReplicas": wanted, "availableReplicas": wanted}
            if there.get("status") != status:
                world.server.put(path, {**there, "status": status})

    def _run(self, world: World, path: str) -> None:
        job = world.server.objects[path]
        self.begun.append(job["metadata"]["name"])
        artifact = world.artifact(job["metadata"]["labels"][names.LABEL_ARTIFACT])
        phase, exit_code = job["metadata"]["labels"][names.LABEL_COMPONENT], 0
        match phase:
            case Phase.INSPECT:
                message = TINY.encode()
            case Phase.EVALUATE:
                message = make_measured(self._quality(artifact), self.reference)
            case Phase.SMOKE:
                message, exit_code = self.smoked
            case Phase.EVICT:
                message = "{}"
            case _:
                form = "compressed-tensors" if phase == Phase.QUANTIZE else ""
                free, capacity = self.space
                made = replace(MADE, model=replace(TINY, quantization=form), free_bytes=free, capacity_bytes=capacity)
                message = made.encode()
        world.job_says(message=message, exit_code=exit_code, path=path)

    @staticmethod
    def _collect(world: World) -> None:
        for _ in range(2):
            uids = {each["metadata"]["uid"] for each in world.server.objects.values()}
            for path, each in list(world.server.objects.items()):
                metadata = each["metadata"]
                owners = [owner["uid"] for owner in metadata.get("ownerReferences") or []]
                owners += [uid for uid in [(metadata.get("labels") or {}).get(JOB_UID)] if uid]
                if owners and not uids.intersection(owners):
                    del world.server.objects[path]


JOB_UID = "batch.kubernetes.io/controller-uid"
