"""On what a quantized model is asked before it serves: engine, settings and hardware of the pods to come. Pure.

The same model in the same image on the same hardware is asked once, whoever serves it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from tandem_contracts.artifact import is_artifact_key
from tandem_contracts.launch import Role, Speculation
from tandem_operator.role_inputs import RoleInputs, digest

SERVED_NAME = "smoke"


@dataclass(frozen=True)
class SmokeTarget:
    """`inputs`: those of a role, less what makes no difference to whether the model can be served."""

    inputs: RoleInputs

    @property
    def artifact(self) -> str:
        """Name of the artifact that is asked."""
        return self.inputs.model_path

    @property
    def name(self) -> str:
        """8 hex digits over the inputs."""
        return digest(self.inputs.as_data())[:8]


def smoke_target_of(inputs: RoleInputs) -> SmokeTarget | None:
    """None where there is nothing to ask: the model was not made by Jobs, or its pods answer no requests of clients.

    Nor where pods get their accelerators by a claim of their own, which a Job has not.
    """
    if inputs.role is not Role.VERIFIER or inputs.accelerator.is_claimed or not is_artifact_key(inputs.model_path):
        return None
    return SmokeTarget(
        replace(
            inputs,
            served_name=SERVED_NAME,
            speculation=Speculation.OFF,
            max_depth=0,
            in_engine=None,
            in_engine_model=None,
            api_key=None,
            draft_tls=None,
            topology_spread=None,
        )
    )
