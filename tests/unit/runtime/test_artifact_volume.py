"""The volume of artifacts: nobody ever sees half of one, whoever is killed, and the first to publish wins."""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import signal
import time
from pathlib import Path

import pytest

from tandem_contracts.manifest import MANIFEST, InvalidManifestError, Manifest
from tandem_runtime.artifacts.volume import ABANDONED_SECONDS, KEPT_SECONDS, Published, Volume, VolumeFullError

LIMIT_SECONDS = 60
SIZE = 300_000


def staged(volume: Volume, key: str, owner: str, content: bytes = b"weights") -> tuple[Published, Manifest]:
    with volume.staging(key, owner) as folder:
        (folder / "sub").mkdir()
        weights = folder / "sub" / "model.safetensors"
        weights.write_bytes(content)
        weights.chmod(0o600)
        (folder / "config.json").write_text("{}")
        return volume.publish(key, folder, {"by": owner})


def test_what_is_published_is_found_whole_and_can_be_read_by_every_user(tmp_path: Path) -> None:
    volume = Volume(tmp_path)
    result, manifest = staged(volume, "v1-a", "one")
    assert result is Published.OURS
    assert volume.find("v1-a") == manifest
    assert [file.path for file in manifest.files] == ["config.json", "sub/model.safetensors"]
    assert manifest.bytes == len("{}") + len("weights")
    modes = {path.name: path.stat().st_mode & 0o777 for path in (tmp_path / "v1-a").rglob("*")}
    assert modes == {"sub": 0o755, "model.safetensors": 0o444, "config.json": 0o444, MANIFEST: 0o444}
    assert list((tmp_path / ".staging").iterdir()) == []


def test_the_second_to_publish_uses_what_is_there(tmp_path: Path) -> None:
    volume = Volume(tmp_path)
    _, first = staged(volume, "v1-a", "one")
    result, found = staged(volume, "v1-a", "two", b"others")
    assert (result, found) == (Published.THERE_BEFORE, first)
    assert list((tmp_path / ".staging").iterdir()) == []


@pytest.mark.parametrize("harm", ["no manifest", "no JSON", "another size", "a file is missing", "another key"])
def test_what_is_not_whole_is_no_artifact_and_gives_way(tmp_path: Path, harm: str) -> None:
    volume = Volume(tmp_path)
    staged(volume, "v1-a", "one")
    folder = tmp_path / "v1-a"
    folder.chmod(0o755)
    match harm:
        case "no manifest":
            (folder / MANIFEST).unlink()
        case "no JSON":
            (folder / MANIFEST).unlink()
            (folder / MANIFEST).write_text('{"version": 1')
        case "another size":
            (folder / "config.json").unlink()
            (folder / "config.json").write_text("{ }")
        case "a file is missing":
            (folder / "config.json").unlink()
        case _:
            text = (folder / MANIFEST).read_text().replace("v1-a", "v1-b")
            (folder / MANIFEST).unlink()
            (folder / MANIFEST).write_text(text)
    assert volume.find("v1-a") is None
    result, manifest = staged(volume, "v1-a", "two")
    assert result is Published.OURS
    assert volume.find("v1-a") == manifest


def test_a_link_out_of_the_folder_is_not_published(tmp_path: Path) -> None:
    volume = Volume(tmp_path)
    with volume.staging("v1-a", "one") as folder:
        (folder / "passwd").symlink_to("/etc/passwd")
        with pytest.raises(OSError, match="no regular file"):
            volume.publish("v1-a", folder, {})
    assert volume.find("v1-a") is None


def test_what_is_retired_is_gone_at_once_and_deleted_with_the_next_sweep(tmp_path: Path) -> None:
    volume = Volume(tmp_path)
    staged(volume, "v1-a", "one")
    volume.retire("v1-a")
    assert volume.find("v1-a") is None
    assert len(volume.sweep()) == 1
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == []
    volume.retire("v1-a")  # twice does no harm


def test_a_sweep_takes_what_nobody_has_worked_on_for_long_and_nothing_else(tmp_path: Path) -> None:
    volume = Volume(tmp_path)
    old, alive, lonely = (tmp_path / ".staging" / name for name in ("v1-a.dead", "v1-a.slow", "v1-b.gone"))
    for folder in (old, alive):
        folder.mkdir(parents=True)
        (folder / "model.safetensors").write_bytes(b"half")
    (alive.with_name("v1-a.slow.alive")).touch()
    (lonely.with_name("v1-b.gone.alive")).touch()
    past = time.time() - ABANDONED_SECONDS - 60
    for path in (old, alive, lonely.with_name("v1-b.gone.alive")):
        os.utime(path, (past, past))
    assert volume.sweep() == ("v1-a.dead", "v1-b.gone")
    assert sorted(path.name for path in (tmp_path / ".staging").iterdir()) == ["v1-a.slow", "v1-a.slow.alive"]


