"""What a container has used: all that it is charged with, less the pages of files that nobody uses."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from tandem_runtime.drafting import vllm_memory


@pytest.fixture
def statistics(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Of a cgroup v1; there is none of v2."""
    path = tmp_path / "memory.stat"
    files = {tmp_path / "none": "inactive_file", path: "total_inactive_file"}
    monkeypatch.setattr(vllm_memory, "_STATISTICS", files)
    return path


def counted(charged: int | None) -> int | None:
    resources = SimpleNamespace(get_cgroup_memory_usage=lambda: charged)
    vllm_memory.count_without_idle_pages(resources)
    vllm_memory.count_without_idle_pages(resources)  # as where two modules ask for it
    found: int | None = resources.get_cgroup_memory_usage()
    return found


def test_pages_that_the_kernel_gives_back_are_not_used(statistics: Path) -> None:
    statistics.write_text("cache 30\ninactive_file 7\ntotal_inactive_file 20\n")
    assert counted(100) == 80
    assert counted(None) is None


@pytest.mark.parametrize("text", [None, "cache 30\n"])
def test_where_nobody_tells_all_that_is_charged_is_used(statistics: Path, text: str | None) -> None:
    if text is not None:
        statistics.write_text(text)
    assert counted(100) == 100
