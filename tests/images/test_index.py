"""How the machine's own package index and certificates reach a build, without a trace in the image."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from deploy.images.index import certificates, index_settings, shell_lines

MINE = "https://user:it's $ecret@index.example/simple"


def make_home(folder: Path, **files: str) -> dict[str, str]:
    """An environment whose configuration files, by `pip` and `uv`, have the given contents."""
    paths = {"pip": folder / ".config/pip/pip.conf", "uv": folder / ".config/uv/uv.toml"}
    for name, content in files.items():
        paths[name].parent.mkdir(parents=True, exist_ok=True)
        paths[name].write_text(content)
    return {"HOME": str(folder), "PIP_CONFIG_FILE": "/nonexistent", "UV_CONFIG_FILE": str(paths["uv"])}


@pytest.mark.parametrize("variable", ["UV_DEFAULT_INDEX", "UV_INDEX_URL", "PIP_INDEX_URL"])
def test_each_variable_leads_pip_and_uv_to_the_same_index(variable: str, tmp_path: Path) -> None:
    found = index_settings({**make_home(tmp_path), variable: MINE})
    assert found["PIP_INDEX_URL"] == found["UV_DEFAULT_INDEX"] == MINE


def test_pips_file_is_read(tmp_path: Path) -> None:
    home = make_home(
        tmp_path, pip=f"[global]\nindex-url = {MINE}\nextra-index-url =\n  https://a.example\n  https://b\n"
    )
    found = index_settings(home)
    assert found["UV_DEFAULT_INDEX"] == MINE
    assert found["UV_INDEX"] == found["PIP_EXTRA_INDEX_URL"] == "https://a.example https://b"


def test_uvs_file_wins_over_pips_and_a_variable_over_both(tmp_path: Path) -> None:
    uv = '[[index]]\nurl = "https://uv.example"\ndefault = true\n[[index]]\nurl = "https://more.example"\n'
    home = make_home(tmp_path, pip="[global]\nindex-url = https://pip.example\n", uv=uv)
    found = index_settings(home)
    assert found["PIP_INDEX_URL"] == "https://uv.example"
    assert found["UV_INDEX"] == "https://more.example"
    assert index_settings({**home, "UV_INDEX_URL": MINE})["PIP_INDEX_URL"] == MINE


def test_other_settings_and_secrets_of_the_environment_stay_outside(tmp_path: Path) -> None:
    found = index_settings(
        {**make_home(tmp_path), "UV_HTTP_TIMEOUT": "60", "UV_PUBLISH_TOKEN": "x", "PIP_FIND_LINKS": "/w"}
    )
    assert "UV_PUBLISH_TOKEN" not in found
    assert "PIP_FIND_LINKS" not in found
    assert found["UV_HTTP_TIMEOUT"] == "60"


def test_a_shell_reads_back_what_was_written(tmp_path: Path) -> None:
    file = tmp_path / "index"
    file.write_text(shell_lines({"UV_DEFAULT_INDEX": MINE, "A": "b c"}))
    script = 'set -a; . "$1"; exec env'
    done = subprocess.run(["sh", "-c", script, "sh", str(file)], capture_output=True, text=True, timeout=10, check=True)
    assert {f"UV_DEFAULT_INDEX={MINE}", "A=b c"} <= set(done.stdout.splitlines())


def test_the_first_certificate_file_that_exists_is_taken(tmp_path: Path) -> None:
    file = tmp_path / "ca.pem"
    file.write_text("x")
    assert certificates({"SSL_CERT_FILE": str(tmp_path / "none.pem"), "REQUESTS_CA_BUNDLE": str(file)}) == file
