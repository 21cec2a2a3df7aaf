"""How the Jobs of artifacts are started, and what their last word is. Operator and programs both go by it. Pure.

A program ends with exit code 0 and one of the results below as its termination message, or with another code and a
`TerminationMessage`.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Sequence
from typing import Any, Self

from tandem_contracts.model_facts import ModelFacts
from tandem_contracts.quality import Quality
from tandem_contracts.recipe import CalibrationSettings, Recipe
from tandem_contracts.reference import Reference
from tandem_contracts.termination import MESSAGE_LIMIT_BYTES

FETCH_MODULE = "tandem_runtime.artifacts.fetch"
QUANTIZE_MODULE = "tandem_runtime.artifacts.quantize"
EVALUATE_MODULE = "tandem_runtime.artifacts.evaluate"
EVICT_MODULE = "tandem_runtime.artifacts.evict"
SMOKE_MODULE = "tandem_runtime.artifacts.smoke"

VOLUME_FOLDER = "/artifacts"
"""Where the volume of artifacts is."""
TOKEN_VARIABLE = "HF_TOKEN"  # noqa: S105 - its name
"""Environment variable with the token for the hub: of `fetch` alone, and never an argument."""
ACCESS_KEY_VARIABLE = "AWS_ACCESS_KEY_ID"
SECRET_KEY_VARIABLE = "AWS_SECRET_ACCESS_KEY"  # noqa: S105 - its name
SESSION_TOKEN_VARIABLE = "AWS_SESSION_TOKEN"  # noqa: S105 - its name
"""Environment variables with the credentials for S3: as with the token. The last one goes with temporary ones only."""
_S3_KIND = "S3"
MOST_TASKS = 16
"""So that the last word has room for all of them."""
FEWEST_CONTEXT_TOKENS = 1024
"""Of a context that is to be recalled from: in fewer the sentences that are asked for would be most of the text."""
TASK_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class HubSource:
    """A model on the Hugging Face hub. `revision`: a branch, a tag or a commit; empty `endpoint`: the public hub."""

    repo: str
    revision: str
    endpoint: str = ""

    def to_data(self) -> dict[str, str]:
        """JSON values."""
        return dataclasses.asdict(self)

    @classmethod
    def from_data(cls, data: object) -> Self:
        """The reverse. Raises ValueError."""
        try:
            return cls(**data)  # type: ignore[arg-type]
        except TypeError as error:
            raise ValueError(f"source (is {data!r}): {error}") from error


@dataclasses.dataclass(frozen=True, kw_only=True)
class S3Source:
    """A model in a bucket, its files directly below `prefix`, which needs no slash at its end.

    Empty `endpoint`: Amazon's own, in `region`; any other URL: what speaks the same protocol there. Empty `region`:
    us-east-1, which stores other than Amazon's rarely care about.
    """

    bucket: str
    prefix: str
    endpoint: str = ""
    region: str = ""

    def to_data(self) -> dict[str, str]:
        """JSON values. They have a kind, which those of the hub do not."""
        return {"kind": _S3_KIND, **dataclasses.asdict(self)}

    @classmethod
    def from_data(cls, data: object) -> Self:
        """The reverse. Raises ValueError."""
        if not isinstance(data, dict) or data.get("kind") != _S3_KIND:
            raise ValueError(f"source (is {data!r}): no source of kind {_S3_KIND}")
        try:
            return cls(**{name: value for name, value in data.items() if name != "kind"})
        except TypeError as error:
            raise ValueError(f"source (is {data!r}): {error}") from error


def source_from_data(data: object) -> HubSource | S3Source:
    """A source of any kind from its JSON values. Raises ValueError."""
    kind = S3Source if isinstance(data, dict) and data.get("kind") == _S3_KIND else HubSource
    return kind.from_data(data)


@dataclasses.dataclass(frozen=True, kw_only=True)
class TaskSettings:
    """A task of lm-evaluation-harness that both models do. Raises ValueError."""

    name: str
    """`task` in its YAML file."""
    limit: int = 0
    """Questions of it, the first ones; 0: all."""

    def __post_init__(self) -> None:
        if not TASK_NAME.fullmatch(self.name):
            raise ValueError(f"task (is {self.name[:80]!r}): must match {TASK_NAME.pattern}")
        if self.limit < 0:
            raise ValueError(f"limit of task {self.name} (is {self.limit}): must be 0 or more")

    def to_data(self) -> dict[str, Any]:
        """JSON values."""
        return dataclasses.asdict(self)

    @classmethod
    def from_data(cls, data: object) -> Self:
        """The reverse. Raises ValueError."""
        match data:
            case {"name": str(name), "limit": int(limit), **others} if not others:
                return cls(name=name, limit=limit)
        raise ValueError(f"task (is {str(data)[:100]}): must be an object with name and limit")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Made:
    """The last word of a program that has published an artifact, or found it published."""

    model: ModelFacts
    bytes: int
    """Of all files."""
    manifest: str
    """SHA-256 in hex of the manifest."""
    free_bytes: int
    """Of the volume, afterwards."""
    capacity_bytes: int
    """Of the volume."""
    seconds: float
    """That making it took; 0 where it was there before."""
    revision: str = ""
    """The commit that was fetched, or a digest that stands for one; empty for what was not fetched."""
    source: str = ""
    """SHA-256 in hex over paths, sizes and digests of what was fetched: the same from every mirror."""

    def encode(self) -> str:
        """JSON."""
        return json.dumps({**dataclasses.asdict(self), "model": self.model.to_data()})

    @classmethod
    def decode(cls, text: str) -> Self:
        """The reverse. Raises ValueError."""
        data = _object(text)
        try:
            return cls(
                model=ModelFacts.from_data(data["model"]),
                bytes=int(data["bytes"]),
                manifest=str(data["manifest"]),
                free_bytes=int(data["free_bytes"]),
                capacity_bytes=int(data["capacity_bytes"]),
                seconds=float(data["seconds"]),
                revision=str(data["revision"]),
                source=str(data["source"]),
            )
        except (KeyError, TypeError) as error:
            raise ValueError(f"not the last word of a Job that makes artifacts: {text[:200]!r}") from error


@dataclasses.dataclass(frozen=True, kw_only=True)
class Evaluated:
    """The last word of a program that has compared an artifact with its source."""

    quality: Quality
    seconds: float
    reference: Reference | None = None
    """None where nothing was recorded, as by a program of before, or where the figures of tasks left no room for it."""

    def encode(self) -> str:
        """JSON. The reference loses windows until all of it has at most MESSAGE_LIMIT_BYTES."""
        data = {"quality": self.quality.to_data(), "seconds": self.seconds}
        kept = self.reference.windows if self.reference else ()
        while self.reference is not None and kept:
            shortened = dataclasses.replace(self.reference, windows=kept)
            text = json.dumps({**data, "reference": shortened.to_data()})
            if len(text.encode()) <= MESSAGE_LIMIT_BYTES:
                return text
            kept = kept[:-1]
        return json.dumps(data)

    @classmethod
    def decode(cls, text: str) -> Self:
        """The reverse. Raises ValueError."""
        data = _object(text)
        try:
            recorded = data.get("reference")
            return cls(
                quality=Quality.from_data(data["quality"]),
                seconds=float(data["seconds"]),
                reference=None if recorded is None else Reference.from_data(recorded),
            )
        except (KeyError, TypeError) as error:
            raise ValueError(f"not the last word of a Job that evaluates: {text[:200]!r}") from error


@dataclasses.dataclass(frozen=True, kw_only=True)
class Smoked:
    """The last word of a program that has asked a model of the engine that is to serve it."""

    ready_seconds: float
    """From the start of the engine until it answered."""
    tokens_per_second: float
    """Of one greedy request after the other."""
    kernel: str
    """That the engine has chosen for the quantized weights, as its log says it; empty where it says none."""
    compile_cache_bytes: int = 0
    """Of what was published beside the weights for later engines; 0 for nothing."""
    deviation: float | None = None
    """From the recorded log probabilities, see `Deviation.mean`; None where nothing was compared."""
    uncompared: str = ""
    """Why nothing was compared though there was a record."""

    def encode(self) -> str:
        """JSON."""
        return json.dumps(dataclasses.asdict(self))

    @classmethod
    def decode(cls, text: str) -> Self:
        """The reverse. Raises ValueError."""
        data = _object(text)
        try:
            return cls(
                ready_seconds=float(data["ready_seconds"]),
                tokens_per_second=float(data["tokens_per_second"]),
                kernel=str(data["kernel"]),
                compile_cache_bytes=int(data.get("compile_cache_bytes", 0)),
                deviation=None if data.get("deviation") is None else float(data["deviation"]),
                uncompared=str(data.get("uncompared", "")),
            )
        except (KeyError, TypeError) as error:
            raise ValueError(f"not the last word of a Job that asks a model: {text[:200]!r}") from error


def fetch_arguments(*, source: HubSource | S3Source, key: str, owner: str) -> list[str]:
    """The arguments after `python -m FETCH_MODULE`. `owner`: the pod's own uid."""
    return [f"--source={json.dumps(source.to_data(), sort_keys=True)}", f"--key={key}", f"--owner={owner}"]


