"""`tandem plan`: every object of a resource as YAML, and for a wrong input one line that says file, path and range."""

from __future__ import annotations

import contextlib
import io
import json
from collections import Counter
from datetime import date
from pathlib import Path
from typing import Any

import pytest
import yaml

from tandem_operator import names
from tandem_operator.cli.main import main
from tandem_operator.cli.plan import KEYS
from tandem_operator.config import OperatorConfig
from tests.builders import make_body, make_role, make_spec

KINDS_OF_A_ROLE = ("ControllerRevision", "Deployment", "NetworkPolicy", "Service", "ServiceAccount")
SAMPLES = sorted((Path(__file__).parents[3] / "deploy" / "samples").glob("*.yaml"))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "models.yaml"


def write(path: Path, *bodies: Any) -> str:
    path.write_text(yaml.safe_dump_all(bodies), encoding="utf-8")
    return str(path)


def body_of(spec: Any = None, **metadata: Any) -> dict[str, Any]:
    body = make_body(spec)
    body["metadata"] = {"name": "pair", **metadata}
    return body


def split(text: str) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The objects that belong to deployments, and those of their models."""
    objects = list(yaml.safe_load_all(text))
    ours = [m for m in objects if names.LABEL_ARTIFACT not in m["metadata"]["labels"]]
    return ours, [m for m in objects if m not in ours]


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample.stem)
def test_every_object_of_a_sample_is_printed_as_yaml(sample: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "-f", str(sample)]) == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    objects, shared = split(printed.out)
    roles = 2 if "draft" in yaml.safe_load(sample.read_text(encoding="utf-8"))["spec"] else 1
    kinds = Counter(manifest["kind"] for manifest in objects)
    budgets = kinds.pop("PodDisruptionBudget", 0)
    assert kinds == dict.fromkeys(KINDS_OF_A_ROLE, roles)
    assert budgets == (sample.stem in {"gpu-pair", "autoscaled"}), "only their verifiers are more than one"
    for manifest in objects:
        assert manifest["metadata"]["namespace"] == "default"
        assert names.ANNOTATION_APPLIED in manifest["metadata"]["annotations"]
    made = ["ModelArtifact", "Job", "ModelArtifact", "Job", "Job"] if sample.stem == "quantized" else []
    assert [manifest["kind"] for manifest in shared] == (made or ["ModelArtifact", "Job"] * roles)
    assert "&id" not in printed.out, "no anchors"
    assert printed.out.startswith(f"# LLMDeployment default/{objects[0]['metadata']['labels'][names.LABEL_INSTANCE]}: ")


def test_several_resources_of_one_file_are_planned_one_after_the_other(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "other"}}
    ngram = body_of(make_spec(speculation={"method": "NGram"}), namespace="mine")
    ngram["metadata"]["name"] = "second"
    assert main(["plan", "-n", "chat", "-f", write(file, body_of(), service, None, ngram)]) == 0
    text = capsys.readouterr().out
    objects, shared = split(text)
    assert [(m["metadata"]["labels"][names.LABEL_INSTANCE], m["metadata"]["namespace"]) for m in objects] == [
        *[("pair", "chat")] * 2 * len(KINDS_OF_A_ROLE),
        *[("second", "mine")] * len(KINDS_OF_A_ROLE),
    ]
    assert "# LLMDeployment chat/pair: 10 objects" in text
    assert "# LLMDeployment mine/second: 5 objects" in text
    artifacts = [m for m in shared if m["kind"] == "ModelArtifact"]
    assert Counter(m["metadata"]["namespace"] for m in artifacts) == {"chat": 2, "mine": 1}


def test_a_model_that_several_serve_is_one_artifact_with_its_job(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    second = body_of()
    second["metadata"]["name"] = "second"
    assert main(["plan", "-f", write(file, body_of(), second)]) == 0
    text = capsys.readouterr().out
    _, shared = split(text)
    assert Counter(m["kind"] for m in shared) == {"ModelArtifact": 2, "Job": 2}
    for artifact, job in zip(shared[::2], shared[1::2], strict=True):
        assert job["metadata"]["ownerReferences"][0]["name"] == artifact["metadata"]["name"]
        assert text.count(f"its model is ModelArtifact {artifact['metadata']['name']}\n") == 2


def test_a_count_that_is_left_to_sizing_says_that_there_is_nothing_yet(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = make_spec()
    del spec["verifier"]["accelerator"]["count"]
    assert main(["plan", "-f", write(file, body_of(spec))]) == 0
    text = capsys.readouterr().out
    assert "# spec.verifier.accelerator.count is omitted: it follows from the model" in text
    assert "--model DIR reads it" in text


@pytest.mark.parametrize(("method", "told"), [("Remote", True), ("NGram", False)])
def test_keys_that_only_a_cluster_can_tell_are_told_of(
    file: Path, capsys: pytest.CaptureFixture[str], method: str, *, told: bool
) -> None:
    spec = make_spec(speculation={"method": method, "tls": {"secretName": "drafts-tls"}})
    assert main(["plan", "-f", write(file, body_of(spec))]) == 0
    text = capsys.readouterr().out
    assert ("# ConfigMap pair-draft: made beside these, with the keys that the API server publishes" in text) is told


def test_a_draft_that_the_method_leaves_idle_is_told(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "-f", write(file, body_of(make_spec(speculation={"method": "NGram"})))]) == 0
    assert "# draft: not used: spec.speculation.method is NGram" in capsys.readouterr().out


def scaled(**autoscaling: Any) -> dict[str, Any]:
    slo = {"timeToFirstToken": "2s", "timePerOutputToken": "80ms"}
    return make_spec(autoscaling={"slo": slo, "verifier": {"minReplicas": 2, "maxReplicas": 8}, **autoscaling})


def test_how_replicas_are_scaled_is_told(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spec = scaled(draft={"minReplicas": 0, "maxReplicas": 4}, paused=True)
    assert main(["plan", "-f", write(file, body_of(spec))]) == 0
    assert (
        """\
