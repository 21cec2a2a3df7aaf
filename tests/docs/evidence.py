"""Whether a test does what a command of a page says, as far as its source tells: the words of it that matter are there.

Names of objects and files are the test's own. What its words say is not judged, only that a program, a subcommand and
every option are among those that the test, or a module that it takes from tests/ or deploy/, gives to anybody.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path

from tests.docs.blocks import ROOT

OURS = ("tests", "deploy")
WHERE = {"-n", "--namespace"}
"""Each test has its own."""
WITH_TWO = {"create", "rollout", "debug"}
"""Subcommands that have subcommands."""


def missing_in(file: str, program: str, arguments: Sequence[str]) -> list[str]:
    """The words of a command that matter, and that the test does not have."""
    return [word for word in words_of(program, arguments) if not _has(file, word)]


def words_of(program: str, arguments: Sequence[str]) -> tuple[str, ...]:
    """Program, subcommand and names of options; of `make`, what the Makefile makes of it."""
    if program == "make":
        return tuple(word for target in arguments if "=" not in target for word in _recipe(target))
    options = [word.partition("=")[0] for word in arguments if word.startswith("-")]
    has_verbs = program in {"kubectl", "helm", "tandem"}
    verbs = arguments[: 2 if arguments[0] in WITH_TWO else 1] if has_verbs else ()
    return (program, *verbs, *(option for option in options if option not in WHERE))


def _recipe(target: str) -> Iterator[str]:
    """Module and subcommand of a target's programs; the target where it has a recipe of another form."""
    text = (ROOT / "Makefile").read_text()
    made = re.search(rf"^{re.escape(target)}:.*\n((?:\t.*\n)+)", text, re.MULTILINE)
    found = re.findall(r"-m (\S+)(?: ([a-z]\S*))?", made[1]) if made else []
    yield from (word for each in found for word in each if word) if found else (target,)


def _has(file: str, word: str) -> bool:
    """A program may also be what a function or a fixture is called by."""
    path = ROOT / file
    return any(word in _literals(each) or word in _programs(each) for each in (path, *_imported(path)))


@cache
def _literals(path: Path) -> frozenset[str]:
    """Words of the texts in a module, but of no docstring."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    told = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    texts = [
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in told
    ]
    return frozenset(word for text in texts for word in re.split(r"[\s=]+", text))


@cache
def _programs(path: Path) -> frozenset[str]:
    """`helm` of `run_helm`, `tandem` of `_tandem`, `kubectl` of `place.kubectl`."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    named = [
        *(node.id for node in ast.walk(tree) if isinstance(node, ast.Name)),
        *(node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)),
    ]
    return frozenset(name.removeprefix("run_").strip("_") for name in named) & {"helm", "kubectl", "tandem"}


@cache
def _imported(path: Path) -> tuple[Path, ...]:
    """Modules of tests/ and deploy/ that one imports by itself."""
    names: list[str] = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            names += [node.module, *(f"{node.module}.{each.name}" for each in node.names)]
        elif isinstance(node, ast.Import):
            names += [each.name for each in node.names]
    files = (ROOT / f"{name.replace('.', '/')}.py" for name in names if name.split(".")[0] in OURS)
    return tuple(sorted({file for file in files if file.is_file()}))
