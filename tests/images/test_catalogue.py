"""An image's tag and its inputs: what changes them, and what must not. Pure, in folders of the tests' own."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from deploy.images import catalogue
from deploy.images.catalogue import BASE_REFERENCE, BASE_SECONDS, NAMES, Image, copied_paths, images_of, tag_of
from deploy.images.errors import ImageError

CONTAINERFILE = f"""\
FROM {BASE_REFERENCE}
COPY deploy/images/install.sh \\
    lock.txt /opt/lock/
COPY --from=other /a /b
COPY code /opt/code
"""


def make_repository(folder: Path) -> Image:
    """A repository with one image that copies a script, a lock and a folder."""
    files = {
        "deploy/images/app/Containerfile": CONTAINERFILE,
        "deploy/images/install.sh": "true\n",
        "lock.txt": "a==1\n",
        "code/main.py": "print(1)\n",
        "code/deep/data.json": "{}\n",
        "code/__pycache__/main.cpython-311.pyc": "compiled",
        "unrelated.txt": "x",
    }
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return Image("app", folder)


def test_inputs_are_the_containerfile_and_what_it_copies(tmp_path: Path) -> None:
    assert [str(path) for path in make_repository(tmp_path).inputs()] == [
        "code/deep/data.json",
        "code/main.py",
        "deploy/images/app/Containerfile",
        "deploy/images/install.sh",
        "lock.txt",
    ]


@pytest.mark.parametrize(
    "changed", ["deploy/images/app/Containerfile", "deploy/images/install.sh", "lock.txt", "code/deep/data.json"]
)
def test_a_change_of_any_input_changes_the_tag(changed: str, tmp_path: Path) -> None:
    image = make_repository(tmp_path)
    before = image.tag
    with (tmp_path / changed).open("a") as file:
        file.write("# more\n")
    assert image.tag != before


def test_a_new_a_renamed_and_an_executable_file_change_the_tag(tmp_path: Path) -> None:
    image = make_repository(tmp_path)
    tags = [image.tag]
    (tmp_path / "code/other.py").write_text("")
    tags.append(image.tag)
    (tmp_path / "code/other.py").rename(tmp_path / "code/third.py")
    tags.append(image.tag)
    (tmp_path / "code/third.py").chmod(0o755)
    tags.append(image.tag)
    assert len(set(tags)) == len(tags)


def test_content_that_moves_from_one_file_to_the_next_changes_the_tag(tmp_path: Path) -> None:
    image = make_repository(tmp_path)
    (tmp_path / "code/a").write_text("12")
    (tmp_path / "code/b").write_text("3")
    before = image.tag
    (tmp_path / "code/a").write_text("1")
    (tmp_path / "code/b").write_text("23")
    assert image.tag != before


def test_nothing_else_changes_the_tag(tmp_path: Path) -> None:
    image = make_repository(tmp_path)
    before = image.tag
    (tmp_path / "unrelated.txt").write_text("y")
    (tmp_path / "code/__pycache__/main.cpython-312.pyc").write_text("compiled anew")
    (tmp_path / "code/main.py").touch()
    (tmp_path / "code/main.py").chmod(0o600)
    assert image.tag == before


def test_the_recipe_of_the_base_is_an_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image = make_repository(tmp_path)
    before = image.tag
    monkeypatch.setattr(catalogue, "BASE_NAME", "tandem.local/base:other")
    assert image.tag != before


def test_the_base_is_no_input_of_an_image_on_another_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image = make_repository(tmp_path)
    file = tmp_path / image.containerfile
    file.write_text(file.read_text().replace(BASE_REFERENCE, "registry.example/other:1"))
    before = image.tag
    monkeypatch.setattr(catalogue, "BASE_NAME", "tandem.local/base:other")
    assert image.tag == before


def test_what_is_staged_is_what_was_hashed_and_readable_for_everybody(tmp_path: Path) -> None:
    source, context = tmp_path / "source", tmp_path / "context"
    image = make_repository(source)
    (source / "code/main.py").chmod(0o600)
    image.stage(context)
    staged = sorted(path.relative_to(context) for path in context.rglob("*") if path.is_file())
    assert staged == image.inputs()
    assert {path.stat().st_mode & 0o777 for path in context.rglob("*") if path.is_file()} == {0o644}
    assert {path.stat().st_mode & 0o777 for path in context.rglob("*") if path.is_dir()} == {0o755}
    assert {path.stat().st_mtime for path in context.rglob("*")} == {0.0}
    assert Image("app", context).tag == image.tag


def test_a_missing_input_is_named(tmp_path: Path) -> None:
    image = make_repository(tmp_path)
    (tmp_path / "lock.txt").unlink()
    with pytest.raises(ImageError, match=r"deploy/images/app/Containerfile copies lock\.txt"):
        _ = image.tag


@pytest.mark.parametrize("digits", ["123456789012", "089123456789", "1234567e8901", "eeeeeeeeeeee"])
def test_a_tag_is_never_a_number_to_yaml(digits: str) -> None:
    tag = tag_of(bytes.fromhex(digits) + bytes(26))
    assert tag != digits
    assert re.fullmatch("[0-9a-f]{12}", tag)
    assert set(tag) & set("abcdf")


def test_a_tag_with_a_letter_is_the_beginning_of_the_hash() -> None:
    assert tag_of(bytes.fromhex("12345678901a") + bytes(26)) == "12345678901a"


def test_copies_from_other_stages_and_options_are_no_inputs() -> None:
    assert copied_paths("COPY --chmod=755 a b /c/\ncopy d /e\nCOPY --from=x f /g\nRUN COPY h /i\n") == ["a", "b", "d"]


def test_without_a_name_everything_is_meant_that_needs_no_registry() -> None:
    assert [image.name for image in images_of([])] == [
        "operator",
        "engine-cpu",
        "artifacts",
        "draft-triton",
        "draft-lookup",
    ]
    assert [image.name for image in images_of(["engine-gpu"])] == ["engine-gpu"]
    assert all(image.is_on_our_base for image in images_of([]))
    assert not Image("engine-gpu").is_on_our_base


def test_an_unknown_name_is_answered_with_the_known_ones() -> None:
    with pytest.raises(
        ImageError,
        match="no image engine; allowed: operator, engine-cpu, artifacts, draft-triton, draft-lookup, engine-gpu",
    ):
        images_of(["engine"])


@pytest.mark.parametrize("name", NAMES)
def test_every_image_of_the_repository_has_a_reference(name: str) -> None:
    assert re.fullmatch(rf"tandem\.local/{name}:[0-9a-f]{{12}}", Image(name).reference)


@pytest.mark.parametrize("name", NAMES)
def test_images_on_our_base_have_one_time_for_all_files(name: str) -> None:
    image = Image(name)
    assert image.seconds == (BASE_SECONDS if image.is_on_our_base else None)
