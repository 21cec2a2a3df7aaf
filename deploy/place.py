"""A cluster that somebody chose: kubectl and helm on exactly that one.

The kubeconfig is always named, so neither `KUBECONFIG` nor a context that is switched meanwhile can lead elsewhere.
"""

from __future__ import annotations

import atexit
import json
import os
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from deploy.local.cluster import Cluster
from deploy.local.kubeconfig import CONTEXT
from deploy.local.processes import write_whole

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

    def command(self, *arguments: str) -> list[str]:
        """kubectl with arguments, for whoever has to keep the process in hand."""
        return [self.kubectl, "--kubeconfig", str(self.kubeconfig), *arguments]

    def run_helm(self, *arguments: str, stdin: str = "", limit_seconds: float = 300.0) -> str:
        """What helm prints. Raises PlaceError."""
        return self._command(self.helm, *arguments, stdin=stdin, limit_seconds=limit_seconds)

    def _command(self, program: str, *arguments: str, stdin: str, limit_seconds: float) -> str:
        shown = " ".join([Path(program).name, *arguments])
        # What the tools cache lies beside the only kubeconfig that they see, and goes with it.
        beside = {
            name: str(self.kubeconfig.parent / folder)
            for name, folder in (("KUBECACHEDIR", "kubectl"), ("HELM_CACHE_HOME", "helm"))
        }
        environment = {**os.environ, **beside, "KUBECONFIG": str(self.kubeconfig)}
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


def local_place(cluster: Cluster, helm: str = "helm4") -> Place:
    """The cluster of this machine, with one of its two Helms."""
    return Place(CONTEXT, cluster.kubeconfig, cluster.binaries["kubectl"], cluster.binaries[helm])


def current_place(*, kubectl: str, helm: str) -> Place:
    """The cluster of the user's current context, frozen into a kubeconfig of its own.

    Raises PlaceError when there is no current context.
    """
    command = [kubectl, "config", "view", "--minify", "--flatten", "--raw", "-o", "json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_SECONDS, check=False)
    if done.returncode != 0:
        raise PlaceError(f"there is no current context: {done.stderr.strip()}")
    frozen = json.loads(done.stdout)
    folder = Path(tempfile.mkdtemp(prefix="tandem-kubeconfig-"))  # readable by us alone: it holds credentials
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    kubeconfig = folder / "kubeconfig"
    write_whole(kubeconfig, json.dumps(frozen))
    return Place(context=frozen["current-context"], kubeconfig=kubeconfig, kubectl=kubectl, helm=helm)
