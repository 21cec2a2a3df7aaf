"""`python -m deploy.chart_files`: write what is made from the chart; `--check` fails on drift instead.

The chart's README, by helm-docs from the comments of values.yaml, and the manifests of deploy/kustomize, which are the
chart's defaults.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence

import yaml

from deploy.local.binaries import build, module_of
from deploy.local.layout import REPOSITORY, layout_of
from deploy.local.progress import Progress

CHART = REPOSITORY / "charts/tandem"
README = CHART / "README.md"
KUSTOMIZE = REPOSITORY / "deploy/kustomize"
NAMESPACE = RELEASE = "tandem"
CRD = "CustomResourceDefinition"
LIMIT_SECONDS = 60


def main(arguments: Sequence[str]) -> int:
    """Exit code 1 when `--check` finds a file that differs from what the chart says."""
    rendered = output_of("helm4", "template", RELEASE, str(CHART), "--namespace", NAMESPACE)
    objects = [found for found in yaml.safe_load_all(rendered) if found]
    options = ["--dry-run", "--sort-values-order", "file", "--skip-version-footer", "--log-level", "warning"]
    wanted = {
        README: output_of("helm-docs", "--chart-search-root", str(CHART), *options).strip() + "\n",
        KUSTOMIZE / "crds.yaml": _text_of([found for found in objects if found["kind"] == CRD]),
        KUSTOMIZE / "operator.yaml": _text_of([found for found in objects if found["kind"] != CRD]),
    }
    stale = [path for path, text in wanted.items() if not path.is_file() or path.read_text(encoding="utf-8") != text]
    for path in stale:
        if "--check" in arguments:
            sys.stderr.write(f"{path.relative_to(REPOSITORY)} differs from the chart: run `make chart`\n")
        else:
            path.write_text(wanted[path], encoding="utf-8")
    return 1 if stale and "--check" in arguments else 0


def _text_of(objects: list[dict[str, object]]) -> str:
    body = yaml.safe_dump_all(objects, sort_keys=False, allow_unicode=True, width=120)
    return f"# Written by `make chart`: what charts/tandem renders by default.\n{body}"


def output_of(program: str, *arguments: str) -> str:
    """What one of the chart's programs prints; it is built first where it is missing."""
    built = build(layout_of(), Progress(), modules=[module_of(program)])
    argv = [built[program], *arguments]
    return subprocess.run(argv, check=True, capture_output=True, text=True, timeout=LIMIT_SECONDS).stdout


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
