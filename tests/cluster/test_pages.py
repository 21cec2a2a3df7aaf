"""The commands of the pages that ask an API server for objects or change them, run as they stand: only the namespace is
another. What they name is there, made by the operator from the samples and the pages' own YAML.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from deploy.local.kwok import FAKE
from deploy.place import Place, PlaceError
from tests.cluster.world import Manifest, World, sample
from tests.docs.blocks import ALL, Command
from tests.docs.folders import lay_out
from tests.docs.running import COMMANDS, How, how_of

READY = "kwok.tandem.dev/ready"
ON_A_SERVER = tuple(command for command in COMMANDS if how_of(command) is How.ON_A_SERVER)
CHANGING = ("apply", "delete")
"""Verbs that come last, in this order: what is read is then as the operator has made it."""
ON_A_FAKE_NODE = {"nodeSelector": {"tandem.dev/node": "fake"}, "tolerations": [{"key": FAKE, "operator": "Exists"}]}
ONE_FAKE_POD = {"spec": {"replicas": 1, "template": {"spec": ON_A_FAKE_NODE}}}
"""Of the chart's operator, which the process beside the cluster is: pages look for its pod."""
MEASURED = {"status": {"speculation": {"depth": 5, "acceptanceRate": "0.78", "tokensPerStep": "3.1"}}}
"""What only engines could tell; the operator keeps what was told of the same pods before."""


def verb_of(command: Command) -> str:
    return command.words[1]


def in_order() -> list[Command]:
    """Those that change nothing first."""
    changing = [command for verb in CHANGING for command in ON_A_SERVER if verb_of(command) == verb]
    return [command for command in ON_A_SERVER if command not in changing] + changing


def problem_of(place: Place, command: Command, namespace: str) -> str:
    """Run it in this namespace; why it failed, or that it has said nothing. Empty: all is well."""
    program, *arguments = command.words
    option = next((at for at, word in enumerate(arguments) if word in {"-n", "--namespace"}), None)
    if option is None:
        arguments += ["--namespace", namespace]
    else:
        arguments[option + 1] = namespace
    try:
        said = {"kubectl": place.run, "helm": place.run_helm}[program](*arguments)
    except PlaceError as error:
        return f"{command.block.place}: {error}"
    if not said.strip():
        return f"{command} says nothing"
    if command.into:
        Path(command.into).write_text(restorable(said))
    return ""


def restorable(said: str) -> str:
    """Objects without what docs/how-to/backup.md takes out by jq; anything else as it is."""
    kept = yaml.safe_load(said)
    for item in kept.get("items", ()):
        del item["status"]
        for name in ("uid", "resourceVersion", "generation", "creationTimestamp"):
            del item["metadata"][name]
    return yaml.safe_dump(kept)


def make_objects(world: World) -> None:
    """All that the commands name: deployments with a full status, an artifact, the operator's own pod."""
    world.run("patch", "deployment/tandem-operator", "-p", json.dumps(ONE_FAKE_POD))
    autoscaling = sample("autoscaled")["spec"]["autoscaling"]
    small = sample("ngram")
    small["metadata"]["name"] = "llama-8b"
    (sized,) = (yaml.safe_load(block.text) for block in ALL if block.title == "sized.yaml")
    world.apply(sample("gpu-pair", autoscaling=autoscaling), small, sized, *(artifact(name) for name in deleted()))
    for name in ("llama-70b", "llama-8b", "sized"):
        world.wait_for(name, "Ready")
        world.wait_for(name, "ArtifactsReady")
    start_again(world, "llama-70b")
    world.run("patch", "llm/llama-70b", "--subresource=status", "--type=merge", "-p", json.dumps(MEASURED))


def deleted() -> list[str]:
    """Names of the artifacts that pages delete."""
    return [command.words[-1] for command in ON_A_SERVER if verb_of(command) == "delete"]


def artifact(name: str) -> Manifest:
    """One that the operator has not made."""
    source = {"persistentVolumeClaim": {"claimName": "models", "path": "other"}}
    kind = {"apiVersion": "tandem.dev/v1alpha1", "kind": "ModelArtifact"}
    return {**kind, "metadata": {"name": name}, "spec": {"source": source}}


def start_again(world: World, name: str) -> None:
    """Have the operator see a verifier become Ready: one that is so before it looks has no cold start."""
    pod = world.names("pods", f"tandem.dev/deployment={name},tandem.dev/role=verifier")[0]
    world.run("annotate", "pod", pod, f"{READY}=false")
    world.wait_until(lambda: verifier(world, name)["readyReplicas"] == 1, "a verifier is not Ready any more")
    world.run("annotate", "pod", pod, f"{READY}-")
    world.wait_until(lambda: "coldStart" in world.get(f"llm/{name}")["status"], "a cold start is told")


def verifier(world: World, name: str) -> Manifest:
    found: Manifest = world.get(f"llm/{name}")["status"]["verifier"]
    return found


def test_commands_of_the_pages_succeed_and_say_something(
    tandem: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_objects(tandem)
    problems = []
    for command in in_order():
        folder = tmp_path / command.block.page.stem
        if not folder.exists():
            folder.mkdir()
            lay_out(command.block.page, folder)
        monkeypatch.chdir(folder)
        problems.append(problem_of(tandem.place, command, tandem.namespace))
    assert [problem for problem in problems if problem] == []
    assert {verb_of(command) for command in ON_A_SERVER} >= {*CHANGING, "get", "describe"}, "none found would pass"


@pytest.mark.parametrize(
    ("wrong", "found"),
    [
        ("kubectl get llm no-such-name -n chat", '"no-such-name" not found'),
        ("kubectl get llm ngram -o jsonpath={.status.noSuchField}", "says nothing"),
        ("kubectl get pods -n chat -l tandem.dev/role=no-such-role", "says nothing"),
        ("helm get values no-such-release --namespace chat", "not found"),
    ],
)
def test_a_wrong_command_is_found(place: Place, namespace: str, wrong: str, found: str) -> None:
    place.apply(sample("ngram"), namespace=namespace)
    assert found in problem_of(place, replace(COMMANDS[0], words=tuple(wrong.split())), namespace)
