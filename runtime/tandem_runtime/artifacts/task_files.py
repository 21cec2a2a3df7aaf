"""Reads tasks of lm-evaluation-harness from a folder of a user's, and refuses whatever would run code of theirs.

lm-eval takes a task's YAML for a program: `!function` imports the Python file beside it, `class`, `use_prompt`,
`custom_dataset` and `include` load others, a metric that it does not know is looked for as a script, arguments of
generation can name one, and data may lie anywhere. So what a file may say is a list, the files of questions are read
here, and lm-eval is given plain values only. Templates remain: `tasks` renders them in Jinja's sandbox.

Must not import lm-eval: a file is refused before that has seen it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tandem_contracts.artifact_job import TASK_NAME
from tandem_contracts.termination import Reason
from tandem_runtime.artifacts.last_word import RefusedError

FILE_LIMIT_BYTES = 64 << 20
"""Of a file of questions."""
TASK_LIMIT_BYTES = 256 << 10
METRICS = {"multiple_choice": ("acc", "acc_norm"), "loglikelihood": ("acc",), "generate_until": ("exact_match",)}
"""Of each output type; the first is the default. More is better of each, and none needs another library."""
MOST_GENERATED_TOKENS = 4096
_SPLITS = ("training_split", "validation_split", "test_split", "fewshot_split")
_LEFT_OUT = (
    *("tag", "task_alias", "metadata", "dataset_path", "dataset_name", "dataset_kwargs"),
    *("should_decontaminate", "doc_to_decontamination_query"),
)
"""What a file may have and lm-eval does not get."""


class InvalidTasksError(RefusedError):
    """A task cannot be used; the message names file, value and what is allowed."""

    def __init__(self, message: str) -> None:
        super().__init__(Reason.TASKS_INVALID, message)


@dataclass(frozen=True)
class Task:
    """A task, in plain values."""

    name: str
    settings: Mapping[str, Any]
    """For lm-eval, without where the questions are from."""
    questions: Mapping[str, Sequence[Mapping[str, Any]]]
    """Of each split."""
    metric: str
    """The figure that is looked at: the first metric, after the first filter."""


def read_tasks(folder: Path, names: Sequence[str]) -> tuple[Task, ...]:
    """The tasks of these names, from the `*.yaml` files of a folder. Raises InvalidTasksError."""
    try:
        paths = sorted(path for path in folder.iterdir() if path.suffix in {".yaml", ".yml"})
        found = {said["task"]: (path, said) for path in paths if (said := _said_in(path))}
    except OSError as error:
        raise InvalidTasksError(f"the folder of tasks cannot be read: {error}") from error
    missing = [name for name in names if name not in found]
    if missing:
        raise InvalidTasksError(f"task (is {missing[0]}): must be one of {', '.join(sorted(found)) or 'none'}")
    return tuple(_task(folder, *found[name]) for name in names)


class _Loader(yaml.SafeLoader):
    """Plain values only: no tags of Python's, and no aliases, by which a few lines become gigabytes."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("aliases are not allowed")
        return super().compose_node(parent, index)


def _said_in(path: Path) -> dict[str, Any]:
    if path.stat().st_size > TASK_LIMIT_BYTES:
        raise InvalidTasksError(f"{path.name} (has {path.stat().st_size} bytes): at most {TASK_LIMIT_BYTES}")
    try:
        said = yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)  # noqa: S506 - one of SafeLoader's
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        told = " ".join(str(error).split())
        raise InvalidTasksError(
            f"{path.name}: must be YAML of plain values, no `!function` and no aliases: {told}"
        ) from error
    if not isinstance(said, dict) or not TASK_NAME.fullmatch(str(said.get("task", ""))):
        raise InvalidTasksError(f"{path.name}: must be an object with `task`, a name like {TASK_NAME.pattern}")
    return said