# scaling: 95 % of requests within 2s to the first token and 80ms a token after it, by Headroom
#   verifier: 2 to 8 replicas, 2 at first
#   draft: 0 to 4 replicas, 1 at first
#   paused: replicas stay as they are
#   never to zero: idle is omitted
# ConfigMap pair-scaling: made beside these, with what scaling has learned
"""
        in capsys.readouterr().out
    )


def test_what_zero_needs_is_told_and_printed_by_itself(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spec = {**scaled(idle={"after": "5m"}), "access": {"allowedFrom": [{"podLabels": {"app": "client"}}]}}
    assert main(["plan", "-f", write(file, body_of(spec))]) == 0
    text = capsys.readouterr().out
    assert "#   draft: always 1\n" in text
    assert (
        "#   to zero after 5m without a request; then the wake gate holds 1000 requests at most, each for 10m, until a "
        "verifier is Ready\n"
    ) in text
    serving, at_zero = text.split("# LLMDeployment default/pair on its way to zero: 3 objects more")
    gate = [
        each for each in yaml.safe_load_all(at_zero.partition("\n")[2]) if "gate" in str(each["metadata"]["labels"])
    ]
    assert sorted(each["kind"] for each in gate) == ["Deployment", "NetworkPolicy", "Service"]
    policies = [each for each in yaml.safe_load_all(serving) if each["kind"] == "NetworkPolicy"]
    verifiers = next(each for each in policies if each["metadata"]["name"].endswith("verifier"))
    allowed = [peer["podSelector"]["matchLabels"] for peer in verifiers["spec"]["ingress"][0]["from"]]
    assert {"tandem.dev/deployment": "pair", "app.kubernetes.io/component": "gate"} in allowed, (
        "the gate may pass requests on: so the operator applies it"
    )


def test_what_a_list_holds_is_planned(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    second = body_of()
    second["metadata"]["name"] = "second"
    listed = {"apiVersion": "v1", "kind": "List", "items": [body_of(), {"kind": "Service"}, second]}
    assert main(["plan", "-f", write(file, listed)]) == 0
    assert [line for line in capsys.readouterr().out.splitlines() if line.startswith("# LLMDeployment")] == [
        "# LLMDeployment default/pair: 10 objects",
        "# LLMDeployment default/second: 10 objects",
    ]


def test_a_resource_that_is_there_twice_is_refused(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = refused(capsys, "-n", "chat", "-f", write(file, body_of(), body_of(namespace="chat")))
    assert f"{file}: holds LLMDeployment chat/pair more than once" in said


@pytest.mark.parametrize("namespace", ["Bad NS", "", "n" * 64, "-a", "a\n"])
def test_a_namespace_that_cannot_be_is_refused(namespace: str, file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = refused(capsys, f"--namespace={namespace}", "-f", write(file, body_of()))
    assert f"metadata.namespace (is {namespace!r}): must be a DNS label" in said


def test_a_file_that_is_nested_too_deeply_is_named(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file.write_text("[" * 20_000, encoding="utf-8")
    assert f"{file}: is nested too deeply" in refused(capsys, "-f", str(file))


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full here")
def test_an_output_that_cannot_be_written_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    full = Path("/dev/full").open("w", encoding="utf-8")  # noqa: SIM115 -- closing it fails, too
    monkeypatch.setattr("sys.stdout", full)
    code, told = main(["accelerators"]), capsys.readouterr().err
    with contextlib.suppress(OSError):
        full.close()
    assert code == 1
    assert "tandem: standard output: " in told


def test_a_dash_reads_standard_input(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(yaml.safe_dump(body_of())))
    assert main(["plan", "-f", "-"]) == 0
    assert len(split(capsys.readouterr().out)[0]) == 2 * len(KINDS_OF_A_ROLE)


def test_the_operators_configuration_decides_images_and_classes(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "config.yaml"
    config.write_text("engineImages: {cpu: 'mine:7'}\n", encoding="utf-8")
    assert main(["plan", "--config", str(config), "-f", write(file, body_of())]) == 0
    printed = capsys.readouterr().out
    assert "image: mine:7" in printed
    assert OperatorConfig().engine_images["cpu"] not in printed


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """What is said on standard error; nothing is printed as a result."""
    assert main(["plan", *arguments]) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("tandem: ")
    assert printed.err.count("\n") == 1
    return printed.err


def test_a_file_that_is_not_there_is_named(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = refused(capsys, "-f", str(file))
    assert str(file) in said
    assert "there is no such file" in said


def test_a_folder_is_no_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert str(tmp_path) in refused(capsys, "-f", str(tmp_path))


@pytest.mark.parametrize("content", [b"a: [", b"\xff\xfe\x00", b"a: b: c"], ids=["open", "not text", "nested"])
def test_a_file_that_is_no_yaml_is_named(content: bytes, file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file.write_bytes(content)
    assert str(file) in refused(capsys, "-f", str(file))


@pytest.mark.parametrize("content", ["", "just text\n", "- a\n- b\n", "kind: Service\n"])
def test_a_file_without_a_deployment_is_named(content: str, file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file.write_text(content, encoding="utf-8")
    assert f"{file}: holds no LLMDeployment of tandem.dev/v1alpha1" in refused(capsys, "-f", str(file))


def test_a_file_without_a_deployment_is_told_with_what_it_holds(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    services = [{"kind": "Service", "metadata": {"name": name}} for name in ("web", "db")]
    said = refused(capsys, "-f", write(file, services[0], {"kind": "List", "items": services[1:]}, [], None))
    assert said.endswith(", but Service web, Service db, a list\n")


@pytest.mark.parametrize("kind", ["LLMdeployment", "Deployment", None])
def test_a_kind_that_we_do_not_have_is_refused_beside_one_that_we_have(
    kind: str | None, file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = {**body_of(), "kind": kind, "metadata": {"name": "other"}}
    said = refused(capsys, "-f", write(file, body_of(), other))
    assert f"{file}: other: kind (is {kind or 'omitted'}): must be LLMDeployment" in said


def test_what_else_a_file_holds_is_told_not_to_be_planned(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"}}
    assert main(["plan", "-f", write(file, service, body_of())]) == 0
    assert capsys.readouterr().out.startswith("# not planned, since only LLMDeployments are: Service web\n")


def test_a_key_that_is_there_twice_is_refused(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file.write_text(yaml.safe_dump(body_of()) + "kind: LLMDeployment\n", encoding="utf-8")
    assert ": kind is there twice, first in line 2\n" in refused(capsys, "-f", str(file))


def test_another_api_version_is_refused_with_ours(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = refused(capsys, "-f", write(file, {**body_of(), "apiVersion": "tandem.dev/v9"}))
    assert f"{file}: LLMDeployment pair: apiVersion (is tandem.dev/v9): must be tandem.dev/v1alpha1" in said


NO_DRAFT = make_spec(draft=None)
BAD_COUNT = make_spec(verifier=make_role(count=99))
NO_SUCH_CLASS = make_spec(verifier=make_role(classes=("abacus",)))


@pytest.mark.parametrize(
    ("body", "parts"),
    [
        (
            body_of(BAD_COUNT),
            ["LLMDeployment pair", "spec.verifier.accelerator.count", "99", "from 1 to 16"],
        ),
        (body_of(NO_DRAFT), ["LLMDeployment pair: spec.draft is required"]),
        (
            body_of({**BAD_COUNT, "replica": 3, "rollout": {"onFailure": "Never"}}),
            ["spec.replica: unknown field", "spec.verifier.accelerator.count (is 99)", "spec.rollout.onFailure"],
        ),
        (
            body_of(NO_SUCH_CLASS),
            ["LLMDeployment pair", "spec.verifier.accelerator.classes", "abacus", "`tandem accelerators` lists them"],
        ),
        (body_of({}), ["LLMDeployment pair", "spec.verifier: is required"]),
        (body_of([]), ["LLMDeployment pair: spec: must be a mapping"]),
        (body_of("text"), ["LLMDeployment pair: spec (is 'text'): must be a mapping"]),
        ({k: v for k, v in body_of().items() if k != "spec"}, ["LLMDeployment pair: spec: is required"]),
        ({**body_of(), "metadata": None}, ["metadata.name"]),
        ({**body_of(), "metadata": {}}, ["metadata.name"]),
        ({**body_of(), "metadata": []}, ["metadata.name"]),
        ({**body_of(), "metadata": {"name": 5}}, ["metadata.name"]),
        ({**body_of(), "metadata": {"name": "UPPER"}}, ["metadata.name", "UPPER", "DNS-1035"]),
        ({**body_of(), "metadata": {"name": "n" * 41}}, ["metadata.name", "at most 40"]),
        pytest.param(
            {**body_of(), "metadata": {"name": "pair", "namespace": 5}},
            ["metadata.namespace (is 5): must be a DNS label"],
        ),
        (body_of({**make_spec(), "replica": 3}), ["spec.replica: unknown field; known are servedName, verifier"]),
        ({**body_of(), "sepc": {}}, ["pair: sepc: unknown field; did you mean spec?"]),
        (
            body_of(make_spec(access={"allowedFrom": [{"podLabels": {"app": "web"}, "ports": [80]}]})),
            ["spec.access.allowedFrom[0].ports: unknown field; known are namespaceLabels, podLabels"],
        ),
        (
            body_of(make_spec(speculation={"max_depth": 3})),
            ["spec.speculation.max_depth: unknown field; did you mean maxDepth?"],
        ),
    ],
    ids=lambda value: " ".join(value)[:60] if isinstance(value, list) else "",
)
def test_a_wrong_resource_is_refused_with_file_name_path_and_range(
    body: Any, parts: list[str], file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = refused(capsys, "-f", write(file, body))
    for part in [str(file), *parts]:
        assert part in said


def test_what_yaml_takes_for_a_date_is_the_text_that_was_written(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["plan", "-f", write(file, body_of({**make_spec(), "servedName": date(2024, 1, 1)}))]) == 0
    assert "--served-name=2024-01-01" in capsys.readouterr().out


def test_one_wrong_resource_refuses_the_whole_file(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bad = body_of(BAD_COUNT)
    bad["metadata"]["name"] = "second"
    assert "LLMDeployment second" in refused(capsys, "-f", write(file, body_of(), bad))


@pytest.mark.parametrize(
    ("content", "part"),
    [
        ("leaseSeconds: 1\n", "leaseSeconds"),
        ("nonsense: 1\n", "nonsense"),
        ("accelerators: {npu: {quantity: '1'}}\n", "accelerators.npu.resource"),
        ("a: [\n", "line"),
        (None, "there is no such file"),
    ],
)
def test_a_wrong_configuration_is_refused_with_its_file(
    content: str | None, part: str, file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "config.yaml"
    if content is not None:
        config.write_text(content, encoding="utf-8")
    assert main(["plan", "--config", str(config), "-f", write(file, body_of())]) == 1
    said = capsys.readouterr().err
    assert str(config) in said
    assert part in said


def test_the_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out.startswith("tandem 0.")


def test_a_command_line_without_a_file_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["plan"])
    assert ended.value.code == 2
    assert "--filename" in capsys.readouterr().err


def test_a_program_reads_one_list_of_the_same_objects(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    filename = write(file, body_of())
    assert main(["plan", "-f", filename]) == 0
    text = capsys.readouterr().out
    assert main(["plan", "-f", filename, "-o", "yaml"]) == 0
    assert capsys.readouterr().out == text
    assert main(["plan", "-f", filename, "-o", "json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document.keys() == KEYS.keys()
    assert document["kind"] == "List"
    assert document["items"] == list(yaml.safe_load_all(text))
    assert [f"# {note}" for note in document["notes"]] == [line for line in text.splitlines() if line.startswith("# ")]
