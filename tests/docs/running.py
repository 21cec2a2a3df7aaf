"""What is done about each command of the pages: it is run, or only checked, and why.

Decides by the command's words and the remark above its block; runs nothing. `python -m tests.docs.running` counts.
"""

from __future__ import annotations

from collections import Counter
from enum import StrEnum

from tests.docs.blocks import ALL, Command, commands_of

COMMANDS = tuple(command for block in ALL if block.language == "console" for command in commands_of(block))
TANDEM = {"tandem", ".venv/bin/tandem"}
WITHOUT_A_CLUSTER = {"plan", "accelerators", "completion"}
"""Commands of `tandem` that ask no cluster."""
ON_A_STAND_IN = {"status", "why", "pause", "resume", "refresh", "debug"}
"""Those that are run against HTTP on this machine, which has the deployments that the pages name."""
BY_A_SHELL = {"export", "sha256sum"}
"""Programs that are wherever tests are, and need nothing but files."""
WITHOUT_A_SERVER = {"secret", "configmap"}
"""What `kubectl create` makes by itself, with --dry-run=client."""
RENDERED = {"template", "install", "upgrade"}
WITH_A_CONTAINER = {"logs", "port-forward"}
"""Verbs of kubectl that a container has to answer, which fake nodes do not have."""
PAGES_TEST = "tests/cluster/test_pages.py"
"""Which runs all other commands of kubectl, and what of `helm` reads a release."""


class Kind(StrEnum):
    """Each command is of one."""

    FROM_THE_PAGE = "run from the page"
    BY_A_TEST = "run by the test that the page names"
    LEFT = "not run"


class How(StrEnum):
    """How much of a command happens."""

    RUN = "run here"
    STAND_IN = "run here, against a stand-in for the API server"
    BY_A_CLIENT = "run here by kubectl with --dry-run=client"
    RENDERED = "rendered by both Helms"
    ON_A_CLUSTER = "the same, with names of the test's own, on a real API server or node"
    ON_A_SERVER = f"run on a real API server by {PAGES_TEST}"
    CHECKED = "only checked"


KINDS = {
    Kind.FROM_THE_PAGE: (How.RUN, How.STAND_IN, How.BY_A_CLIENT, How.RENDERED, How.ON_A_SERVER),
    Kind.BY_A_TEST: (How.ON_A_CLUSTER,),
    Kind.LEFT: (How.CHECKED,),
}
NOT_RUN = {
    "kubectl": "needs a container that runs, and fake nodes have none: verb, options, kinds and labels are checked",
    "tandem": "waits for load or measures it: options are checked",
    "tandem-draft-conformance": "needs a draft server: options are checked; tests/unit/runtime/ has it ask real ones",
    "make": "builds for minutes, or for a registry that is not there: targets and variables are checked",
    "python": "needs a Prometheus with series: the module is there",
    "curl": "needs a served model: address and JSON are checked",
    "cosign": "needs a published release: options are checked",
    "gh": "needs a published release: options are checked",
}
"""By program: why a command is only checked."""


def program_of(command: Command) -> str:
    """Its program; `tandem` by whatever name."""
    first = command.words[0]
    return "tandem" if first in TANDEM or command.words[:2] == ("kubectl", "tandem") else first


def arguments_of(command: Command) -> tuple[str, ...]:
    """The words behind its program."""
    return command.words[2 if command.words[:2] == ("kubectl", "tandem") else 1 :]


def how_of(command: Command) -> How:
    """What the tests do about it."""
    program, arguments = program_of(command), arguments_of(command)
    if program in BY_A_SHELL or (program == "tandem" and arguments[0] in WITHOUT_A_CLUSTER):
        return How.RUN
    if program == "kubectl" and arguments[0] == "create" and arguments[1] in WITHOUT_A_SERVER:
        return How.BY_A_CLIENT
    if program == "tandem" and arguments[0] in ON_A_STAND_IN:
        return How.STAND_IN
    if command.block.remark("on a cluster:"):
        return How.ON_A_CLUSTER
    if program == "helm" and arguments[0] in RENDERED:
        return How.RENDERED
    if (program == "kubectl" and arguments[0] not in WITH_A_CONTAINER) or (program == "helm" and arguments[0] == "get"):
        return How.ON_A_SERVER
    return How.CHECKED


def told() -> str:
    """How many are run from the pages, how many by a test that a page names, and why the others are not."""
    ways = Counter(how_of(command) for command in COMMANDS)
    left = Counter(program_of(command) for command in COMMANDS if how_of(command) is How.CHECKED)
    sums = (f"{sum(ways[way] for way in hows)} {kind}" for kind, hows in KINDS.items())
    lines = [f"documentation commands: {len(COMMANDS)}, {', '.join(sums)}"]
    lines += [f"  {ways[way]:4d}  {kind}: {way}" for kind, hows in KINDS.items() for way in hows]
    lines += [f"        {count:4d}  {program}: {NOT_RUN[program]}" for program, count in sorted(left.items())]
    return "\n".join(lines)


if __name__ == "__main__":
    print(told())
