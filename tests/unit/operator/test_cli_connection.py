"""Why there is no cluster to talk to: one plain sentence that names the kubeconfig."""

from __future__ import annotations

from pathlib import Path

import pytest

from tandem_operator import names
from tandem_operator.cli.main import main
from tests.builders import NAMESPACE, make_body
from tests.unit.operator.user_cluster import user_cluster

UNREACHABLE = """
apiVersion: v1
kind: Config
clusters: [{name: here, cluster: {server: "http://127.0.0.1:1"}}]
users: [{name: me, user: {}}]
contexts: [{name: mine, context: {cluster: here, user: me}}]
current-context: mine
"""


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (None, "no cluster in kubeconfig FILE (--kubeconfig or KUBECONFIG names another): there is no such file"),
        ("a: [", "line 1, column 5: expected the node content, but found '<stream end>', while parsing a flow node"),
        (
            UNREACHABLE,
            "no answer from the API server http://127.0.0.1:1: Failed to establish a new connection: Connection",
        ),
    ],
)
def test_a_kubeconfig_that_leads_nowhere_is_told_in_one_sentence(
    content: str | None, told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "kubeconfig"
    if content is not None:
        file.write_text(content, encoding="utf-8")
    assert main(["status", "pair", "--kubeconfig", str(file)]) == 1
    said = capsys.readouterr().err
    assert told.replace("FILE", str(file)) in said
    assert said.count("\n") == 1


WITH = "current-context: a\ncontexts: [{name: a, context: %s}]\nclusters: %s\nusers: %s\n"


@pytest.mark.parametrize(
    "content",
    [
        b"root:x:0:0:root:/root:/bin/bash\n",
        b"[1]\n",
        b"7\n",
        b"current-context: a\ncontexts: 3\n",
        (WITH % ("b", "[]", "[]")).encode(),
        (WITH % ("{cluster: c, user: u}", "4", "[]")).encode(),
        (WITH % ("{cluster: c, user: u}", "[{name: c, cluster: {server: h}}]", "[{name: u, user: 3}]")).encode(),
        b"\xff\xfe",
    ],
)
def test_what_is_no_kubeconfig_is_told_so(content: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "kubeconfig"
    file.write_bytes(content)
    assert main(["status", "pair", "--kubeconfig", str(file)]) == 1
    where = f"no cluster in kubeconfig {file} (--kubeconfig or KUBECONFIG names another)"
    assert capsys.readouterr().err == (
        f"tandem: {where}: is no kubeconfig, which is YAML with lists of clusters, users and contexts\n"
    )


@pytest.mark.parametrize("command", ["status", "why"])
@pytest.mark.parametrize(
    ("there", "exit_code", "told"),
    [
        (["alone"], None, "alone"),
        ([], 2, f"namespace {NAMESPACE} has no LLMDeployment"),
        (["one", "two"], 1, f"NAME is omitted, and namespace {NAMESPACE} has 2: one, two"),
    ],
)
def test_who_only_looks_need_not_name_the_only_resource(
    command: str,
    there: list[str],
    exit_code: int | None,
    told: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with user_cluster(tmp_path) as cluster:
        for name in there:
            cluster.put(names.KIND, make_body(name=name))
        code = main(cluster.options(command))
    said = capsys.readouterr()
    assert told in (said.out if exit_code is None else said.err)
    if exit_code is not None:
        assert code == exit_code


def test_a_folder_is_no_kubeconfig(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", "pair", "--kubeconfig", str(tmp_path)]) == 1
    assert (
        f"{tmp_path} (--kubeconfig or KUBECONFIG names another): is a folder, not a file\n" in capsys.readouterr().err
    )


@pytest.mark.parametrize("words", [["status"], ["status", "pair"], ["why", "pair"], ["pause", "pair"]])
def test_a_cluster_without_the_resource_is_told_as_such(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with user_cluster(tmp_path) as cluster:
        cluster.unknown = {names.GROUP}
        assert main(cluster.options(*words)) == 2
    said = capsys.readouterr().err
    assert "knows no LLMDeployment: Tandem is not installed there, or this is another cluster" in said
    assert said.count("\n") == 1


def test_a_list_that_may_not_be_read_is_told_with_its_namespace(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with user_cluster(tmp_path) as cluster:
        cluster.forbidden = {"llmdeployments"}
        assert main(cluster.options("status")) == 1
    assert f"LLMDeployment in namespace {NAMESPACE}: " in capsys.readouterr().err
