"""YAML as people write it: whole files, with what is wrong with one in a sentence.

A key that is there twice is refused: YAML's own parser keeps the last one without a word.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import yaml


class UnreadableFileError(ValueError):
    """The message says what is wrong, and where in the file; it does not name the file."""


class _Loader(yaml.SafeLoader):
    """Refuses a key that a mapping has already; one that `<<` merges in may be written again."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        first: dict[tuple[str, str], yaml.Mark] = {}
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                mark = first.setdefault((key.tag, key.value), key.start_mark)
                if mark is not key.start_mark:
                    told = f"{key.value} is there twice, first in line {mark.line + 1}"
                    raise yaml.composer.ComposerError(None, None, told, key.start_mark)
        return node


def documents_in(path: Path | None) -> list[Any]:
    """Every document of a YAML file; None: of standard input. Raises UnreadableFileError."""
    if path is None and sys.stdin is None:
        raise UnreadableFileError("standard input is closed")
    try:
        text = path.read_text(encoding="utf-8") if path else sys.stdin.read()
        return list(yaml.load_all(text, Loader=_Loader))
    except OSError as error:
        raise UnreadableFileError(told_of(error)) from error
    except UnicodeError as error:
        raise UnreadableFileError("is no text in UTF-8") from error
    except RecursionError:
        raise UnreadableFileError("is nested too deeply") from None
    except yaml.YAMLError as error:
        raise UnreadableFileError(told_by_the_parser(error)) from error


def told_of(error: OSError) -> str:
    """What is wrong with a file, as the end of a sentence that begins with its path."""
    if isinstance(error, FileNotFoundError):
        return "there is no such file"
    if isinstance(error, FileExistsError):
        return "is there already, and is not written over"
    if isinstance(error, IsADirectoryError):
        return "is a folder, not a file"
    if isinstance(error, PermissionError):
        return "you have no right to it (permission denied)"
    return (error.strerror or str(error)).lower()


def told_by_the_parser(error: yaml.YAMLError) -> str:
    """The parser's own words, on one line, behind the place that they are of."""
    if isinstance(error, yaml.MarkedYAMLError):
        mark = error.problem_mark or error.context_mark
        where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        context = f", {error.context}" if error.context else ""
        return " ".join(f"{where}{error.problem}{context}".split())
    if isinstance(error, yaml.reader.ReaderError):
        return f"has a character that YAML does not allow, U+{error.character:04X}, after {error.position} others"
    return " ".join(str(error).split())
