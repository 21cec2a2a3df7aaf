"""Runs our kubectl on our cluster and on no other: the kubeconfig is always named, `KUBECONFIG` is ignored."""

import json
import subprocess
from dataclasses import dataclass
from typing import Any

import yaml

from deploy.local.errors import ClusterError
from deploy.local.layout import Layout

LIMIT_SECONDS = 60


@dataclass(frozen=True)
class Kubectl:
    """`program` is the built kubectl."""

    layout: Layout
    program: str

    def run(self, *arguments: str, stdin: str = "", limit_seconds: float = LIMIT_SECONDS) -> str:
        """What kubectl prints. Raises ClusterError, with what it complained about, when it fails or takes too long."""
        done = self.attempt(*arguments, stdin=stdin, limit_seconds=limit_seconds)
        if done.returncode != 0:
            raise ClusterError(f"`kubectl {' '.join(arguments)}` ended with {done.returncode}: {done.stderr.strip()}")
        return done.stdout

    def attempt(
        self, *arguments: str, stdin: str = "", limit_seconds: float = LIMIT_SECONDS
    ) -> subprocess.CompletedProcess[str]:
        """Run kubectl and return how it ended. Raises ClusterError when it takes longer than `limit_seconds`."""
        try:
            return subprocess.run(
                [self.program, f"--kubeconfig={self.layout.kubeconfig}", *arguments],
                input=stdin,
                capture_output=True,
                text=True,
                timeout=limit_seconds,
                check=False,
                env={
                    "PATH": "/usr/bin:/bin",
                    "KUBECACHEDIR": str(self.layout.state / "kubectl"),
                    "HOME": str(self.layout.state),
                },
            )
        except FileNotFoundError:
            raise ClusterError(f"{self.program} is not built: run `python -m deploy.local build`") from None
        except subprocess.TimeoutExpired:
            raise ClusterError(f"`kubectl {' '.join(arguments)}` took more than {limit_seconds:.0f} s") from None

    def get(self, *arguments: str) -> dict[str, Any]:
        """`kubectl get … -o json`, parsed."""
        found: dict[str, Any] = json.loads(self.run("get", *arguments, "-o", "json"))
        return found

    def apply(self, *objects: dict[str, Any]) -> None:
        """Server-side apply of `objects`."""
        documents = yaml.safe_dump_all(objects, sort_keys=False)
        self.run("apply", "--server-side", "--force-conflicts", "-f", "-", stdin=documents)

    def is_answering(self, path: str = "/readyz") -> bool:
        """Whether the API server answers `path` with success."""
        return self.attempt("get", "--raw", path, "--request-timeout=5s", limit_seconds=15).returncode == 0
