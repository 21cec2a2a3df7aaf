"""Every command that the pages and the README show is run, or else checked, by what its own program says of it.

Run: what of `tandem` needs no cluster, and against a stand-in for the API server what reads a resource or writes one
field of it; `helm template`, and as that also `helm install` and `helm upgrade`. Checked: all others, since they need a
cluster or take long; tests/docs/running.py says which and why. kubectl itself is asked, at an address where nothing
answers: it gets as far as to say so only with a verb, options and files that it understands. On a real API server
tests/cluster/test_pages.py runs the same commands; what a remark `on a cluster: FILE` names does there what they do,
and has to have their words.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import re
import shlex
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import yaml

from deploy.docs.commands import parser
from deploy.images.catalogue import NAMES, Image
from deploy.local.binaries import Binaries
from tandem_operator import names
from tandem_operator.api.crd import artifact_crd, crd, crd_schema
from tandem_operator.cli.main import main as tandem
from tandem_runtime import conformance
from tests.builders import NAMESPACE, make_body
from tests.docs.blocks import ALL, ROOT, Command
from tests.docs.evidence import missing_in
from tests.docs.running import (
    BY_A_SHELL,
    COMMANDS,
    KINDS,
    NOT_RUN,
    ON_A_STAND_IN,
    PAGES_TEST,
    RENDERED,
    TANDEM,
    WITHOUT_A_CLUSTER,
    WITHOUT_A_SERVER,
    How,
    Kind,
    arguments_of,
    how_of,
    program_of,
    told,
)
from tests.unit.operator.user_cluster import user_cluster

LIMIT_SECONDS = 60
IMAGE_VALUES = "build/images.yaml"
REUSING = "--reset-then-reuse-values"
NOWHERE = "https://127.0.0.1:1"
OURS = {
    word
    for definition in (crd(), artifact_crd())
    for word in (
        definition["spec"]["names"]["plural"],
        definition["spec"]["names"]["singular"],
        *definition["spec"]["names"]["shortNames"],
    )
}
THEIRS = {"configmap", "deployment", "job", "jobs", "lease", "pod", "pods", "secret", "service", "token"}
ON_RESOURCES = {"delete", "describe", "explain", "get", "scale", "wait"}
VERIFYING = {
    "cosign": {"--bundle", "--certificate-identity", "--certificate-oidc-issuer", "--type"},
    "gh": {"--repo"},
}
"""Programs that are not here, with those of their options that pages may use."""
ON = "on a cluster:"
NAMED = tuple(command for command in COMMANDS if command.block.remark(ON))
LABELS = {value for name, value in vars(names).items() if name.startswith("LABEL_")}


@pytest.mark.parametrize("command", COMMANDS, ids=map(str, COMMANDS))
def test_a_command_does_what_the_page_says_or_could(
    command: Command,
    folder_of: Callable[[Path], Path],
    binaries: Binaries,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = folder_of(command.block.page)
    program, *arguments = command.words
    if program in TANDEM or command.words[:2] == ("kubectl", "tandem"):
        check_tandem(arguments_of(command), folder, capsys)
    elif program == "kubectl":
        check_kubectl(binaries["kubectl"], arguments, folder)
    elif program == "helm":
        check_helm(binaries, arguments)
    elif program == "make":
        check_make(arguments)
    elif program == "tandem-draft-conformance":
        check_options(conformance.main, arguments, capsys)
    elif program == "python":
        assert arguments[0] == "-m"
        assert importlib.util.find_spec(arguments[1]) is not None
    elif program == "curl":
        check_curl(arguments)
    elif program in VERIFYING:
        assert {word.partition("=")[0] for word in arguments if word.startswith("--")} <= VERIFYING[program]
    elif program in BY_A_SHELL:
        run_by_a_shell(command, folder)
    else:
        pytest.fail(f"nobody knows how to check {program}")


def check_tandem(arguments: Sequence[str], folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Run it where it needs no cluster, or one that only holds objects; else its parser takes every word."""
    if arguments[0] in WITHOUT_A_CLUSTER:
        assert tandem(arguments) == 0, capsys.readouterr().err
        assert capsys.readouterr().out
        return
    assert parser().parse_args(list(arguments)).command == arguments[0]
    if arguments[0] in ON_A_STAND_IN:
        run_on_a_stand_in(arguments, folder, capsys)