def _task(folder: Path, path: Path, said: dict[str, Any]) -> Task:
    for key, value in said.items():
        if key not in _ALLOWED:
            raise InvalidTasksError(f"{path.name}: {key} is not allowed; allowed are {', '.join(sorted(_ALLOWED))}")
        is_allowed, told = _ALLOWED[key]
        if not is_allowed(value):
            raise InvalidTasksError(f"{path.name}: {key} (is {str(value)[:80]}): must be {told}")
    if missing := {"dataset_path", "dataset_kwargs", "output_type", "doc_to_text", "doc_to_target"} - said.keys():
        raise InvalidTasksError(f"{path.name}: {', '.join(sorted(missing))} is missing")
    files = said["dataset_kwargs"]["data_files"]
    for key in _SPLITS:
        if said.get(key) is not None and said[key] not in files:
            raise InvalidTasksError(f"{path.name}: {key} (is {said[key]}): must be one of {', '.join(files)}")
    if said.get("test_split") is None and said.get("validation_split") is None:
        raise InvalidTasksError(f"{path.name}: test_split or validation_split is needed")
    allowed = METRICS[said["output_type"]]
    metrics = said.get("metric_list", [{"metric": allowed[0]}])
    if not _are_objects_of(metrics, {**_METRIC, "metric": lambda value: value in allowed}, "metric"):
        raise InvalidTasksError(
            f"{path.name}: metric_list (is {str(metrics)[:80]}): must be a list of objects whose metric is one of "
            f"{', '.join(allowed)}, with the mean as aggregation"
        )
    filters = said.get("filter_list") or [{"name": "none"}]
    complete = [{"aggregation": "mean", "higher_is_better": True, **metric} for metric in metrics]
    settings = {key: value for key, value in said.items() if key not in _LEFT_OUT}
    return Task(
        name=said["task"],
        settings={**settings, "metric_list": complete, "num_fewshot": said.get("num_fewshot") or 0},
        questions={split: _questions(folder, name, path.name) for split, name in files.items()},
        metric=f"{metrics[0]['metric']},{filters[0]['name']}",
    )


def _questions(folder: Path, name: str, where: str) -> list[dict[str, Any]]:
    path = (folder / name).resolve()
    # After links are followed: a ConfigMap's files are links inside of its folder.
    if not path.is_relative_to(folder.resolve()) or path.suffix != ".jsonl":
        raise InvalidTasksError(f"{where}: data file (is {name}): must be a .jsonl file in the folder of the tasks")
    try:
        if path.stat().st_size > FILE_LIMIT_BYTES:
            raise InvalidTasksError(f"{name} (has {path.stat().st_size} bytes): at most {FILE_LIMIT_BYTES}")
        lines = path.read_text(encoding="utf-8").splitlines()
        rows = [json.loads(line) for line in lines if line.strip()]
    except (OSError, ValueError, RecursionError) as error:
        raise InvalidTasksError(f"{where}: {name} cannot be read: {error}") from error
    if not rows or not all(isinstance(row, dict) for row in rows):
        raise InvalidTasksError(f"{where}: {name}: must have one JSON object a line, and at least one")
    return rows


_Allowed = tuple[Callable[[Any], bool], str]


def _one_of(*allowed: object) -> _Allowed:
    return lambda value: value in allowed, f"one of {', '.join(map(repr, allowed))}"


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _is_text_or_none(value: object) -> bool:
    return value is None or isinstance(value, str)


