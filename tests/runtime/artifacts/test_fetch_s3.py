"""Models from S3: what is fetched is what was listed, never a mixture, nothing dangerous is, and no key is told."""

from __future__ import annotations

import base64
import json
import shutil
import threading
import zlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from deploy.fixtures.pair import ModelPair
from deploy.fixtures.s3 import FakeS3, Stored, stored_below, with_sha256
from tandem_contracts.artifact_job import (
    ACCESS_KEY_VARIABLE,
    FETCH_MODULE,
    SECRET_KEY_VARIABLE,
    SESSION_TOKEN_VARIABLE,
    Made,
    S3Source,
    fetch_arguments,
)
from tandem_contracts.termination import ExitCode, Reason
from tandem_runtime.artifacts.volume import Volume
from tests.runtime.artifacts.programs import Ended, Program

pytestmark = pytest.mark.timeout(600)

BUCKET, PREFIX, KEY = "models", "somebody/small", "v1-fetched"
WEIGHTS, CONFIG = f"{PREFIX}/model.safetensors", f"{PREFIX}/config.json"
ACCESS_KEY, SECRET_KEY, TOKEN = "AKIACANARY", "canarySecretThatNobodyMayEverSee", "canaryTokenThatNobodyMayEverSee"
CREDENTIALS = {ACCESS_KEY_VARIABLE: ACCESS_KEY, SECRET_KEY_VARIABLE: SECRET_KEY, SESSION_TOKEN_VARIABLE: TOKEN}


@pytest.fixture
def model(tmp_path: Path, models: ModelPair) -> Path:
    """A copy of the draft."""
    folder = tmp_path / "model"
    shutil.copytree(models.draft, folder)
    return folder


@pytest.fixture
def store(model: Path) -> Iterator[FakeS3]:
    """The model, beside what is not wanted."""
    objects = stored_below(f"{PREFIX}/", model)
    others = ("", "README.md", "onnx/model.json", "onnx/model.safetensors", "../other.json")
    objects |= {f"{PREFIX}/{name}": Stored(b"not wanted") for name in others}
    objects[f"{PREFIX}-more/config.json"] = Stored(b"not wanted")
    with FakeS3({BUCKET: objects}) as found:
        yield found


class Fetching:
    """`fetch` with a volume, as a pod of a Job runs it."""

    def __init__(self, folder: Path, store: FakeS3) -> None:
        self._folder, self._store = folder, store
        (folder / "volume").mkdir()
        self.volume = Volume(folder / "volume")
        self._tries = 0

    def start(
        self,
        *,
        bucket: str = BUCKET,
        prefix: str = PREFIX,
        endpoint: str = "",
        environment: dict[str, str] | None = None,
    ) -> Program:
        self._tries += 1
        source = S3Source(bucket=bucket, prefix=prefix, endpoint=endpoint or self._store.endpoint)
        arguments = fetch_arguments(source=source, key=KEY, owner=f"pod{self._tries}")
        arguments += [f"--volume={self._folder / 'volume'}", "--metrics-port=0"]
        folder = self._folder / f"try{self._tries}"
        return Program(FETCH_MODULE, arguments, folder, environment=environment or {})

    def run(
        self,
        *,
        bucket: str = BUCKET,
        prefix: str = PREFIX,
        endpoint: str = "",
        environment: dict[str, str] | None = None,
    ) -> Ended:
        return self.start(bucket=bucket, prefix=prefix, endpoint=endpoint, environment=environment).ended()

    def published(self) -> dict[str, bytes]:
        """The files of the artifact."""
        manifest = self.volume.find(KEY)
        assert manifest is not None
        return {file.path: (self.volume.folder(KEY) / file.path).read_bytes() for file in manifest.files}


@pytest.fixture
def fetching(tmp_path: Path, store: FakeS3) -> Fetching:
    return Fetching(tmp_path, store)


def wanted(store: FakeS3) -> dict[str, bytes]:
    """What the model's files are now."""
    below = {key.removeprefix(f"{PREFIX}/"): stored.content for key, stored in store.buckets[BUCKET].items()}
    endings = (".json", ".jinja", ".safetensors")
    return {name: content for name, content in below.items() if "/" not in name and name.endswith(endings)}


