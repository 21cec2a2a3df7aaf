"""The volumes with a pod's models: read-only, from claims or images, each source mounted once."""

from __future__ import annotations

from dataclasses import dataclass

from tandem_operator.facts import Manifest
from tandem_operator.model_files import ModelFiles
from tandem_operator.role_inputs import RoleInputs

MODELS = "/models"
IN_ENGINE_MODELS = "/in-engine-models"


@dataclass(frozen=True)
class ModelVolumes:
    """Volumes and mounts of a pod, and where the models are in its engine container."""

    volumes: tuple[Manifest, ...]
    mounts: tuple[Manifest, ...]
    model: str
    in_engine_model: str = ""


def model_volumes_of(inputs: RoleInputs) -> ModelVolumes:
    """One volume for the role's model, and one for the weights that draft in the engine unless it is the same one.

    The same claim is never mounted twice: the kubelet waits for a second volume of the same claim in vain.
    """
    volumes, mounts = [volume_of("models", inputs.model)], [mount_of("models", MODELS)]
    model = folder_of(MODELS, inputs.model)
    second = inputs.in_engine_model
    if second is None:
        return ModelVolumes(tuple(volumes), tuple(mounts), model)
    if (second.claim_name, second.image) == (inputs.model.claim_name, inputs.model.image):
        return ModelVolumes(tuple(volumes), tuple(mounts), model, folder_of(MODELS, second))
    volumes.append(volume_of("in-engine-models", second))
    mounts.append(mount_of("in-engine-models", IN_ENGINE_MODELS))
    return ModelVolumes(tuple(volumes), tuple(mounts), model, folder_of(IN_ENGINE_MODELS, second))


def folder_of(mounted_at: str, files: ModelFiles) -> str:
    """Where the model is in a container that has its volume mounted there."""
    return f"{mounted_at}/{files.path}" if files.path else mounted_at


def volume_of(name: str, files: ModelFiles) -> Manifest:
    """The volume with a model's files."""
    if files.image:
        return {"name": name, "image": {"reference": files.image, "pullPolicy": "IfNotPresent"}}
    return {"name": name, "persistentVolumeClaim": {"claimName": files.claim_name, "readOnly": True}}


def mount_of(name: str, path: str) -> Manifest:
    """The mount of such a volume."""
    return {"name": name, "mountPath": path, "readOnly": True}
