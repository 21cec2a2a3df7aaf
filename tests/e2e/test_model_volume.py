"""Models on a claim of a cluster that does not see our disk: copied through a pod."""

from __future__ import annotations

import filecmp
from pathlib import Path
from typing import Any

import pytest

from deploy import model_volume
from deploy.fixtures.pair import ModelPair
from deploy.images import api as images
from deploy.local.cluster import Cluster
from deploy.place import local_place

pytestmark = [pytest.mark.real_node, pytest.mark.timeout(300)]


def _provisioned(namespace: str, folder: Path) -> dict[str, Any]:
    """What a StorageClass's provisioner would make for the claim: an empty volume that can be written to."""
    volume = model_volume.volume_of(namespace, folder)
    volume["spec"]["accessModes"] = ["ReadWriteOnce"]
    return volume


def test_models_are_copied_into_a_claim_whole(
    cluster: Cluster, models: ModelPair, namespace: str, tmp_path: Path
) -> None:
    place = local_place(cluster)
    image = images.provide(["operator"], cluster=cluster)["operator"]
    folder = tmp_path / "volume"
    folder.mkdir()
    folder.chmod(0o777)  # a provisioner honours fsGroup, a folder of the node does not
    for parent in (tmp_path, tmp_path.parent, tmp_path.parent.parent):
        parent.chmod(0o755)
    place.apply(_provisioned(namespace, folder))
    try:
        model_volume.provide_by_copy(place, namespace, folder=models.folder, image=image)
    finally:
        place.run("delete", "persistentvolume", f"models-{namespace}", "--wait=false")
    copied = sorted(path.relative_to(models.folder) for path in models.folder.rglob("*") if path.is_file())
    assert len(copied) >= 8
    same, different, unread = filecmp.cmpfiles(models.folder, folder, [str(path) for path in copied], shallow=False)
    assert (different, unread) == ([], [])
    assert len(same) == len(copied)