def test_what_is_directly_below_the_prefix_is_published_whole(fetching: Fetching, store: FakeS3) -> None:
    store.access_key = ACCESS_KEY
    ended = fetching.run(environment=CREDENTIALS)
    assert ended.code == ExitCode.OK, ended.output
    made = Made.decode(ended.last_word)
    assert made.model.architecture == "LlamaForCausalLM"
    assert len(made.revision) == 64
    assert fetching.published() == wanted(store)
    assert len(store.sent) == len(wanted(store)) > store.page_size
    assert store.tokens == {TOKEN}
    for canary in (SECRET_KEY, TOKEN):
        assert canary not in ended.output + ended.last_word
    manifest = fetching.volume.find(KEY)
    assert manifest is not None
    assert (manifest.provenance["bucket"], manifest.provenance["prefix"]) == (BUCKET, f"{PREFIX}/")
    sent = len(store.sent)
    again = fetching.run(environment=CREDENTIALS)
    assert Made.decode(again.last_word).seconds == 0
    assert len(store.sent) == sent


def test_without_credentials_nobody_else_is_asked_for_some_and_no_file_of_a_user_is_read(
    fetching: Fetching, store: FakeS3, tmp_path: Path
) -> None:
    told = "[default]\naws_access_key_id = AKIAUSER\naws_secret_access_key = user\nendpoint_url = http://127.0.0.1:9\n"
    for name in ("credentials", "config"):
        (tmp_path / "try1" / ".aws").mkdir(parents=True, exist_ok=True)
        (tmp_path / "try1" / ".aws" / name).write_text(told)  # its HOME
    ended = fetching.run(
        environment={
            "AWS_EC2_METADATA_SERVICE_ENDPOINT": store.endpoint,
            "AWS_CONTAINER_CREDENTIALS_FULL_URI": f"{store.endpoint}/credentials",
            "AWS_DEFAULTS_MODE": "auto",
            "AWS_PROFILE": "nobody",
        }
    )
    assert ended.code == ExitCode.OK, ended.output
    assert store.authorizations == {""}
    assert {path.split("/")[1] for path in store.paths} == {BUCKET}


def test_another_try_goes_on_after_the_last_whole_file(fetching: Fetching, store: FakeS3) -> None:
    reached, go_on = threading.Event(), threading.Event()

    def hold(key: str, content: bytes) -> bytes:
        if key == WEIGHTS and not go_on.is_set():
            reached.set()
            go_on.wait(60)
        return content

    store.spoil = hold
    fetching.start().kill_once(reached.is_set, "the weights are being fetched")
    go_on.set()
    assert fetching.volume.find(KEY) is None
    assert len(store.sent) == len(wanted(store))
    store.sent.clear()
    ended = fetching.run()
    assert ended.code == ExitCode.OK, ended.output
    assert store.sent == [WEIGHTS]


@pytest.mark.parametrize("has_conditions", [True, False])
@pytest.mark.parametrize("moment", ["HEAD", "GET"])
def test_a_model_that_is_replaced_meanwhile_is_never_mixed(
    fetching: Fetching, store: FakeS3, moment: str, has_conditions: bool
) -> None:
    objects, before = store.buckets[BUCKET], wanted(store)
    store.has_conditions = has_conditions

    def replaced(method: str, key: str) -> None:  # the weights of the old model are asked for, or told
        if method == moment and key == WEIGHTS:
            store.asked = lambda _method, _key: None
            for name in set(before) - {"model.safetensors"}:  # the same, with other bytes
                key = f"{PREFIX}/{name}"
                objects[key] = replace(objects[key], content=objects[key].content + b"\n")
            weights = bytearray(objects[WEIGHTS].content)
            weights[-1] ^= 1
            objects[WEIGHTS] = replace(objects[WEIGHTS], content=bytes(weights))

    store.asked = replaced
    ended = fetching.run()
    assert (ended.code, ended.refusal.reason) == (ExitCode.CHECKSUM_MISMATCH, Reason.CHECKSUM_MISMATCH), ended.output
    assert "changed after it was listed" in ended.refusal.message
    assert fetching.volume.find(KEY) is None
    store.sent.clear()
    ended = fetching.run()
    assert ended.code == ExitCode.OK, ended.output
    assert fetching.published() == wanted(store)
    assert not set(wanted(store).values()) & set(before.values())
    assert len(store.sent) == len(before)


def test_a_content_that_breaks_off_once_is_asked_for_again(fetching: Fetching, store: FakeS3) -> None:
    store.cuts = 1
    ended = fetching.run()
    assert ended.code == ExitCode.OK, ended.output
    assert len(store.sent) == len(wanted(store)) + 1
    assert fetching.published() == wanted(store)


