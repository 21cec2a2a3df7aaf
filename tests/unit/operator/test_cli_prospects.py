"""`tandem plan --model DIR`: what the models need, whether they fit each other, how fast they should be."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
import yaml

from tandem_operator.cli.main import main
from tandem_operator.facts import Manifest
from tests.builders import make_body, make_role, make_spec
from tests.model_folders import make_folder

H100, L40S = ("nvidia-h100-80gb",), ("nvidia-l40s-48gb",)


@pytest.fixture
def verifier(tmp_path: Path) -> Path:
    """Llama 3.1 8B, as far as its folder tells."""
    return make_folder(tmp_path / "verifier", 16_060_522_496)


@pytest.fixture
def draft(tmp_path: Path) -> Path:
    """Llama 3.2 1B."""
    return make_folder(tmp_path / "draft", 2_471_628_800, hidden_size=2048, num_hidden_layers=16, head_dim=64)


def pair_spec(count: int | None = None, draft_classes: tuple[str, ...] = L40S) -> Manifest:
    return make_spec(
        verifier=make_role(classes=H100, count=count), draft=make_role("draft", draft_classes, count=count)
    )


def planned(tmp_path: Path, capsys: pytest.CaptureFixture[str], spec: Manifest, *options: Any) -> tuple[str, list[Any]]:
    """The comments, and the objects by kind and role."""
    body = make_body(spec)
    body["metadata"] = {"name": "pair"}
    file = tmp_path / "pair.yaml"
    file.write_text(yaml.safe_dump(body), encoding="utf-8")
    assert main(["plan", "-f", str(file), *map(str, options)]) == 0
    text = capsys.readouterr().out
    comments = "\n".join(line for line in text.splitlines() if line.startswith("# "))
    return comments, [manifest for manifest in yaml.safe_load_all(text) if manifest]


def gpus(objects: list[Any], role: str) -> str:
    deployment = next(o for o in objects if o["kind"] == "Deployment" and f"-{role}-" in o["metadata"]["name"])
    limit: str = deployment["spec"]["template"]["spec"]["containers"][0]["resources"]["limits"]["nvidia.com/gpu"]
    return limit


def test_a_model_folder_gives_the_count_and_the_arithmetic(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], verifier: Path, draft: Path
) -> None:
    comments, objects = planned(tmp_path, capsys, pair_spec(), "--model", verifier, "--draft-model", draft)
    assert (gpus(objects, "verifier"), gpus(objects, "draft")) == ("1", "1")
    assert "# verifier: 1 × nvidia-h100-80gb a replica, by sizing\n" in comments
    assert "#   weights: 15.0 GiB of safetensors\n" in comments
    assert "#   cache wanted: 16 sequences × 8192 tokens = 16.0 GiB\n" in comments
    assert "× 0.92 × 0.95 = " in comments
    assert "# draft: 1 × nvidia-l40s-48gb a replica, by sizing\n" in comments


def test_the_pair_is_checked_and_its_speed_predicted_for_each_method(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], verifier: Path, draft: Path
) -> None:
    comments, _ = planned(tmp_path, capsys, pair_spec(), "--model", verifier, "--draft-model", draft)
    assert "# pair: Fits: the tokenizers are the same: verifier LlamaForCausalLM tokenizer " in comments
    lines = comments.splitlines()
    table = lines[lines.index("# predicted speed, not measured, on the first class of each role:") + 1 :]
    assert table[0].split()[1:3] == ["method", "batch"]
    assert [line.split()[1:3] for line in table[1:7]] == [
        [method, batch] for batch in ("1", "16") for method in ("Off", "Remote", "InEngine")
    ]
    assert "assumed: acceptance 0.70, round trip 1.0 ms" in table[7]


def test_a_pair_that_should_not_pay_is_warned_of(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], verifier: Path, draft: Path
) -> None:
    slow = pair_spec(draft_classes=("nvidia-l4-24gb",))
    comments, _ = planned(tmp_path, capsys, slow, "--model", verifier, "--draft-model", draft)
    assert "warning: Remote is predicted to gain less than 1.1 even for a single request" in comments


def test_without_folders_it_says_what_is_not_known_and_by_which_option_it_would_be(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], verifier: Path
) -> None:
    comments, objects = planned(tmp_path, capsys, pair_spec(count=2))
    assert "# verifier: what its model needs is not known; --model DIR reads it from the model's folder" in comments
    assert "# draft: what its model needs is not known; --draft-model DIR reads it from the model's folder" in comments
    assert "predicted" not in comments
    assert gpus(objects, "verifier") == "2"
    comments, _ = planned(tmp_path, capsys, pair_spec(count=2), "--model", verifier)
    assert [line.split()[1] for line in comments.splitlines() if "1.00x" in line] == ["Off", "Off"]


def test_a_role_whose_count_follows_from_an_unknown_model_gets_no_objects_and_a_reason(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], verifier: Path
) -> None:
    comments, objects = planned(tmp_path, capsys, pair_spec(), "--model", verifier)
    assert {o["metadata"]["labels"]["tandem.dev/role"] for o in objects if o["kind"] == "Deployment"} == {"verifier"}
    assert (
        "# spec.draft.accelerator.count is omitted: it follows from the model, which has not been inspected" in comments
    )
    comments, objects = planned(tmp_path, capsys, pair_spec())
    assert [o for o in objects if o["kind"] == "Deployment"] == []
    assert comments.count("is omitted: it follows from the model") == 2


def test_a_given_count_is_kept_and_its_arithmetic_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], verifier: Path
) -> None:
    comments, objects = planned(tmp_path, capsys, pair_spec(count=2), "--model", verifier)
    assert gpus(objects, "verifier") == "2"
    assert "# verifier: 2 × nvidia-h100-80gb a replica, as asked, tensor parallelism 2\n" in comments
    small = make_spec(
        verifier=make_role(classes=("nvidia-l4-24gb",), count=1), draft=None, speculation={"method": "Off"}
    )
    comments, objects = planned(tmp_path, capsys, small, "--model", verifier)
    assert gpus(objects, "verifier") == "1"
    assert "# verifier: does not fit by this estimate\n" in comments
    assert "too little; would fit: " in comments


def refused(tmp_path: Path, capsys: pytest.CaptureFixture[str], bodies: list[Manifest], *options: Any) -> str:
    file = tmp_path / "pair.yaml"
    file.write_text(yaml.safe_dump_all(bodies), encoding="utf-8")
    assert main(["plan", "-f", str(file), *map(str, options)]) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    return printed.err


def test_a_draft_of_another_tokenizer_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], verifier: Path
) -> None:
    other = make_folder(tmp_path / "other", 10**9, text="b")
    said = refused(tmp_path, capsys, [make_body(pair_spec())], "--model", verifier, "--draft-model", other)
    assert "LLMDeployment pair: spec.draft.model: the models have different tokenizers" in said


def test_a_model_that_no_count_holds_is_refused_with_the_numbers(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    large = make_folder(tmp_path / "large", 10**12)
    said = refused(tmp_path, capsys, [make_body(pair_spec())], "--model", large)
    assert "spec.verifier.accelerator.count (is omitted): no count will do: 8 × nvidia-h100-80gb: 1.02 × 931.3" in said


@pytest.mark.parametrize("option", ["--model", "--draft-model"])
def test_a_folder_that_holds_no_model_is_named_with_its_option(
    option: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = refused(tmp_path, capsys, [make_body(pair_spec())], option, tmp_path / "nowhere")
    assert said.startswith(f"tandem: {option}: ")
    assert "nowhere" in said


def test_one_folder_cannot_speak_of_several_resources(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], verifier: Path
) -> None:
    bodies = [make_body(pair_spec()), make_body(pair_spec(), "second")]
    said = refused(tmp_path, capsys, bodies, "--model", verifier)
    assert "pair.yaml: holds 2 of LLMDeployment, and --model speaks of one" in said


def test_drafts_inside_the_engine_are_sized_and_predicted_with_the_verifier(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], verifier: Path, draft: Path
) -> None:
    model = {"source": {"persistentVolumeClaim": {"claimName": "models", "path": "draft"}}}
    spec = make_spec(
        verifier=make_role(classes=H100, count=None),
        draft=None,
        speculation={"method": "InEngine", "inEngine": {"kind": "DraftModel", "model": model}},
    )
    comments, objects = planned(tmp_path, capsys, spec, "--model", verifier, "--draft-model", draft)
    assert gpus(objects, "verifier") == "1"
    assert "#   weights: 15.0 GiB of safetensors + 2.30 of the drafting model = 17.3 GiB\n" in comments
    assert "× nvidia-l40s" not in comments
    assert " Remote " not in comments.replace("tax of Remote ", "")
    comments, _ = planned(tmp_path, capsys, spec, "--model", verifier)
    assert "# the drafting model inside the engine is not known; --draft-model DIR reads its folder\n" in comments


def test_a_terminal_without_unicode_gets_escapes(
    tmp_path: Path, verifier: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = io.BytesIO()
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(written, encoding="ascii"))
    file = tmp_path / "pair.yaml"
    file.write_text(yaml.safe_dump(make_body(pair_spec())))
    assert main(["plan", "-f", str(file), "--model", str(verifier)]) == 0
    assert b"verifier: 1 \\xd7 nvidia-h100-80gb a replica" in written.getvalue()
