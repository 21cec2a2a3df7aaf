"""The fenced blocks of the pages and the README, with what a comment above says of each. Judges nothing."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
GENERATED = ROOT / "docs/reference"
PAGES = tuple(sorted(path for path in (ROOT / "README.md", *(ROOT / "docs").rglob("*.md")) if path.parent != GENERATED))

_FENCE = re.compile(r'^```(?P<language>[a-z]*)(?: title="(?P<title>[^"]+)")?$')
_REMARK = re.compile(r"^<!-- (?P<word>on a cluster:|under) (?P<value>\S+) -->$")
_OPERATORS = {"|", ">", ">>", "<", "&&", "||", ";", "&"}


@dataclass(frozen=True)
class Block:
    """One fenced block. `remarks`: by their first words, what comments right above it say."""

    page: Path
    line: int
    language: str
    title: str
    text: str
    remarks: tuple[tuple[str, str], ...]

    @property
    def place(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"

    def remark(self, word: str) -> str:
        """What the remark of this word names; empty without one."""
        return dict(self.remarks).get(word, "")


@dataclass(frozen=True)
class Command:
    """One command of a console block, without what follows a pipe. `into`: the file that its output goes to."""

    block: Block
    words: tuple[str, ...]
    into: str = ""

    def __str__(self) -> str:
        return f"{self.block.place}: {shlex.join(self.words)}"


def blocks_of(page: Path) -> list[Block]:
    """All blocks of a page. A fence that never closes, or says what nobody reads, is an error."""
    found: list[Block] = []
    remarks: list[tuple[str, str]] = []
    opened: tuple[int, re.Match[str]] | None = None
    lines: list[str] = []
    for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), 1):
        if opened is not None and line == "```":
            begin, fence = opened
            text = "\n".join(lines) + "\n"
            found.append(Block(page, begin, fence["language"], fence["title"] or "", text, tuple(remarks)))
            opened, lines, remarks = None, [], []
        elif opened is not None:
            lines.append(line)
        elif line.startswith("```"):
            fence = _FENCE.match(line)
            assert fence is not None, f"{page}:{number}: a fence that is not understood: {line}"
            opened = number, fence
        elif remark := _REMARK.match(line):
            remarks.append((remark["word"], remark["value"]))
        elif line:
            assert not remarks, f"{page}:{number}: a remark with no block below it"
            assert not line.startswith("<!-- ") or line.endswith("do not edit. -->"), f"{page}:{number}: {line}"
    assert opened is None, f"{page}: a fence that never closes"
    return found


def commands_of(block: Block) -> Iterator[Command]:
    """The lines of a console block that begin with `$ `, with what a backslash continues."""
    whole = ""
    for line in block.text.splitlines():
        if not whole and not line.startswith("$ "):
            continue  # what the command before it prints
        whole += line.removeprefix("$ ") if not whole else line.strip()
        if whole.endswith("\\"):
            whole = whole[:-1]
            continue
        yield _command(block, whole)
        whole = ""
    assert not whole, f"{block.place}: a command that never ends"


def _command(block: Block, line: str) -> Command:
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.whitespace_split, lexer.commenters = True, ""
    words = list(lexer)
    end = next((at for at, word in enumerate(words) if word in _OPERATORS or word == "#"), len(words))
    after = words[end:]
    into = after[after.index(">") + 1] if ">" in after and "#" not in after[:1] else ""
    return Command(block, tuple(words[:end]), into)


ALL = tuple(block for page in PAGES for block in blocks_of(page))
