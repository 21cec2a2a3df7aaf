"""`tandem top`: what the pods of a deployment, or of all in a namespace, do right now.

Reads each pod's metrics page twice by way of the API server, with the user's own rights. Prometheus is not asked: this
is for the minute in which nobody knows whether that works.
"""

from __future__ import annotations

import argparse
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from tandem_contracts.launch import Role
from tandem_contracts.ports import HTTP_PORT, METRICS_PORT
from tandem_operator import names
from tandem_operator.cli.command import Command, on_cluster, resource_name, with_output, written
from tandem_operator.cli.connection import Connection
from tandem_operator.cli.inputs import CommandError
from tandem_operator.cli.screen import DIM, Screen
from tandem_operator.cli.top_figures import Page, Row, figures_between, held_in
from tandem_operator.cli.top_table import KEYS, document_of, table
from tandem_operator.facts import PodFacts
from tandem_operator.facts_parsing import pod_of

INTERVAL_SECONDS = 5.0
READS_AT_ONCE = 8
_ENTER, _LEAVE = "\x1b[?1049h\x1b[?7l\x1b[?25l", "\x1b[?25h\x1b[?7h\x1b[?1049l"
"""Another screen, on which long lines are cut off and no cursor blinks; and back."""
_REDRAW = "\x1b[H\x1b[J"


def _interval(text: str) -> float:
    seconds = float(text)
    if not 1 <= seconds <= 3600:
        raise argparse.ArgumentTypeError(f"(is {text}): must be from 1 to 3600 seconds")
    return seconds


def _add_arguments(command: argparse.ArgumentParser) -> None:
    told = "the LLMDeployment; omitted: all of the namespace"
    command.add_argument("name", metavar="NAME", nargs="?", type=resource_name, help=told)
    on_cluster(command)
    command.add_argument(
        "--interval",
        type=_interval,
        metavar="SECONDS",
        default=INTERVAL_SECONDS,
        help="from one reading of each pod to the next, over which rates and latencies are told",
    )
    command.add_argument("--once", action="store_true", help="one table; goes without saying in a pipe, and with -o")
    with_output(command)


def _run(options: argparse.Namespace, screen: Screen) -> int:
    top = Top(Connection.of(options), options.name, interval_seconds=options.interval)
    if options.output or options.once or not screen.is_terminal:
        screen.write(top.once(screen, form=options.output))
        return 0
    return top.live(screen)


TOP = Command(
    "show what pods do right now: requests, tokens, latencies, acceptance",
    _run,
    add_arguments=_add_arguments,
    description="Show what pods do right now: requests running and waiting, tokens a second, time to the first token "
    "and per output token (mean and 95th percentile of the interval), accepted share of drafted tokens, KV cache in "
    "use, and of drafts the share of the time that they work. On a terminal the table stays and is renewed; Ctrl-C "
    "ends it. Wants the rights to list pods and to get pods/proxy.",
    keys=KEYS,
)


