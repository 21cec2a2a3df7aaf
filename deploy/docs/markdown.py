"""Texts of the code as Markdown: what a docstring says must not become markup on a page. Pure."""

from __future__ import annotations

import ast
import inspect
import json
import re
from collections.abc import Iterable, Sequence
from types import ModuleType
from typing import Any

import yaml

_CODE = re.compile(r"(`[^`]*`)")


def prose(text: str) -> str:
    """A docstring as one line of Markdown, also in the cell of a table."""
    parts = _CODE.split(" ".join(text.split()))
    return "".join(part.replace("|", "\\|") if part.startswith("`") else _escaped(part) for part in parts)


def _escaped(text: str) -> str:
    return re.sub(r"([*<>|\\]|\b_|_\b)", r"\\\1", text)


def code(value: Any) -> str:
    """A value as it is written in YAML, as code."""
    is_plain = isinstance(value, str) and value and yaml.safe_load(value) == value
    text = value if is_plain else json.dumps(value, ensure_ascii=False)
    return f"`{text}`".replace("|", "\\|")


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table; empty without rows."""
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    head = ["| " + " | ".join(columns) + " |", "|" + " --- |" * len(columns)]
    return "\n".join([*head, *lines]) + "\n" if lines else ""


def docstrings_in(thing: ModuleType | type) -> dict[str, str]:
    """What stands under each assignment of a module or class, by the name that is assigned."""
    tree: ast.Module | ast.ClassDef = ast.parse(inspect.getsource(thing))
    if isinstance(thing, type):
        tree = next(node for node in tree.body if isinstance(node, ast.ClassDef))
    found: dict[str, str] = {}
    name = ""
    for node in tree.body:
        if name and isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            found[name] = str(node.value.value)
        targets = (
            node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
        )
        name = targets[0].id if targets and isinstance(targets[0], ast.Name) else ""
    return found
