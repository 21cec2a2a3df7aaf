"""What an engine has compiled: published beside the weights, restored for the next engine, never in the way of one."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import pytest

from tandem_contracts.compile_cache import compile_cache_name
from tandem_contracts.manifest import MANIFEST
from tandem_runtime.artifacts import evict
from tandem_runtime.artifacts.compile_cache import CACHES_KEPT, publish_compile_cache
from tandem_runtime.artifacts.volume import Volume
from tandem_runtime.launch.compile_cache import restore

KEY = "v1-" + "a" * 26
NAME = compile_cache_name(KEY, "0123abcd", "chat")


@pytest.fixture
def volume(tmp_path: Path) -> Volume:
    (tmp_path / "volume").mkdir()
    whole = Volume(tmp_path / "volume")
    whole.prepare_compiled()
    return whole.compiled


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    folder = tmp_path / "cache"
    for name, content in {"vllm/graph": b"graph", "inductor/ab/k.so": b"\x7fELF", "inductor/locks/k.lock": b""}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    (folder / "inductor" / "away").symlink_to("/etc")
    return folder


def published(cache: Path, volume: Volume, name: str = NAME) -> int:
    return publish_compile_cache(cache, volume, name, artifact=KEY, owner="pod")


def files_in(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_next_engine_finds_what_was_compiled(cache: Path, volume: Volume, tmp_path: Path) -> None:
    assert published(cache, volume) == len(b"graph") + len(b"\x7fELF")
    restore(volume.folder(NAME), tmp_path / "next")
    assert files_in(tmp_path / "next") == {"vllm/graph": b"graph", "inductor/ab/k.so": b"\x7fELF"}


def test_the_first_to_publish_wins(cache: Path, volume: Volume) -> None:
    first = published(cache, volume)
    (cache / "vllm" / "graph").write_bytes(b"another graph")
    assert published(cache, volume) == first
    assert (volume.folder(NAME) / "vllm" / "graph").read_bytes() == b"graph"


def test_what_an_engine_has_already_stays(cache: Path, volume: Volume, tmp_path: Path) -> None:
    published(cache, volume)
    (tmp_path / "next" / "vllm").mkdir(parents=True)
    (tmp_path / "next" / "vllm" / "graph").write_bytes(b"newer")
    restore(volume.folder(NAME), tmp_path / "next")
    assert files_in(tmp_path / "next")["vllm/graph"] == b"newer"


@pytest.mark.parametrize("harm", ["another content", "a file is missing", "no JSON", "out of the folder"])
def test_a_cache_that_is_not_what_was_published_is_not_used(
    cache: Path, volume: Volume, tmp_path: Path, harm: str, caplog: pytest.LogCaptureFixture
) -> None:
    published(cache, volume)
    folder = volume.folder(NAME)
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o755)
    match harm:
        case "another content":
            (folder / "vllm" / "graph").write_bytes(b"grape")
        case "a file is missing":
            (folder / "vllm" / "graph").unlink()
        case "no JSON":
            (folder / MANIFEST).write_text("{")
        case _:
            (folder / MANIFEST).write_text((folder / MANIFEST).read_text().replace("vllm/graph", "../graph"))
            (folder.parent / "graph").write_bytes(b"graph")
    restore(folder, tmp_path / "next")
    assert not (tmp_path / "next" / "vllm").exists()
    assert not (tmp_path / "graph").exists()
    assert "cannot be used whole" in caplog.text


def test_without_one_an_engine_compiles(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        restore(tmp_path / "absent", tmp_path / "next")
    assert "compile cache: none" in caplog.text


def test_a_volume_that_cannot_be_written_to_costs_no_smoke_test(cache: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    assert published(cache, Volume(tmp_path / "file")) == 0


def test_a_volume_without_room_gets_none(cache: Path, volume: Volume, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: object) -> os.statvfs_result:
        return os.statvfs_result((1, 1, 10, 0, 0, 0, 0, 0, 0, 255))

    monkeypatch.setattr(os, "statvfs", full)
    assert published(cache, volume) == 0
    assert volume.names() == []


def test_only_the_newest_caches_of_an_artifact_are_kept(cache: Path, volume: Volume) -> None:
    other = compile_cache_name("v1-" + "b" * 26, "0123abcd", "chat")
    published(cache, volume, other)
    names = [compile_cache_name(KEY, f"{number:08x}", "chat") for number in range(CACHES_KEPT + 2)]
    for number, name in enumerate(names):
        published(cache, volume, name)
        os.utime(volume.folder(name), (number, number))
    assert volume.names() == sorted([other, *names[2:]])


def test_an_artifact_that_goes_takes_its_caches_with_it(cache: Path, volume: Volume, tmp_path: Path) -> None:
    other = compile_cache_name("v1-" + "b" * 26, "0123abcd", "chat")
    published(cache, volume)
    published(cache, volume, other)
    word = tmp_path / "word"
    arguments = [f"--key={KEY}", f"--volume={tmp_path / 'volume'}", f"--termination-log={word}"]
    assert evict.main(arguments) == 0
    assert volume.names() == [other]
    assert [path.name for path in (tmp_path / "volume" / ".compiled" / ".trash").iterdir()] == []