def with_kms(store: FakeS3) -> None:
    encrypted = {"x-amz-server-side-encryption": "aws:kms"}
    store.buckets[BUCKET][WEIGHTS] = replace(store.buckets[BUCKET][WEIGHTS], tag="0" * 32, headers=encrypted)


def in_parts(store: FakeS3) -> None:
    weights = store.buckets[BUCKET][WEIGHTS]
    told = {"x-amz-checksum-sha256": f"{'A' * 43}=-2", "x-amz-checksum-type": "COMPOSITE"}
    store.buckets[BUCKET][WEIGHTS] = replace(weights, tag=f"{'0' * 32}-2", checksums=told)


def whole_sha256(store: FakeS3) -> None:
    store.buckets[BUCKET][WEIGHTS] = with_sha256(store.buckets[BUCKET][WEIGHTS].content)


@pytest.mark.parametrize("told", [with_kms, in_parts, whole_sha256], ids=lambda each: each.__name__)
def test_what_is_no_digest_of_the_content_is_not_taken_for_one(
    fetching: Fetching, store: FakeS3, told: Callable[[FakeS3], None]
) -> None:
    told(store)
    ended = fetching.run()
    assert ended.code == ExitCode.OK, ended.output
    assert fetching.published() == wanted(store)


def denied(store: FakeS3) -> None:
    store.refusal = (403, "AccessDenied")


def other_secret(store: FakeS3) -> None:
    store.refusal = (403, "SignatureDoesNotMatch")


def expired(store: FakeS3) -> None:
    store.refusal = (400, "ExpiredToken")


def talkative(store: FakeS3) -> None:
    store.refusal = (403, f"{ACCESS_KEY}/{TOKEN}")


def other_key(store: FakeS3) -> None:
    store.access_key = "AKIAOTHER"


def without_bucket(store: FakeS3) -> None:
    store.buckets.clear()


def empty(store: FakeS3) -> None:
    store.buckets[BUCKET] = {"elsewhere/config.json": Stored(b"{}")}


def failing(store: FakeS3) -> None:
    store.refusal = (503, "SlowDown")


def cut_off(store: FakeS3) -> None:
    store.cuts = 1000


def deleted(store: FakeS3) -> None:
    def delete(method: str, key: str) -> None:
        if (method, key) == ("GET", WEIGHTS):
            store.buckets[BUCKET].pop(key, None)

    store.asked = delete


def changed(store: FakeS3) -> None:
    store.spoil = lambda key, content: content[:-1] + b"x" if key == WEIGHTS else content


def changed_small(store: FakeS3) -> None:
    store.spoil = lambda key, content: content[:-1] + b" " if key == CONFIG else content


def other_sha256(store: FakeS3) -> None:
    content = store.buckets[BUCKET][WEIGHTS].content
    store.buckets[BUCKET][WEIGHTS] = with_sha256(content, of=content[:-1] + b"x")


def other_crc32(store: FakeS3) -> None:
    weights = store.buckets[BUCKET][WEIGHTS]
    told = base64.b64encode((zlib.crc32(weights.content) ^ 1).to_bytes(4, "big")).decode()
    store.buckets[BUCKET][WEIGHTS] = replace(weights, tag="0-2", checksums={"x-amz-checksum-crc32": told})


def other_crc64(store: FakeS3) -> None:
    weights = store.buckets[BUCKET][WEIGHTS]
    told = {"x-amz-checksum-crc64nvme": base64.b64encode(bytes(8)).decode(), "x-amz-checksum-type": "FULL_OBJECT"}
    store.buckets[BUCKET][WEIGHTS] = replace(weights, tag="0-2", checksums=told)


def shortened(store: FakeS3) -> None:
    weights = store.buckets[BUCKET][WEIGHTS]
    store.buckets[BUCKET][WEIGHTS] = replace(weights, tag="0-2")
    store.spoil = lambda key, content: content[:-100] if key == WEIGHTS else content


def pickled(store: FakeS3) -> None:
    store.buckets[BUCKET][f"{PREFIX}/pytorch_model.bin"] = store.buckets[BUCKET].pop(WEIGHTS)


