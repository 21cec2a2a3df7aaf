"""What the Jobs of an artifact do, one step each. Pure.

A model as it lies is inspected; one that is fetched is inspected while it is fetched. A quantized one is made from
either, and measured on every set of texts that somebody's gate names.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tandem_contracts.artifact_job import TaskSettings
from tandem_contracts.recipe import KVCache
from tandem_contracts.termination import Phase
from tandem_operator import names
from tandem_operator.api.artifact import BUILT_IN, ModelArtifactSpec
from tandem_operator.api.quantization import ConfigMapKeyRef, Gate


@dataclass(frozen=True)
class Measurement:
    """What a quantized model is measured on."""

    reference: ConfigMapKeyRef | None = None
    """Texts; None: those that come with Python."""
    tasks_config_map: str = ""
    """With the files of the tasks; empty where there are none."""
    tasks: tuple[TaskSettings, ...] = ()
    long_context_tokens: int = 0
    """0: recall from a long context is not measured."""

    @classmethod
    def of_gate(cls, gate: Gate | None, *, kv_cache: KVCache = KVCache.AS_COMPUTED) -> Measurement:
        """What a gate measures. A cache that is quantized can lose what is far back, which nothing else shows."""
        given = gate or Gate()
        tokens = given.long_context_tokens(kv_cache)
        return cls(
            given.evaluation.config_map_key_ref if given.evaluation else None,
            given.tasks.config_map_name if given.tasks else "",
            tuple(
                TaskSettings(name=task.name, limit=task.limit) for task in (given.tasks.tasks if given.tasks else ())
            ),
            tokens,
        )

    @classmethod
    def of_need(cls, gate: Gate | None, spec: ModelArtifactSpec) -> Measurement:
        """What a gate measures of an artifact."""
        return cls.of_gate(gate, kv_cache=spec.quantization.kv_cache if spec.quantization else KVCache.AS_COMPUTED)

    def __str__(self) -> str:
        """Its name, by which a measured loss is found again."""
        parts = [f"{self.reference.name}/{self.reference.key}" if self.reference else BUILT_IN]
        if self.tasks:
            told = ",".join(f"{task.name}:{task.limit}" if task.limit else task.name for task in self.tasks)
            parts.append(f"tasks {self.tasks_config_map}/{told}")
        if self.long_context_tokens:
            parts.append(f"context {self.long_context_tokens}")
        return "; ".join(parts)


NOTHING_NAMED = Measurement()


@dataclass(frozen=True)
class Step:
    """One step. `measurement`: that of an evaluation. `smoke`: the name of the target of a smoke test."""

    phase: Phase
    measurement: Measurement = NOTHING_NAMED
    smoke: str = ""

    @property
    def changes_files(self) -> bool:
        """Whether the Job writes to the volume."""
        return self.phase in {Phase.FETCH, Phase.QUANTIZE, Phase.EVICT}

    @property
    def needs_source(self) -> bool:
        """Whether the Job reads the model that the artifact is made from."""
        return self.phase in {Phase.QUANTIZE, Phase.EVALUATE}

    def job_name(self, artifact: str) -> str:
        """Name of the step's Job."""
        if self.smoke:
            return names.artifact_job_name(artifact, self.phase, ending=self.smoke)
        return names.artifact_job_name(
            artifact, self.phase, texts="" if self.measurement == NOTHING_NAMED else str(self.measurement)
        )


def is_evicting(status: Mapping[str, Any], artifact: str) -> bool:
    """Whether an artifact's files are about to go, or going: nobody may count on them any more."""
    return bool(status.get("job") == Step(Phase.EVICT).job_name(artifact))


def first_step_of(spec: ModelArtifactSpec) -> Step:
    """The step that makes the artifact, or that looks into it where it lies."""
    if spec.quantization is not None:
        return Step(Phase.QUANTIZE)
    return Step(Phase.FETCH if spec.source.is_fetched else Phase.INSPECT)
