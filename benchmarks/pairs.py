"""The engines that `benchmarks.drafting` compares, and how one configuration of them is measured.

Everything runs on loopback, each engine with one thread: two threads of a model this small wait for each other, which
halves plain decoding and would flatter every ratio.
"""

from __future__ import annotations

import re
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.switch import VARIABLE, Ahead, StepRecord, Switch
from deploy.fixtures.environment import engine_environment, triton_environment
from deploy.fixtures.pair import ModelPair
from deploy.local.layout import REPOSITORY
from tandem_contracts.launch import LAUNCH_MODULE, DraftEngine, InEngineKind, LaunchOptions, Role, Speculation
from tests.runtime.engines import LOOPBACK, Engine, free_port

TOKENS = 128
_POSITION = re.compile(
    r'^vllm:spec_decode_num_accepted_tokens_per_pos_total\{.*position="(\d+)".*\} (\S+)$', re.MULTILINE
)
_DRAFTS = re.compile(r"^vllm:spec_decode_num_drafts_total(?:\{.*\})? (\S+)$", re.MULTILINE)
_DRAFTED = re.compile(r"^vllm:spec_decode_num_draft_tokens_total(?:\{.*\})? (\S+)$", re.MULTILINE)


@dataclass(frozen=True)
class Acceptance:
    """What vLLM has counted: rows with drafts, their tokens, and by position those that were accepted."""

    drafts: float
    drafted: float
    by_position: tuple[float, ...]

    @classmethod
    def of(cls, engine: Engine) -> Acceptance:
        """All zero for an engine that does not speculate."""
        page = engine.metrics_page()
        by_position = {int(position): float(count) for position, count in _POSITION.findall(page)}
        return cls(
            drafts=sum(map(float, _DRAFTS.findall(page))),
            drafted=sum(map(float, _DRAFTED.findall(page))),
            by_position=tuple(by_position[position] for position in sorted(by_position)),
        )

    def since(self, before: Acceptance) -> Acceptance:
        """What was counted after `before`."""
        return Acceptance(
            self.drafts - before.drafts,
            self.drafted - before.drafted,
            tuple(now - then for now, then in zip(self.by_position, before.by_position, strict=True)),
        )

    @property
    def share(self) -> float:
        """Of the drafted tokens, those that were accepted."""
        return sum(self.by_position) / self.drafted if self.drafted else 0.0

    @property
    def shares(self) -> list[float]:
        """p_i: of the drafts, those whose first i tokens were accepted."""
        return [count / self.drafts for count in self.by_position] if self.drafts else []


@dataclass(frozen=True)
class Measured:
    """One pass over the prompts."""

    tokens_per_second: float
    texts: list[str]
    acceptance: Acceptance
    records: list[StepRecord] = field(default_factory=list)


@dataclass(frozen=True)
class Way:
    """One way to decode: an engine, and with remote drafts where they come from and how deep."""

    engine: Engine
    source: str = ""
    depth: int = 0
    ahead: Ahead = Ahead.BY_RULE


@dataclass
class Engines:
    """Starts engines for one pair of models; none outlives it."""

    models: ModelPair
    folder: Path
    started: list[Engine] = field(default_factory=list)

    def plain(self) -> Engine:
        """vLLM without any speculation."""
        return self._start(role=Role.VERIFIER, model=str(self.models.verifier))

    def in_engine(self, depth: int) -> Engine:
        """vLLM's own `draft_model`."""
        return self._start(
            role=Role.VERIFIER,
            model=str(self.models.verifier),
            speculation=Speculation.IN_ENGINE,
            max_depth=depth,
            in_engine=InEngineKind.DRAFT_MODEL,
            in_engine_model=str(self.models.draft),
        )

    def drafts(self, kind: DraftEngine) -> tuple[Engine, str]:
        """A draft pod's process, and its address."""
        port = free_port()
        python = triton_environment() if kind is DraftEngine.TRITON else engine_environment()
        given = {"role": Role.DRAFT, "model": str(self.models.draft), "draft_engine": kind, "grpc_port": port}
        engine = self._start(python=python, **given)
        return engine, f"{LOOPBACK}:{port}"

    def switched(self, sources: Mapping[str, str], depth: int) -> tuple[Engine, Switch]:
        """A verifier with remote drafts, from any of the sources, at any depth up to this one."""
        folder = Path(tempfile.mkdtemp(prefix="switch-", dir=self.folder))
        switch = Switch(folder)
        switch.offer(sources)
        engine = self._start(
            "benchmarks.switched_launch",
            {VARIABLE: str(folder), "PYTHONPATH": f"{REPOSITORY / 'runtime'}:{REPOSITORY}"},
            role=Role.VERIFIER,
            model=str(self.models.verifier),
            speculation=Speculation.REMOTE,
            max_depth=depth,
            draft_address=next(iter(sources.values())),
        )
        return engine, switch

    def _start(
        self,
        module: str = LAUNCH_MODULE,
        environment: Mapping[str, str] | None = None,
        *,
        python: Path | None = None,
        **options: object,
    ) -> Engine:
        folder = Path(tempfile.mkdtemp(prefix="engine-", dir=self.folder))
        given = {
            "served_name": "pair",
            "host": LOOPBACK,
            "http_port": free_port(),
            "grpc_port": free_port(),
            "metrics_port": free_port(),
            "termination_log": str(folder / "termination-log"),
            **options,
        }
        engine = Engine(
            LaunchOptions(**given),  # type: ignore[arg-type]
            python=python or engine_environment(),
            log=folder / "log",
            module=module,
            environment=environment or {},
        )
        self.started.append(engine)
        return engine


@contextmanager
def engines_of(models: ModelPair) -> Iterator[Engines]:
    """What starts engines; ends them all."""
    with ExitStack() as stack:
        engines = Engines(models, Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="drafting-"))))
        try:
            yield engines
        finally:
            for engine in engines.started:
                engine.end()


def measured(way: Way, prompts: Sequence[str], batch: int, switch: Switch | None = None) -> Measured:
    """Decode `TOKENS` tokens greedily after each prompt, `batch` prompts at a time."""
    if switch is not None and way.source:
        switch.set(way.source, way.depth, way.ahead)
        switch.records()
    before = Acceptance.of(way.engine)
    texts: list[str] = []
    seconds = 0.0
    for begin in range(0, len(prompts), batch):
        question: dict[str, object] = {
            "prompt": list(prompts[begin : begin + batch]),
            "max_tokens": TOKENS,
            "temperature": 0,
            "ignore_eos": True,
        }
        begun = time.monotonic()
        answer = way.engine.post("/v1/completions", question)
        seconds += time.monotonic() - begun
        choices = sorted(answer["choices"], key=lambda choice: choice["index"])  # type: ignore[call-overload]
        texts += [choice["text"] for choice in choices]
    records = switch.records() if switch is not None and way.source else []
    acceptance = Acceptance.of(way.engine).since(before)
    return Measured(len(prompts) * TOKENS / seconds, texts, acceptance, records)