def run_on_a_stand_in(arguments: Sequence[str], folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Run it where the API server has the deployment that it names, Ready: it succeeds and says something of it."""
    spec = yaml.safe_load((ROOT / "deploy/samples/autoscaled.yaml").read_text())["spec"]
    name = arguments[2] if arguments[0] == "debug" else arguments[1]
    ready = {"type": "Ready", "status": "True", "reason": "RolledOut", "message": "", "observedGeneration": 1}
    status = {"observedGeneration": 1, "conditions": [{**ready, "lastTransitionTime": "2030-01-01T00:00:00Z"}]}
    with user_cluster(folder) as cluster:
        cluster.put(names.KIND, {**make_body(spec, name), "status": status})
        where = [] if "-n" in arguments else ["-n", NAMESPACE]
        done = tandem([*arguments, *where, "--kubeconfig", str(cluster.kubeconfig)])
        said = capsys.readouterr()
        assert done == 0, said.err
        assert name in said.out


def check_kubectl(kubectl: str, arguments: Sequence[str], folder: Path) -> None:
    """All is right with it but that nothing answers."""
    verb = arguments[0]
    if verb in ON_RESOURCES:
        check_resource(verb, arguments[1:])
    for label in _values(arguments, "-l"):
        assert {each.partition("=")[0] for each in label.split(",")} <= LABELS
    for path in _values(arguments, "-o"):
        if path.startswith("jsonpath="):
            assert any(is_field(path.removeprefix("jsonpath={.").rstrip("}").split("."), part) for part in _PARTS), path
    for file in _values(arguments, "-f"):
        assert (folder / file).is_file(), f"there is no {file}"
        assert all("kind" in document for document in yaml.safe_load_all((folder / file).read_text()) if document)
    if verb == "create" and arguments[1] in WITHOUT_A_SERVER:
        run_by_a_client(kubectl, arguments, folder)
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "nowhere", "cluster": {"server": NOWHERE}}],
        "contexts": [{"name": "nowhere", "context": {"cluster": "nowhere", "user": "nobody"}}],
        "users": [{"name": "nobody", "user": {"token": "none"}}],
        "current-context": "nowhere",
    }
    (folder / "kubeconfig").write_text(json.dumps(config))
    environment = {**os.environ, "KUBECONFIG": str(folder / "kubeconfig"), "HOME": str(folder)}
    done = subprocess.run(
        [kubectl, *arguments], capture_output=True, text=True, timeout=LIMIT_SECONDS, cwd=folder, env=environment
    )
    assert done.returncode != 0
    assert "127.0.0.1:1 was refused" in done.stderr or "connect: connection refused" in done.stderr, done.stderr


def run_by_a_client(kubectl: str, arguments: Sequence[str], folder: Path) -> None:
    """What would be sent has the name, and something in it."""
    argv = [kubectl, *arguments, "--dry-run=client", "--output=json"]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=LIMIT_SECONDS, cwd=folder)
    assert done.returncode == 0, done.stderr
    made = json.loads(done.stdout)
    assert made["metadata"]["name"] in arguments
    assert made["data"]


_PARTS = [crd_schema()["properties"]]


def is_field(path: Sequence[str], members: dict[str, dict[str, object]]) -> bool:
    """Whether a path leads to a field, beginning at the members of an object."""
    for name in path:
        if name not in members:
            return False
        field = members[name]
        field = field.get("items", field)  # type: ignore[assignment]
        members = field.get("properties", {})  # type: ignore[assignment]
    return True


def check_resource(verb: str, arguments: Sequence[str]) -> None:
    """The kinds are ours or known ones; what follows of them is there in the schema."""
    named = next(word for at, word in enumerate(arguments) if not word.startswith("-") and not _is_value(arguments, at))
    if verb == "explain":
        kind, *path = named.split(".")
        assert kind in OURS
        assert is_field(path, crd_schema()["properties"])
        return
    assert set(named.split("/")[0].split(",")) <= OURS | THEIRS, named
    for condition in (word for word in arguments if word.startswith("--for=condition=")):
        assert condition.rpartition("=")[2] in set(names.ConditionType)


def _is_value(arguments: Sequence[str], at: int) -> bool:
    """Whether a word belongs to the option before it: of options without `=`, those that pages use take a value."""
    return at > 0 and re.fullmatch(r"-[nolf]|--[a-z-]+", arguments[at - 1]) is not None and "=" not in arguments[at - 1]


def _values(arguments: Sequence[str], option: str) -> list[str]:
    return [arguments[at + 1] for at, word in enumerate(arguments[:-1]) if word == option]


def check_helm(binaries: Binaries, arguments: Sequence[str]) -> None:
    """Render it with both Helms where it installs; else its help knows every option."""
    verb, *others = arguments
    for helm in (binaries["helm3"], binaries["helm4"]):
        if verb in RENDERED:
            rest = [word for word in others if word != REUSING]  # nothing is there that could be used again
            assert REUSING not in others or f"{REUSING} " in _help_of(helm, verb)
            argv = [helm, "template", *rest, "--kube-version", "1.30.0"]
            done = subprocess.run(argv, capture_output=True, text=True, timeout=LIMIT_SECONDS)
            assert done.returncode == 0, done.stderr
            assert "kind: Deployment" in done.stdout
            continue
        verbs = [word for word in arguments if not word.startswith("-")][:2] if verb == "get" else [verb]
        told = _help_of(helm, *verbs)
        assert [word for word in others if word.startswith("--") and word.partition("=")[0] not in told] == []


def _help_of(helm: str, *verbs: str) -> str:
    done = subprocess.run([helm, *verbs, "--help"], capture_output=True, text=True, timeout=LIMIT_SECONDS)
    assert done.returncode == 0, done.stderr
    return done.stdout


def check_make(arguments: Sequence[str]) -> None:
    """The Makefile has the target, and reads the variables."""
    text = (ROOT / "Makefile").read_text()
    variables = [word.partition("=")[0] for word in arguments if "=" in word]
    targets = [word for word in arguments if "=" not in word]
    assert targets
    assert [target for target in targets if re.search(rf"^{re.escape(target)}:", text, re.MULTILINE) is None] == []
    assert [name for name in variables if f"$({name})" not in text] == []


def check_options(
    main: Callable[[list[str]], int], arguments: Sequence[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """Its help knows every option."""
    with pytest.raises(SystemExit):
        main(["--help"])
    told = capsys.readouterr().out
    assert [word for word in arguments if word.startswith("--") and word not in told] == []


def run_by_a_shell(command: Command, folder: Path) -> None:
    """Run it where the files are that it names, and are what their checksums say."""
    for word in command.words[1:]:
        if not word.startswith("--") and command.words[0] == "sha256sum":
            file = folder / word
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(b"")
    if "--check" in command.words:
        (folder / "file").write_bytes(b"a")
        (folder / "checksums.txt").write_text(f"{hashlib.sha256(b'a').hexdigest()}  file\n{'0' * 64}  missing\n")
    argv = ["bash", "-euc", shlex.join(command.words)]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=LIMIT_SECONDS, cwd=folder)
    assert done.returncode == 0, done.stderr


def check_curl(arguments: Sequence[str]) -> None:
    """The address is one, and what is sent is JSON."""
    (address,) = (urlsplit(word) for word in arguments if word.startswith("http"))
    assert address.netloc
    assert [json.loads(sent) for sent in _values(arguments, "-d")]


INSTALLS = [
    command for command in COMMANDS if command.words[:2] == ("helm", "install") and IMAGE_VALUES in command.words
]


@pytest.mark.parametrize("command", INSTALLS, ids=map(str, INSTALLS))
def test_an_install_names_every_image_as_make_images_has_pushed_it(
    command: Command, folder_of: Callable[[Path], Path], binaries: Binaries
) -> None:
    folder = folder_of(command.block.page)
    (registry,) = {
        word.removeprefix("REGISTRY=")
        for other in COMMANDS
        if other.block.page == command.block.page
        for word in other.words
        if word.startswith("REGISTRY=")
    }
    pushed = {name: f"{registry}/{name}:{Image(name).tag}" for name in NAMES}
    argv = [binaries["helm4"], "template", *command.words[2:], "--kube-version", "1.30.0"]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=LIMIT_SECONDS, cwd=folder, check=True)
    found = {o["kind"]: o for o in yaml.load_all(done.stdout, Loader=yaml.CSafeLoader) if o}
    (operator,) = found["Deployment"]["spec"]["template"]["spec"]["containers"]
    config = yaml.safe_load(found["ConfigMap"]["data"]["config.yaml"])
    assert operator["image"] == config["gate"]["image"] == pushed["operator"]
    assert config["engineImages"] == {
        "cpu": pushed["engine-cpu"],
        "cpu-artifacts": pushed["artifacts"],
        "cpu-triton": pushed["draft-triton"],
        "gpu": f"{registry}/engine-gpu:TAG",  # of the user's own
        "gpu-artifacts": pushed["artifacts"],
    }


def test_the_readme_and_two_pages_install_what_make_images_pushed() -> None:
    assert {command.block.page.name for command in INSTALLS} == {"README.md", "start.md", "offline.md"}


def test_there_are_commands_of_every_kind() -> None:
    """A pattern that finds nothing would pass."""
    programs = {command.words[0] for command in COMMANDS}

    assert len(COMMANDS) > 60
    assert programs >= {"tandem", "kubectl", "helm", "make"}


def test_what_is_not_run_has_a_reason_and_most_commands_are_run_from_the_page() -> None:
    left = {program_of(command) for command in COMMANDS if how_of(command) is How.CHECKED}
    counts = {kind: sum(how_of(command) in hows for command in COMMANDS) for kind, hows in KINDS.items()}

    assert left == NOT_RUN.keys(), "each with its reason, and no reason for what is run"
    assert sorted(way for hows in KINDS.values() for way in hows) == sorted(How), "each way is of one kind"
    assert sum(counts.values()) == len(COMMANDS)
    assert counts[Kind.FROM_THE_PAGE] > len(COMMANDS) / 2, told()
    sums = ", ".join(f"{count} {kind}" for kind, count in counts.items())
    assert told().startswith(f"documentation commands: {len(COMMANDS)}, {sums}\n")


def test_a_test_that_a_page_names_is_there() -> None:
    named = {block.remark(ON) for block in ALL} - {""} | {PAGES_TEST}

    assert len(named) > 5
    assert [file for file in named if "\ndef test_" not in (ROOT / file).read_text()] == []


@pytest.mark.parametrize("command", NAMED, ids=map(str, NAMED))
def test_a_test_that_a_page_names_has_the_words_of_the_command(command: Command) -> None:
    assert missing_in(command.block.remark(ON), program_of(command), arguments_of(command)) == []


@pytest.mark.parametrize(
    ("file", "words", "missing"),
    [
        ("tests/e2e/test_demo.py", "make test", ["deploy.images", "pytest"]),
        ("tests/e2e/test_demo.py", "make no-such-target", ["no-such-target"]),
        ("tests/e2e/test_chart.py", "make images", ["deploy.images"]),
        ("tests/e2e/test_chart.py", "helm upgrade tandem --reset-then-reuse-values", ["--reset-then-reuse-values"]),
        ("tests/cluster/test_rollout_room.py", "tandem bench a --rate 4 --detach", ["bench", "--rate", "--detach"]),
        ("tests/unit/operator/test_plan.py", "kubectl create token a", ["kubectl", "create", "token"]),
        ("tests/cluster/test_other_scalers.py", "kubectl scale llm/a -n chat --replicas=4 --no-such=1", ["--no-such"]),
        ("tests/e2e/test_demo.py", "make demo", []),
        ("tests/chart/test_installing.py", "helm upgrade tandem --reset-then-reuse-values", []),
        ("tests/e2e/test_pair.py", "tandem bench a --rate=4 --detach", []),
    ],
)
def test_a_test_that_does_not_run_a_command_is_found(file: str, words: str, missing: list[str]) -> None:
    program, *arguments = words.split()
    assert set(missing) <= set(found := missing_in(file, program, arguments))
    assert bool(missing) == bool(found)


@pytest.mark.parametrize(
    "wrong",
    [
        ["get", "llm", "--no-such-option"],
        ["no-such-verb", "llm"],
        ["apply", "-f", "missing.yaml"],
        ["explain", "llmdeployment.spec.noSuchField"],
        ["get", "no-such-kind"],
        ["wait", "--for=condition=NoSuchCondition", "llm/a"],
        ["get", "llm", "a", "-o", "jsonpath={.status.noSuchField}"],
        ["get", "pods", "-l", "no-such-label=a"],
    ],
    ids=" ".join,
)
def test_a_wrong_kubectl_command_is_found(wrong: list[str], binaries: Binaries, tmp_path: Path) -> None:
    with pytest.raises(AssertionError):
        check_kubectl(binaries["kubectl"], wrong, tmp_path)


@pytest.mark.parametrize(
    "wrong",
    [
        ["template", "tandem", str(ROOT / "charts/tandem"), "--set", "config.noSuchValue=1"],
        ["install", "tandem", str(ROOT / "charts/tandem"), "--no-such-option"],
        ["rollback", "tandem", "--no-such-option"],
    ],
    ids=lambda words: words[0],
)
def test_a_wrong_helm_command_is_found(wrong: list[str], binaries: Binaries) -> None:
    with pytest.raises(AssertionError):
        check_helm(binaries, wrong)


@pytest.mark.parametrize("wrong", [["pause"], ["why", "a", "--no-such-option"], ["no-such-command", "a"]])
def test_a_wrong_tandem_command_is_found(wrong: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        check_tandem(wrong, tmp_path, capsys)


def test_a_wrong_make_command_is_found() -> None:
    for wrong in (["no-such-target"], ["images", "NO_SUCH_VARIABLE=a"]):
        with pytest.raises(AssertionError):
            check_make(wrong)
