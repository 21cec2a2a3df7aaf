"""What is told of a file that is no YAML: one line that says where and what."""

from __future__ import annotations

from pathlib import Path

import pytest

from tandem_operator.yaml_files import UnreadableFileError, documents_in


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"a: [", "line 1, column 5: expected the node content, but found '<stream end>', while parsing a flow node"),
        (b"a: b: c", "line 1, column 5: mapping values are not allowed here"),
        (b"a: 1\n\tb: 2\n", "line 2, column 1: found character '\\t' that cannot start any token, while scanning for"),
        (b"a: *b\n", "line 1, column 4: found undefined alias 'b'"),
        (b"a: !!python/name:os.system\n", "line 1, column 4: could not determine a constructor for the tag"),
        (b"a:\n  b: 1\n  c: 2\n  b: 3\n", "line 4, column 3: b is there twice, first in line 2"),
        (b"{a: 1, a: 2}", "line 1, column 8: a is there twice, first in line 1"),
        (b"a: \x01", "has a character that YAML does not allow, U+0001, after 3 others"),
        (b"\xff", "is no text in UTF-8"),
        (b"[" * 5000, "is nested too deeply"),
    ],
)
def test_what_is_no_yaml_is_told_on_one_line_with_its_place(content: bytes, told: str, tmp_path: Path) -> None:
    file = tmp_path / "file.yaml"
    file.write_bytes(content)
    with pytest.raises(UnreadableFileError) as caught:
        documents_in(file)
    assert str(caught.value).startswith(told)
    assert "\n" not in str(caught.value)


def test_a_key_that_a_merge_brings_may_be_written_again(tmp_path: Path) -> None:
    file = tmp_path / "file.yaml"
    file.write_text("a: {b: &base {c: 1}}\nd: {e: &more {<<: *base, c: 2}}\nf: {<<: *more, c: 3}\n", encoding="utf-8")
    [document] = documents_in(file)
    assert (document["d"]["e"], document["f"]) == ({"c": 2}, {"c": 3})


def test_a_file_that_is_not_there_or_a_folder_is_told_without_a_number(tmp_path: Path) -> None:
    with pytest.raises(UnreadableFileError, match=r"^there is no such file$"):
        documents_in(tmp_path / "none")
    with pytest.raises(UnreadableFileError, match=r"^is a folder, not a file$"):
        documents_in(tmp_path)
