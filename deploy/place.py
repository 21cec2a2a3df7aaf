"""A cluster that somebody chose: kubectl and helm on exactly that one.

The kubeconfig is always named, so neither `KUBECONFIG` nor a context that is switched meanwhile can lead elsewhere.
"""

from __future__ import annotations

import atexit
import json
import os
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

LIMIT_SECONDS = 60.0


class PlaceError(Exception):
    """A command on the cluster failed or took too long; the message has what it complained about."""


@dataclass(frozen=True)
class Place:
    """One cluster: `kubeconfig` holds its context and no other, `kubectl` and `helm` are the programs."""

    context: str
    kubeconfig: Path
    kubectl: str
    helm: str

    def run(self, *arguments: str, stdin: str = "", limit_seconds: float = LIMIT_SECONDS) -> str:
        """What kubectl prints. Raises PlaceError."""
        return self._command(self.kubectl, *arguments, stdin=stdin, limit_seconds=limit_seconds)

    def get(self, *arguments: str) -> dict[str, Any]:
        """`kubectl get … -o json`, parsed. Raises PlaceError."""
        found: dict[str, Any] = json.loads(self.run("get", *arguments, "-o", "json"))
        return found

    def apply(self, *objects: dict[str, Any], namespace: str = "") -> str:
        """`kubectl apply` of `objects`. Raises PlaceError."""
        where = ("--namespace", namespace) if namespace else ()
        return self.run("apply", "--server-side", "-f", "-", *where, stdin=yaml.safe_dump_all(objects, sort_keys=False))

    def run_helm(self, *arguments: str, stdin: str = "", limit_seconds: float = 300.0) -> str:
        """What helm prints. Raises PlaceError."""
        return self._command(self.helm, *arguments, stdin=stdin, limit_seconds=limit_seconds)

    def _command(self, program: str, *arguments: str, stdin: str, limit_seconds: float) -> str:
        shown = " ".join([Path(program).name, *arguments])
        # Helm and kubectl cache under HOME; the only kubeconfig that they see is ours.
        environment = {**os.environ, "KUBECONFIG": str(self.kubeconfig)}
        try:
            done = subprocess.run(
                [program, *arguments],
                input=stdin,
                capture_output=True,
                text=True,
                timeout=limit_seconds,
                check=False,
                env=environment,
            )
        except subprocess.TimeoutExpired:
            raise PlaceError(f"`{shown}` took more than {limit_seconds:.0f} s") from None
        if done.returncode != 0:
            raise PlaceError(f"`{shown}` ended with {done.returncode}: {done.stderr.strip()}")
        return done.stdout


def current_place(*, kubectl: str, helm: str) -> Place:
    """The cluster of the user's current context, frozen into a kubeconfig of its own.

    Raises PlaceError when there is no current context.
    """
    command = [kubectl, "config", "view", "--minify", "--flatten", "--raw", "-o", "json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_SECONDS, check=False)
    if done.returncode != 0:
        raise PlaceError(f"there is no current context: {done.stderr.strip()}")
    frozen = json.loads(done.stdout)
    with tempfile.NamedTemporaryFile("w", prefix="tandem-kubeconfig-", delete=False) as file:  # readable by us alone
        json.dump(frozen, file)
    path = Path(file.name)
    atexit.register(path.unlink, missing_ok=True)  # it holds the user's credentials
    return Place(context=frozen["current-context"], kubeconfig=path, kubectl=kubectl, helm=helm)