def _is_count(value: object, most: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= most


def _are_texts(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(each, str) for each in value)


def _is_object_of(value: object, allowed: Mapping[str, Callable[[Any], bool]]) -> bool:
    return isinstance(value, dict) and all(key in allowed and allowed[key](each) for key, each in value.items())


def _are_objects_of(value: object, allowed: Mapping[str, Callable[[Any], bool]], needed: str) -> bool:
    return isinstance(value, list) and bool(value) and all(_is_object_of(it, allowed) and needed in it for it in value)


_METRIC: dict[str, Callable[[Any], bool]] = {
    "aggregation": lambda value: value == "mean",
    "higher_is_better": lambda value: value is True,
    "ignore_case": lambda value: isinstance(value, bool),
    "ignore_punctuation": lambda value: isinstance(value, bool),
    "ignore_numbers": lambda value: isinstance(value, bool),
    "regexes_to_ignore": _are_texts,
}
_FILTERS = ("regex", "take_first", "remove_whitespace", "lowercase", "uppercase", "multi_choice_regex")
_FILTER_STEP: dict[str, Callable[[Any], bool]] = {
    "function": lambda value: value in _FILTERS,
    "regex_pattern": _is_text,
    "group_select": lambda value: isinstance(value, int),
    "fallback": _is_text,
    "ignore_case": lambda value: isinstance(value, bool),
    "ignore_punctuation": lambda value: isinstance(value, bool),
    "regexes_to_ignore": _are_texts,
}
_FILTER: dict[str, Callable[[Any], bool]] = {
    "name": lambda value: isinstance(value, str) and len(value) <= 32 and value.isascii() and value.isprintable(),
    "filter": lambda value: _are_objects_of(value, _FILTER_STEP, "function"),
}
_GENERATION: dict[str, Callable[[Any], bool]] = {
    "until": lambda value: isinstance(value, str) or _are_texts(value),
    "max_gen_toks": lambda value: _is_count(value, MOST_GENERATED_TOKENS),
    "do_sample": lambda value: value is False,
    "temperature": lambda value: value == 0,
}
_DATA: dict[str, Callable[[Any], bool]] = {
    "data_files": lambda value: isinstance(value, dict) and all(_is_text(it) for pair in value.items() for it in pair),
}
_ALLOWED: dict[str, _Allowed] = {
    "task": (_is_text, "a text"),
    "task_alias": (_is_text, "a text"),
    "tag": (lambda value: _is_text(value) or _are_texts(value), "a text, or a list of them"),
    "metadata": (lambda value: isinstance(value, dict), "an object"),
    "dataset_path": _one_of("json"),
    "dataset_name": (_is_text_or_none, "a text"),
    "dataset_kwargs": (
        lambda value: _is_object_of(value, _DATA) and bool(value.get("data_files")),
        "an object of data_files alone, and that one of a file name for each split",
    ),
    **dict.fromkeys(_SPLITS, (_is_text_or_none, "the name of a split")),
    "output_type": _one_of(*METRICS),
    "doc_to_text": (_is_text, "a text"),
    "doc_to_target": (lambda value: isinstance(value, str | int), "a text or a number"),
    "doc_to_choice": (lambda value: _is_text(value) or _are_texts(value), "a text, or a list of them"),
    "description": (_is_text, "a text"),
    "target_delimiter": (_is_text, "a text"),
    "fewshot_delimiter": (_is_text, "a text"),
    "gen_prefix": (_is_text_or_none, "a text"),
    "num_fewshot": (lambda value: value is None or _is_count(value, 64), "a number from 0 to 64"),
    "fewshot_config": (
        lambda value: _is_object_of(value, {"sampler": lambda it: it in {"default", "first_n"}}),
        "an object of sampler alone, and that default or first_n",
    ),
    "repeats": _one_of(1),
    "should_decontaminate": (lambda value: isinstance(value, bool), "true or false"),
    "doc_to_decontamination_query": (_is_text, "a text"),
    "generation_kwargs": (
        lambda value: _is_object_of(value, _GENERATION),
        f"an object of until, max_gen_toks (at most {MOST_GENERATED_TOKENS}), do_sample (false) and temperature (0)",
    ),
    "metric_list": (lambda value: isinstance(value, list), "a list of objects"),
    "filter_list": (
        lambda value: _are_objects_of(value, _FILTER, "name") and all("filter" in each for each in value),
        f"a list of objects with name and filter, a list of objects whose function is one of {', '.join(_FILTERS)}",
    ),
}