@dataclass
class Top:
    """Reads again and again. `wait` and `clock` are those of a test, where it has some."""

    connection: Connection
    name: str | None
    interval_seconds: float = INTERVAL_SECONDS
    wait: Callable[[float], None] = time.sleep
    clock: Callable[[], float] = time.time
    _pages: Mapping[str, Page] = field(default_factory=dict)
    _gates: Mapping[str, str] = field(default_factory=dict)
    """Pods of wake gates, with their deployments."""

    def once(self, screen: Screen, *, form: str | None) -> str:
        """The table of one interval, or what `form` says. Raises CommandError where no Ready pod could be read."""
        self._begin()
        self.wait(self.interval_seconds)
        rows, seconds = self._step()
        serving = [row.trouble for row in rows if row.pod.is_ready]
        if serving and all(serving):
            raise CommandError(serving[0])
        if form:
            namespace, notes = self.connection.namespace, self._held()
            return written(document_of(rows, namespace=namespace, at=self.clock(), seconds=seconds, notes=notes), form)
        lines = self._table(rows, screen)
        return "".join(f"{line}\n" for line in lines)

    def live(self, screen: Screen) -> int:
        """Until Ctrl-C; the last table stays then."""
        try:
            self._begin()
            self._redraw(screen)
        except KeyboardInterrupt:
            pass
        return 0

    def _redraw(self, screen: Screen) -> None:
        lines = [f"the first figures come after {self.interval_seconds:g} s"]
        screen.write(_ENTER)
        try:
            while True:
                screen.write(_REDRAW + "\n".join(_fitting(lines, shutil.get_terminal_size().lines)))
                self.wait(self.interval_seconds)
                lines = self._next(screen)
        finally:
            screen.write(_LEAVE)
            screen.write("".join(f"{line}\n" for line in lines))

    def _next(self, screen: Screen) -> list[str]:
        """What went wrong is told where the table was: the next try may do."""
        try:
            rows, seconds = self._step()
        except CommandError as error:
            return table((), paint=screen.paint, notes=[str(error)])
        told = f"{self.connection.namespace}, over {seconds:.1f} s; Ctrl-C ends"
        return [screen.paint(told, DIM), *self._table(rows, screen)]

    def _table(self, rows: Sequence[Row], screen: Screen) -> list[str]:
        nothing = f"no pods of {self.name or 'any LLMDeployment'} in namespace {self.connection.namespace}"
        return table(rows, paint=screen.paint, notes=self._held() or ([] if rows else [nothing]))

    def _begin(self) -> None:
        """Raises CommandError, with exit code 2 when there is no such resource."""
        if self.name:
            self.connection.get(names.KIND, self.name)
        self._pages = self._read(self._pods())

    def _step(self) -> tuple[list[Row], float]:
        """The pods with what they did since the last reading, and how long that is."""
        pods, before = self._pods(), self._pages
        self._pages = now = self._read(pods)
        rows = []
        for deployment, pod in pods:
            page = now[pod.ref.name]
            figures = figures_between(pod.role, before.get(pod.ref.name), page)
            rows.append(Row(deployment, pod, figures, page.trouble))
        spans = [page.at - before[name].at for name, page in now.items() if name in before]
        return rows, max(spans, default=self.interval_seconds)

    def _pods(self) -> list[tuple[str, PodFacts]]:
        """Deployment and pod, in the order in which they are shown."""
        selector = f"{names.LABEL_DEPLOYMENT}={self.name}" if self.name else names.LABEL_DEPLOYMENT
        items = self.connection.get("Pod", labelSelector=selector)["items"]
        self._gates = {
            item["metadata"]["name"]: item["metadata"]["labels"][names.LABEL_DEPLOYMENT]
            for item in items
            if item["metadata"]["labels"].get(names.LABEL_COMPONENT) == names.GATE
        }
        found = [
            (item["metadata"]["labels"][names.LABEL_DEPLOYMENT], pod)
            for item in items
            if (pod := pod_of({**item, "kind": "Pod"})) and not pod.is_over
        ]
        return sorted(found, key=lambda each: (each[0], each[1].role is not Role.VERIFIER, each[1].ref.name))

    def _read(self, pods: Sequence[tuple[str, PodFacts]]) -> dict[str, Page]:
        with ThreadPoolExecutor(READS_AT_ONCE) as pool:
            pages = pool.map(self._page_of, [pod for _, pod in pods])
            return {pod.ref.name: page for (_, pod), page in zip(pods, pages, strict=True)}

    def _page_of(self, pod: PodFacts) -> Page:
        """A pod that is not Ready is asked, too: its queue may be why."""
        if not pod.address:
            return Page(self.clock(), trouble=pod.trouble or "it has not started")
        at, name = self.clock(), pod.ref.name
        try:
            if pod.role is Role.DRAFT:
                return Page(at, own=self.connection.page(name, METRICS_PORT))
            engine = self.connection.page(name, HTTP_PORT)
        except CommandError as error:
            return Page(at, trouble=pod.trouble or (str(error) if pod.is_ready else "it is not Ready yet"))
        try:
            return Page(at, engine, self.connection.page(name, METRICS_PORT))
        except (
            CommandError
        ):  # a NetworkPolicy may close this port to all but Prometheus; the engine tells nearly as well
            return Page(at, engine)

    def _held(self) -> list[str]:
        """What wake gates hold, a sentence for each: there may be no other pod of their deployments."""
        return [f"{deployment}: its wake gate {self._held_by(gate)}" for gate, deployment in self._gates.items()]

    def _held_by(self, gate: str) -> str:
        try:
            held = held_in(self.connection.page(gate, METRICS_PORT))
        except CommandError as error:
            return f"does not say how many requests it holds: {error}"
        return "says nothing of requests" if held is None else f"holds {held} request{'' if held == 1 else 's'}"


def _fitting(lines: Sequence[str], height: int) -> list[str]:
    """As many as the terminal has lines for."""
    if len(lines) < height:
        return list(lines)
    shown = lines[: max(height - 2, 1)]
    return [*shown, f"… and {len(lines) - len(shown)} lines more: `tandem top NAME` shows one deployment"]
