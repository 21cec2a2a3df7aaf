"""Models from the hub: what is fetched is what the hub describes, nothing dangerous is, and no token is told."""

from __future__ import annotations

import json
import shutil
import socket
import threading
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from deploy.fixtures.hub import LARGE_BYTES, FakeHub, Repository
from deploy.fixtures.pair import ModelPair
from tandem_contracts.artifact_job import FETCH_MODULE, HubSource, Made, fetch_arguments
from tandem_contracts.termination import ExitCode, Reason
from tandem_operator.artifact_status import progress_in
from tandem_runtime.artifacts.volume import Volume
from tests.runtime.artifacts.programs import Ended, Program, run

pytestmark = pytest.mark.timeout(600)

REPO, KEY, OTHER_KEY = "somebody/small", "v1-fetched", "v1-other"
FIRST, SECOND = "1" * 40, "2" * 40
OUTSIDE = "a/../../v1-others"
"""What a hub may call a commit that wants its files somewhere else on the volume."""
CANARY = "hf_canaryThatNobodyMayEverSee"


@pytest.fixture
def model(tmp_path: Path, models: ModelPair) -> Path:
    """A copy of the draft, whose weights are large enough to be told by SHA-256."""
    folder = tmp_path / "model"
    shutil.copytree(models.draft, folder)
    assert (folder / "model.safetensors").stat().st_size > LARGE_BYTES
    return folder


@pytest.fixture
def hub(model: Path) -> Iterator[FakeHub]:
    with FakeHub({REPO: Repository({"main": FIRST}, {FIRST: model})}) as found:
        yield found


class Fetching:
    """`fetch` with a volume, as a pod of a Job runs it."""

    def __init__(self, folder: Path, hub: FakeHub) -> None:
        self._folder, self._hub = folder, hub
        (folder / "volume").mkdir()
        self.volume = Volume(folder / "volume")
        self._tries = 0

    def start(
        self, *, repo: str = REPO, revision: str = "main", key: str = KEY, token: str = "", port: int = 0
    ) -> Program:
        self._tries += 1
        source = HubSource(repo=repo, revision=revision, endpoint=self._hub.endpoint)
        arguments = fetch_arguments(source=source, key=key, owner=f"pod{self._tries}")
        arguments += [f"--volume={self._folder / 'volume'}", f"--metrics-port={port}"]
        environment = {"HF_TOKEN": token} if token else {}
        return Program(FETCH_MODULE, arguments, self._folder / f"try{self._tries}", environment=environment)

    def run(self, **changes: Any) -> Ended:
        return self.start(**changes).ended()


@pytest.fixture
def fetching(tmp_path: Path, hub: FakeHub) -> Fetching:
    return Fetching(tmp_path, hub)


def test_a_revision_is_resolved_once_and_published_whole(fetching: Fetching, hub: FakeHub, model: Path) -> None:
    moved = model.parent / "moved"
    shutil.copytree(model, moved)
    (moved / "config.json").write_text("{}")
    repository = hub.repositories[REPO]

    def move() -> None:  # somebody pushes to main while it is fetched
        repository.commits[SECOND], repository.revisions["main"] = moved, SECOND

    hub.resolved = move
    ended = fetching.run()
    assert ended.code == ExitCode.OK, ended.output
    made = Made.decode(ended.last_word)
    assert made.revision == FIRST
    assert made.model.architecture == "LlamaForCausalLM"
    manifest = fetching.volume.find(KEY)
    assert manifest is not None
    assert made.bytes == manifest.bytes
    for file in manifest.files:
        assert (fetching.volume.folder(KEY) / file.path).read_bytes() == (model / file.path).read_bytes()
    assert {name.split("/")[0] for name in hub.sent} == {FIRST}
    sent = len(hub.sent)
    again = fetching.run()
    assert Made.decode(again.last_word).seconds == 0
    assert len(hub.sent) == sent


def test_the_same_files_from_elsewhere_are_the_same_source(fetching: Fetching, hub: FakeHub, model: Path) -> None:
    hub.repositories["mirror/small"] = Repository({"main": SECOND}, {SECOND: model})
    first, second = fetching.run(), fetching.run(repo="mirror/small", key=OTHER_KEY)
    assert Made.decode(first.last_word).source == Made.decode(second.last_word).source
    (model / "config.json").write_text((model / "config.json").read_text() + "\n")
    third = fetching.run(repo="mirror/small", key="v1-third")
    assert Made.decode(third.last_word).source != Made.decode(first.last_word).source


def test_another_try_goes_on_after_the_last_whole_file(fetching: Fetching, hub: FakeHub) -> None:
    reached, go_on = threading.Event(), threading.Event()

    def hold(path: str, content: bytes) -> bytes:
        if path == "model.safetensors" and not go_on.is_set():
            reached.set()
            go_on.wait(60)
        return content

    hub.spoil = hold
    fetching.start().kill_once(reached.is_set, "the weights are being fetched")
    go_on.set()
    assert fetching.volume.find(KEY) is None
    before = [name for name in hub.sent if "safetensors" not in name]
    hub.sent.clear()
    ended = fetching.run()
    assert ended.code == ExitCode.OK, ended.output
    assert before
    assert hub.sent == [f"{FIRST}/model.safetensors"]


def test_weights_in_another_form_are_not_fetched(fetching: Fetching, hub: FakeHub, model: Path) -> None:
    shutil.copy(model / "model.safetensors", model / "consolidated.safetensors")
    ended = fetching.run()
    assert ended.code == ExitCode.OK, ended.output
    assert f"{FIRST}/model.safetensors" in hub.sent
    assert f"{FIRST}/consolidated.safetensors" not in hub.sent
    assert Made.decode(ended.last_word).model.weights_bytes == (model / "model.safetensors").stat().st_size


