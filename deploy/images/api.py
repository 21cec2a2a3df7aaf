"""Images for whoever installs Tandem: the command line here, the demo, the tests. It strings the steps together."""

import os
from collections.abc import Sequence

from deploy.images import build as building
from deploy.images.catalogue import images_of
from deploy.images.load import load, push
from deploy.images.storage import opened
from deploy.local.cluster import Cluster
from deploy.local.layout import cache_of
from deploy.local.progress import Progress


def build(names: Sequence[str], *, progress: Progress | None = None) -> dict[str, str]:
    """Build what is missing; returns references by name. Without a name: all that need no registry.

    Raises ImageError, and ClusterError when Debian packages cannot be installed.
    """
    return _provide(names, None, registry="", progress=progress)


def provide(
    names: Sequence[str], *, cluster: Cluster | None, registry: str = "", progress: Progress | None = None
) -> dict[str, str]:
    """Build what is missing and bring it to the local cluster's node, or else to `registry` (HOST/PATH).

    Returns by name the references under which pods find the images there. Raises ImageError, and ClusterError when the
    cluster has no real node.
    """
    if (cluster is None) == (not registry):
        raise ValueError(f"one of cluster ({cluster}) and registry ({registry!r}) has to be given")
    return _provide(names, cluster, registry=registry, progress=progress)


def _provide(
    names: Sequence[str], cluster: Cluster | None, *, registry: str, progress: Progress | None
) -> dict[str, str]:
    images = images_of(names)
    # First, because it is better to learn now than after ten minutes that there is no node.
    client = cluster.containerd_client() if cluster is not None else []
    with opened(cache_of(os.environ) / "images", progress or Progress()) as storage:
        references = building.build(images, storage)
        if client:
            load(references.values(), storage, client=client)
        if registry:
            references = {name: push(reference, storage, registry=registry) for name, reference in references.items()}
    return references
