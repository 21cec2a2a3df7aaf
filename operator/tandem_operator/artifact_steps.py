"""What the Jobs of an artifact do, one step each. Pure.

A model as it lies is inspected; one that is fetched is inspected while it is fetched. A quantized one is made from
either, and measured on every set of texts that somebody's gate names.
"""

from __future__ import annotations

from dataclasses import dataclass

from tandem_contracts.termination import Phase
from tandem_operator import names
from tandem_operator.api.artifact import BUILT_IN, ModelArtifactSpec
from tandem_operator.api.quantization import ConfigMapKeyRef, Gate


@dataclass(frozen=True)
class Texts:
    """Texts of a ConfigMap; without one those that come with Python."""

    reference: ConfigMapKeyRef | None = None

    @classmethod
    def of_gate(cls, gate: Gate | None) -> Texts:
        """What a gate measures with."""
        return cls(gate.evaluation.config_map_key_ref if gate and gate.evaluation else None)

    def __str__(self) -> str:
        return f"{self.reference.name}/{self.reference.key}" if self.reference else BUILT_IN


@dataclass(frozen=True)
class Step:
    """One step. `texts`: those of an evaluation. `smoke`: the name of the target of a smoke test."""

    phase: Phase
    texts: Texts = Texts()
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
        return names.artifact_job_name(artifact, self.phase, texts=str(self.texts) if self.texts.reference else "")


def first_step_of(spec: ModelArtifactSpec) -> Step:
    """The step that makes the artifact, or that looks into it where it lies."""
    if spec.quantization is not None:
        return Step(Phase.QUANTIZE)
    return Step(Phase.FETCH if spec.source.is_fetched else Phase.INSPECT)