def quantize_arguments(
    *, source: str, key: str, owner: str, recipe: Recipe, calibration: CalibrationSettings, texts: str = ""
) -> list[str]:
    """The arguments after `python -m QUANTIZE_MODULE`. `owner`: the pod's own uid; `texts`: a file, "" for built-in."""
    return [
        f"--source={source}",
        f"--key={key}",
        f"--owner={owner}",
        f"--recipe={json.dumps(recipe.to_data(), sort_keys=True)}",
        *([f"--calibration={json.dumps(calibration.to_data(), sort_keys=True)}"] if recipe.needs_calibration else []),
        *([f"--texts={texts}"] if texts else []),
    ]


def evaluate_arguments(
    *,
    source: str,
    key: str,
    texts: str = "",
    tasks_folder: str = "",
    tasks: Sequence[TaskSettings] = (),
    long_context_tokens: int = 0,
) -> list[str]:
    """The arguments after `python -m EVALUATE_MODULE`.

    `tasks_folder`: with the YAML files of the tasks and the files of questions that they name; `long_context_tokens`: 0
    where recall from a long context is not measured. Raises ValueError for more than MOST_TASKS tasks.
    """
    if len(tasks) > MOST_TASKS:
        raise ValueError(f"{len(tasks)} tasks: at most {MOST_TASKS}")
    data = json.dumps([task.to_data() for task in tasks])
    return [
        f"--source={source}",
        f"--key={key}",
        *([f"--texts={texts}"] if texts else []),
        *([f"--tasks-folder={tasks_folder}", f"--tasks={data}"] if tasks else []),
        *([f"--long-context={long_context_tokens}"] if long_context_tokens else []),
    ]


def smoke_arguments(
    *, key: str, owner: str, deadline_seconds: int, launch: list[str], reference: Reference | None = None
) -> list[str]:
    """The arguments after `python -m SMOKE_MODULE`. `owner`: the pod's own uid; `launch`: those of the launcher that
    starts the engine; `reference`: what its answers are compared with.
    """
    recorded = [f"--reference={json.dumps(reference.to_data(), sort_keys=True)}"] if reference else []
    return [
        f"--key={key}",
        f"--owner={owner}",
        f"--deadline-seconds={deadline_seconds}",
        *recorded,
        "--",
        *launch,
    ]


def evict_arguments(*, key: str) -> list[str]:
    """The arguments after `python -m EVICT_MODULE`."""
    return [f"--key={key}"]


def _object(text: str) -> dict[str, Any]:
    data = json.loads(text)
    if not isinstance(data, dict):
        raise ValueError(f"not a last word of ours: {text[:200]!r}")  # noqa: TRY004 - one error for all
    return data
