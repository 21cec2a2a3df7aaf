"""Completion as shells and kubectl ask for it: real scripts, run by a real shell, with the real program behind them."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tandem_operator import names
from tandem_operator.cli.main import COMMANDS, main
from tests.builders import NAMESPACE, make_body
from tests.unit.operator.user_cluster import UserCluster, user_cluster

LIMIT_SECONDS = 60


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[UserCluster]:
    with user_cluster(tmp_path) as made:
        for name in ("pair", "solo"):
            made.put(names.KIND, make_body(name=name))
        yield made


def script_for(shell: str, capsys: pytest.CaptureFixture[str]) -> str:
    assert main(["completion", shell]) == 0
    return capsys.readouterr().out


def run(command: list[str], *, kubeconfig: Path) -> str:
    """What a shell prints, with `tandem` on its PATH, and that cluster the user's own."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "KUBECONFIG": str(kubeconfig)}
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=LIMIT_SECONDS, env=environment, cwd=kubeconfig.parent
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def completed_by_kubectl(cluster: UserCluster, capsys: pytest.CaptureFixture[str], *words: str) -> list[str]:
    """As kubectl calls the program: candidates, without what they mean."""
    script = cluster.kubeconfig.with_name("kubectl_complete-tandem")
    script.write_text(script_for("kubectl", capsys))
    *candidates, end = run(["sh", str(script), *words], kubeconfig=cluster.kubeconfig).splitlines()
    assert end == ":4"
    return [candidate.partition("\t")[0] for candidate in candidates if candidate]


def completed_by_bash(cluster: UserCluster, capsys: pytest.CaptureFixture[str], *words: str) -> list[str]:
    """As bash fills its array when somebody presses Tab."""
    script = cluster.kubeconfig.with_name("completion.bash")
    script.write_text(script_for("bash", capsys))
    line = " ".join(("tandem", *words))
    asked = (
        f"source {shlex.quote(str(script))}; COMP_LINE={shlex.quote(line)}; COMP_POINT=${{#COMP_LINE}}; "
        "COMP_TYPE=9; _python_argcomplete tandem; printf '%s\\n' \"${COMPREPLY[@]}\""
    )
    return [word.strip() for word in run(["bash", "-c", asked], kubeconfig=cluster.kubeconfig).splitlines()]


def test_kubectl_is_told_every_command_with_its_meaning(
    cluster: UserCluster, capsys: pytest.CaptureFixture[str]
) -> None:
    assert COMMANDS.keys() <= set(completed_by_kubectl(cluster, capsys, ""))
    assert completed_by_kubectl(cluster, capsys, "debug", "b") == ["bundle"]


def test_kubectl_is_told_names_of_the_namespace_that_was_named(
    cluster: UserCluster, capsys: pytest.CaptureFixture[str]
) -> None:
    assert completed_by_kubectl(cluster, capsys, "status", "-n", NAMESPACE, "p") == ["pair"]
    assert completed_by_kubectl(cluster, capsys, "status", "-n", "another", "p") == []


def test_bash_completes_names_and_values_of_options(cluster: UserCluster, capsys: pytest.CaptureFixture[str]) -> None:
    assert completed_by_bash(cluster, capsys, "top", "-n", NAMESPACE, "s") == ["solo"]
    assert completed_by_bash(cluster, capsys, "status", "-o", "j") == ["json"]


def test_without_an_answer_of_the_cluster_there_are_no_names(
    cluster: UserCluster, capsys: pytest.CaptureFixture[str]
) -> None:
    cluster.forbidden.add("llmdeployments")
    assert completed_by_kubectl(cluster, capsys, "status", "-n", NAMESPACE, "p") == []


@pytest.mark.parametrize(("shell", "line"), [("zsh", "#compdef tandem"), ("fish", "complete --command tandem ")])
def test_other_shells_get_the_librarys_script(shell: str, line: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert line in script_for(shell, capsys)


def test_another_shell_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["completion", "tcsh"])
    assert ended.value.code == 2
    assert "invalid choice" in capsys.readouterr().err


def test_nothing_else_needs_the_library() -> None:
    told = "import sys; sys.modules['argcomplete'] = None\nfrom tandem_operator.cli.main import main\n"
    listed = subprocess.run(
        [sys.executable, "-c", f"{told}sys.exit(main(['accelerators']))"], capture_output=True, timeout=LIMIT_SECONDS
    )
    assert listed.returncode == 0
    refused = subprocess.run(
        [sys.executable, "-c", f"{told}sys.exit(main(['completion', 'bash']))"],
        capture_output=True,
        text=True,
        timeout=LIMIT_SECONDS,
    )
    assert refused.returncode == 1
    assert "pip install 'tandem[cli]'" in refused.stderr