def test_what_was_kept_a_day_ago_is_there_for_the_try_that_asks_for_it_and_goes_otherwise(tmp_path: Path) -> None:
    volume = Volume(tmp_path)
    past = time.time() - KEPT_SECONDS - 60
    for name in ("v1-a.commit", "v1-b.commit"):
        (volume.kept(name) / "model.safetensors").write_bytes(b"weights")
        os.utime(volume.kept(name), (past, past))
    kept = volume.kept("v1-a.commit")
    with volume.staging("v1-a", "two"):
        assert (kept / "model.safetensors").read_bytes() == b"weights"
    assert [path.name for path in kept.parent.iterdir()] == ["v1-a.commit"]


def test_a_volume_without_room_says_how_much_is_needed_and_free(tmp_path: Path) -> None:
    volume = Volume(tmp_path)
    free = volume.space().free
    volume.require(1)
    with pytest.raises(VolumeFullError, match=r"1\d+ bytes are needed, \d+ are free"):
        volume.require(10**18 + free)


@pytest.mark.parametrize("how", [OSError(28, "No space left on device"), RuntimeError("I/O error (os error 28)")])
def test_a_volume_that_is_full_in_the_middle_is_told_as_it_was_then(tmp_path: Path, how: Exception) -> None:
    def made() -> None:
        with Volume(tmp_path).staging("v1-a", "one") as folder:
            (folder / "model.safetensors").write_bytes(b"weights")
            raise how

    with pytest.raises(VolumeFullError, match=r"more than 7 bytes are needed, which were written, \d+ are free"):
        made()
    assert list((tmp_path / ".staging").iterdir()) == []


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"version": 2}', '{"version": 1, "key": "a", "nonce": "b", "files": [{}]}']
)
def test_what_is_no_manifest_is_refused(text: str) -> None:
    with pytest.raises(InvalidManifestError):
        Manifest.decode(text)


def test_a_manifest_comes_back_as_it_was(tmp_path: Path) -> None:
    _, manifest = staged(Volume(tmp_path), "v1-a", "one")
    assert Manifest.decode(manifest.encode()) == manifest
    assert json.loads(manifest.encode())["files"][0]["path"] == "config.json"


def _write(root: str, key: str, number: int) -> None:
    """One of many writers. Some are killed from outside, some end by themselves in the middle."""
    chance, volume = random.Random(number), Volume(Path(root))
    with volume.staging(key, str(number)) as folder:
        for name in ("a.safetensors", "b.safetensors"):
            (folder / name).write_bytes(bytes([number % 256]) * SIZE)
            if chance.random() < 0.1:
                os._exit(9)
        volume.publish(key, folder, {"writer": number})


def _read(root: str, keys: list[str], stop: multiprocessing.synchronize.Event, bad: multiprocessing.Queue[str]) -> None:
    volume, seen = Volume(Path(root)), 0
    while not stop.is_set():
        for key in keys:
            if not volume.folder(key).exists():
                continue
            manifest = volume.find(key)
            if manifest is None:
                bad.put(f"{key} is there and not whole")
                continue
            contents = {(volume.folder(key) / file.path).read_bytes() for file in manifest.files}
            if contents != {bytes([manifest.provenance["writer"] % 256]) * SIZE}:
                bad.put(f"{key} is of two writers")
            seen += 1
    bad.put(f"seen {seen}")


def test_of_many_writers_that_are_killed_exactly_one_wins_and_no_reader_sees_a_part(tmp_path: Path) -> None:
    spawn, chance, keys = multiprocessing.get_context("fork"), random.Random(7), [f"v1-{n}" for n in range(8)]
    stop, bad = spawn.Event(), spawn.Queue()
    reader = spawn.Process(target=_read, args=(str(tmp_path), keys, stop, bad))
    reader.start()
    writers = [spawn.Process(target=_write, args=(str(tmp_path), key, n)) for n, key in enumerate(keys * 4)]
    killed = 0
    for at in range(0, len(writers), 4):
        batch = writers[at : at + 4]
        for writer in batch:
            writer.start()
        for writer in batch:
            if chance.random() < 0.3:
                writer.join(chance.uniform(0, 0.05) if killed else 0)
                if writer.is_alive():
                    os.kill(writer.pid, signal.SIGKILL)
                    killed += 1
        for writer in batch:
            writer.join(LIMIT_SECONDS)
            assert writer.exitcode is not None, "a writer does not end"
    stop.set()
    said = [bad.get(timeout=LIMIT_SECONDS)]
    while not said[-1].startswith("seen"):
        said.append(bad.get(timeout=LIMIT_SECONDS))
    reader.join(LIMIT_SECONDS)
    volume = Volume(tmp_path)
    published = [key for key in keys if volume.find(key)]
    assert said[:-1] == []
    assert int(said[-1].split()[1]) > 0
    assert killed > 0
    assert len(published) >= len(keys) / 2
    for path in (tmp_path / ".staging").iterdir():
        os.utime(path, (0, 0))
        for inner in path.rglob("*"):
            os.utime(inner, (0, 0))
    volume.sweep()
    assert list((tmp_path / ".staging").iterdir()) == []