def test_a_try_that_goes_on_tells_its_progress_by_what_is_still_to_be_fetched(
    fetching: Fetching, hub: FakeHub, model: Path
) -> None:
    """What was there before took it no time: an estimate from it would be far too short."""
    kept = fetching.volume.kept(f"{KEY}.{FIRST}")
    shutil.copy(model / "model.safetensors", kept)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    pages: list[str] = []

    def look(path: str, content: bytes) -> bytes:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30) as answer:
            pages.append(answer.read().decode())
        return content

    hub.spoil = look
    ended = fetching.run(port=port)
    assert ended.code == ExitCode.OK, ended.output
    first = progress_in(pages[0])
    assert first is not None
    assert first.done < first.total
    assert first.total == sum(path.stat().st_size for path in model.iterdir() if path.name != "model.safetensors")


def gated(hub: FakeHub, _model: Path) -> None:
    hub.repositories[REPO].is_gated = True


def without_right(hub: FakeHub, _model: Path) -> None:
    hub.token = "another"


def failing(hub: FakeHub, _model: Path) -> None:
    hub.status = 503


def gone(hub: FakeHub, _model: Path) -> None:
    hub.repositories.clear()


def other_revision(hub: FakeHub, _model: Path) -> None:
    hub.repositories[REPO].revisions.clear()


def misnaming(hub: FakeHub, model: Path) -> None:
    hub.repositories[REPO] = Repository({"main": OUTSIDE}, {OUTSIDE: model})


def cut_off(hub: FakeHub, _model: Path) -> None:
    hub.is_cut_off = True


def changed(hub: FakeHub, _model: Path) -> None:
    hub.spoil = lambda path, content: content[:-1] + b"x" if path.endswith(".safetensors") else content


def changed_small(hub: FakeHub, _model: Path) -> None:
    hub.spoil = lambda path, content: content[:-1] + b" " if path == "config.json" else content


def pickled(_hub: FakeHub, model: Path) -> None:
    (model / "model.safetensors").rename(model / "pytorch_model.bin")


def of_code(_hub: FakeHub, model: Path) -> None:
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps({**config, "auto_map": {"AutoModel": "modeling.Mine"}}))
    (model / "modeling.py").write_text("raise SystemExit")


def without_weights(_hub: FakeHub, model: Path) -> None:
    (model / "model.safetensors").unlink()


def truncated_weights(_hub: FakeHub, model: Path) -> None:
    weights = model / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])


@pytest.mark.parametrize(
    ("spoil", "code", "reason", "told"),
    [
        (gated, ExitCode.SOURCE_DENIED, Reason.SOURCE_DENIED, "access is gated"),
        (without_right, ExitCode.SOURCE_DENIED, Reason.SOURCE_DENIED, "token"),
        (gone, ExitCode.SOURCE_DENIED, Reason.SOURCE_DENIED, "no such repository"),
        (other_revision, ExitCode.SOURCE_NOT_FOUND, Reason.SOURCE_NOT_FOUND, "no such revision"),
        (misnaming, ExitCode.SOURCE_NOT_FOUND, Reason.SOURCE_NOT_FOUND, "the hub names no commit"),
        (failing, ExitCode.NETWORK_FAILED, Reason.NETWORK_FAILED, "the hub answers 503"),
        (cut_off, ExitCode.NETWORK_FAILED, Reason.NETWORK_FAILED, "somebody/small"),
        (changed, ExitCode.CHECKSUM_MISMATCH, Reason.CHECKSUM_MISMATCH, "model.safetensors"),
        (changed_small, ExitCode.CHECKSUM_MISMATCH, Reason.CHECKSUM_MISMATCH, "config.json"),
        (pickled, ExitCode.SOURCE_UNSAFE, Reason.PICKLES_ONLY, "pytorch_model.bin"),
        (of_code, ExitCode.SOURCE_UNSAFE, Reason.SOURCE_UNSAFE, "auto_map"),
        (without_weights, ExitCode.SOURCE_INVALID, Reason.NO_WEIGHTS, "no weights"),
        (truncated_weights, ExitCode.SOURCE_INVALID, Reason.WEIGHTS_INVALID, "is it cut off?"),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
def test_what_cannot_be_fetched_is_told_with_its_reason_and_leaves_no_artifact_and_no_token_anywhere(
    fetching: Fetching,
    hub: FakeHub,
    model: Path,
    spoil: Callable[[FakeHub, Path], None],
    code: ExitCode,
    reason: Reason,
    told: str,
) -> None:
    spoil(hub, model)
    ended = fetching.run(token=CANARY)
    assert (ended.code, ended.refusal.reason) == (code, reason), ended.output
    assert told in ended.refusal.message
    assert CANARY in hub.tokens_seen
    assert CANARY not in ended.output + ended.last_word
    assert fetching.volume.find(KEY) is None
    assert {path.name for path in fetching.volume.folder("").iterdir()} <= {".kept", ".staging"}
    assert not any(name.endswith((".py", ".bin")) for name in hub.sent)


def test_a_hub_that_is_not_there_is_told_so(tmp_path: Path) -> None:
    (tmp_path / "volume").mkdir()
    source = HubSource(repo=REPO, revision="main", endpoint="http://127.0.0.1:9")
    arguments = [*fetch_arguments(source=source, key=KEY, owner="pod"), f"--volume={tmp_path / 'volume'}"]
    ended = run(FETCH_MODULE, [*arguments, "--metrics-port=0"], tmp_path / "try", environment={"HF_TOKEN": CANARY})
    assert (ended.code, ended.refusal.reason) == (ExitCode.NETWORK_FAILED, Reason.NETWORK_FAILED)
    assert CANARY not in ended.output