def of_code(store: FakeS3) -> None:
    config = json.loads(store.buckets[BUCKET][CONFIG].content)
    content = json.dumps({**config, "auto_map": {"AutoModel": "modeling.Mine"}}).encode()
    store.buckets[BUCKET][CONFIG] = Stored(content)
    store.buckets[BUCKET][f"{PREFIX}/modeling.py"] = Stored(b"raise SystemExit")


def without_weights(store: FakeS3) -> None:
    del store.buckets[BUCKET][WEIGHTS]


DENIED, NOT_FOUND = (ExitCode.SOURCE_DENIED, Reason.SOURCE_DENIED), (ExitCode.SOURCE_NOT_FOUND, Reason.SOURCE_NOT_FOUND)
NETWORK, MISMATCH = (
    (ExitCode.NETWORK_FAILED, Reason.NETWORK_FAILED),
    (ExitCode.CHECKSUM_MISMATCH, Reason.CHECKSUM_MISMATCH),
)


@pytest.mark.parametrize(
    ("spoil", "end", "told"),
    [
        (denied, DENIED, "access is denied"),
        (other_secret, DENIED, "the secret key is not that of the access key"),
        (expired, DENIED, "the session token has expired"),
        (talkative, DENIED, "the store answers 403"),
        (other_key, DENIED, "does not know the access key"),
        (without_bucket, NOT_FOUND, "there is no such bucket"),
        (empty, NOT_FOUND, "s3://models/somebody/small/: there is no file"),
        (deleted, NOT_FOUND, "model.safetensors: what was listed is not there any more"),
        (failing, NETWORK, "the store answers 503"),
        (cut_off, NETWORK, "breaks off"),
        (changed, MISMATCH, "model.safetensors"),
        (changed_small, MISMATCH, "config.json"),
        (other_sha256, MISMATCH, "model.safetensors"),
        (other_crc32, MISMATCH, "model.safetensors"),
        (other_crc64, MISMATCH, "model.safetensors"),
        (shortened, MISMATCH, "model.safetensors"),
        (pickled, (ExitCode.SOURCE_UNSAFE, Reason.PICKLES_ONLY), "pytorch_model.bin"),
        (of_code, (ExitCode.SOURCE_UNSAFE, Reason.SOURCE_UNSAFE), "auto_map"),
        (without_weights, (ExitCode.SOURCE_INVALID, Reason.NO_WEIGHTS), "no weights"),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
def test_what_cannot_be_fetched_is_told_with_its_reason_and_leaves_no_artifact_and_no_credential_anywhere(
    fetching: Fetching, store: FakeS3, spoil: Callable[[FakeS3], None], end: tuple[ExitCode, Reason], told: str
) -> None:
    spoil(store)
    ended = fetching.run(environment=CREDENTIALS)
    assert (ended.code, ended.refusal.reason) == end, ended.output
    assert told in ended.refusal.message
    assert store.tokens == {TOKEN}
    for canary in (ACCESS_KEY, SECRET_KEY, TOKEN):
        assert canary not in ended.output + ended.last_word
    assert fetching.volume.find(KEY) is None
    assert not any(key.endswith((".py", ".bin")) for key in store.sent)


@pytest.mark.parametrize(
    ("changes", "end", "told"),
    [
        ({"endpoint": "http://127.0.0.1:9"}, NETWORK, "cannot be reached"),
        ({"endpoint": "nowhere"}, NOT_FOUND, "no URL"),
        ({"bucket": "No bucket!"}, NOT_FOUND, "no name of a bucket"),
    ],
)
def test_a_store_or_a_bucket_that_cannot_be_is_told_so(
    fetching: Fetching, changes: dict[str, str], end: tuple[ExitCode, Reason], told: str
) -> None:
    ended = fetching.run(environment=CREDENTIALS, **changes)  # type: ignore[arg-type]
    assert (ended.code, ended.refusal.reason) == end, ended.output
    assert told in ended.refusal.message
    assert SECRET_KEY not in ended.output


@pytest.mark.parametrize("missing", [ACCESS_KEY_VARIABLE, SECRET_KEY_VARIABLE])
def test_half_a_pair_of_keys_asks_for_the_other_half(fetching: Fetching, store: FakeS3, missing: str) -> None:
    ended = fetching.run(environment={name: value for name, value in CREDENTIALS.items() if name != missing})
    assert (ended.code, ended.refusal.reason) == DENIED, ended.output
    assert missing in ended.refusal.message
    assert not store.paths
