"""What is not ours is refused: foreign state folders, foreign kubeconfigs, foreign clusters."""

from pathlib import Path
from typing import Any

import pytest

from deploy.local.addresses import PORT_NAMES
from deploy.local.cluster import Cluster
from deploy.local.errors import ClusterError
from deploy.local.layout import Layout
from deploy.local.locks import locked
from deploy.local.ownership import foreign_file_because
from deploy.local.record import Record, new_record, read_record, write_record

RECORD = Record("m", 88, dict.fromkeys(PORT_NAMES, 20000), has_real_node=True)


def make_kubeconfig(*, context: str = "tandem-local", server: str = RECORD.server) -> dict[str, Any]:
    return {"current-context": context, "clusters": [{"name": "c", "cluster": {"server": server}}]}


def make_cluster(folder: Path) -> Cluster:
    return Cluster(Layout(folder / "state", folder / "cache"))


def test_our_own_kubeconfig_is_accepted() -> None:
    assert foreign_file_because(make_kubeconfig(), RECORD) == ""


@pytest.mark.parametrize(
    ("kubeconfig", "reason"),
    [
        (make_kubeconfig(context="production"), "its context is 'production', expected 'tandem-local'"),
        (
            make_kubeconfig(server="https://10.0.0.1:6443"),
            f"its server is https://10.0.0.1:6443, expected {RECORD.server}",
        ),
        ({}, "no current-context"),
        (None, "no current-context"),
    ],
)
def test_a_foreign_kubeconfig_is_refused_with_the_reason(kubeconfig: object, reason: str) -> None:
    assert reason in foreign_file_because(kubeconfig, RECORD)


def test_a_cluster_without_our_mark_is_refused(cluster: Cluster, tmp_path: Path) -> None:
    # The running cluster, seen through a state folder that remembers another id.
    record = read_record(cluster.layout)
    assert record is not None
    stranger = Cluster(Layout(tmp_path / "state", cluster.layout.cache))
    stranger.layout.state.mkdir()
    stranger.kubeconfig.write_text(cluster.kubeconfig.read_text())
    write_record(stranger.layout, Record("another id", record.network_second, record.ports, record.has_real_node))
    with pytest.raises(ClusterError, match="holds another id"):
        stranger.refuse_foreign()


def test_up_refuses_a_folder_that_holds_something_else(tmp_path: Path) -> None:
    layout = make_cluster(tmp_path).layout
    layout.state.mkdir()
    (layout.state / "thesis.tex").touch()
    with pytest.raises(ClusterError, match=r"thesis\.tex but no cluster\.json"):
        new_record(layout, has_real_node=False)


def test_down_leaves_a_folder_alone_that_holds_something_else(tmp_path: Path) -> None:
    cluster = make_cluster(tmp_path)
    cluster.layout.state.mkdir()
    thesis = cluster.layout.state / "thesis.tex"
    thesis.touch()
    with pytest.raises(ClusterError, match="left alone"):
        cluster.down()
    assert thesis.exists()


def test_down_without_a_cluster_does_nothing(tmp_path: Path) -> None:
    make_cluster(tmp_path).down()
    assert list(tmp_path.iterdir()) == []


def test_down_removes_a_record_that_a_crash_cut_off(tmp_path: Path) -> None:
    cluster = make_cluster(tmp_path)
    cluster.layout.state.mkdir()
    cluster.layout.record.write_text('{"marker":')
    cluster.down()
    assert list(tmp_path.iterdir()) == []


def test_a_second_up_waits_and_then_says_who_holds_the_lock(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    held = locked(lock, "up", limit_seconds=1)
    second = locked(lock, "up", limit_seconds=0)
    with held, pytest.raises(ClusterError, match=f"another process holds {lock}"), second:
        pytest.fail("two hold one lock")
    assert not lock.exists()
