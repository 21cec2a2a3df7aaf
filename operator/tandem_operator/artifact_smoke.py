"""On what a quantized model is asked before it serves: engine, settings and hardware of the pods to come. Pure.

The same model in the same image on the same hardware is asked once, whoever serves it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from tandem_contracts.artifact import is_artifact_key
from tandem_contracts.compile_cache import FOLDER, compile_cache_name
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
    # An engine that takes drafts from elsewhere compiles under another key than one that does not.
    drafts = Speculation.REMOTE if inputs.speculation is Speculation.REMOTE else Speculation.OFF
    return SmokeTarget(
        replace(
            inputs,
            served_name=SERVED_NAME,
            speculation=drafts,
            max_depth=0 if drafts is Speculation.OFF else 1,
            in_engine=None,
            in_engine_model=None,
            api_key=None,
            draft_tls=None,
            traces=None,
            scrape_annotations=False,
            topology_spread=None,
        )
    )


def compile_cache_of(inputs: RoleInputs, namespace: str) -> str:
    """Path on the model's volume of what the smoke test's engine has compiled for such pods; empty where none asks."""
    target = smoke_target_of(inputs)
    return f"{FOLDER}/{compile_cache_name(target.artifact, target.name, namespace)}" if target else ""
