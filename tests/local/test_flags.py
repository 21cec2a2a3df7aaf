"""What the programs are told: the flags whose absence was costly, and files that hold no surprise."""

import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from deploy.local import controlplane, kwok, node
from deploy.local.addresses import PORT_NAMES
from deploy.local.binaries import FURTHER_MODULES, MODULE_LIST, binaries_of
from deploy.local.errors import ClusterError
from deploy.local.layout import MODULES, STAGES, Layout, layout_of
from deploy.local.record import Record

LAYOUT = Layout(Path("/s"), Path("/c"))
PORTS = {name: 20000 + number for number, name in enumerate(PORT_NAMES)}
REAL = Record("m", 88, PORTS, has_real_node=True)
FAKE = Record("m", 88, PORTS, has_real_node=False)


def test_without_a_real_node_the_api_server_listens_on_the_loopback_only() -> None:
    argv = controlplane.apiserver_argv(LAYOUT, FAKE, program="p")
    assert {"--bind-address=127.0.0.1", "--advertise-address=127.0.0.1", "--endpoint-reconciler-type=none"} < set(argv)
    assert FAKE.server == f"https://127.0.0.1:{PORTS['apiserver']}"


def test_with_a_real_node_pods_reach_the_api_server_at_the_nodes_address() -> None:
    argv = controlplane.apiserver_argv(LAYOUT, REAL, program="p")
    assert f"--advertise-address={REAL.network.node}" in argv
    assert REAL.server == f"https://{REAL.network.node}:{PORTS['apiserver']}"


def test_admission_plugins_are_the_default_ones() -> None:
    assert not any("admission" in flag for flag in controlplane.apiserver_argv(LAYOUT, REAL, program="p"))


def test_the_controller_manager_may_ask_often() -> None:
    assert "--kube-api-qps=200" in controlplane.controller_manager_argv(LAYOUT, REAL, program="p")


def test_no_program_writes_outside_the_state_folder() -> None:
    argv = [
        *controlplane.etcd_argv(LAYOUT, REAL, program="p"),
        *controlplane.apiserver_argv(LAYOUT, REAL, program="p"),
        *controlplane.controller_manager_argv(LAYOUT, REAL, program="p"),
        *controlplane.scheduler_argv(LAYOUT, REAL, program="p"),
        *node.kubelet_argv(LAYOUT, REAL, program="p"),
        *node.kube_proxy_argv(LAYOUT, REAL, program="p"),
        *kwok.kwok_argv(LAYOUT, REAL, program="p"),
    ]
    paths = [flag.split("=", 1)[1] for flag in argv if re.search(r"=/", flag)]
    assert len(paths) > 20
    assert [path for path in paths if not path.startswith("/s/")] == []


def test_the_kubelet_reserves_nothing_and_never_collects_images() -> None:
    configuration = node.kubelet_configuration(LAYOUT, REAL)
    assert not {"kubeReserved", "systemReserved", "reservedSystemCPUs"} & set(configuration)
    assert configuration["imageGCHighThresholdPercent"] == 100
    assert configuration["clusterDNS"] == [REAL.network.node]


def test_containerd_can_run_without_the_right_to_lower_oom_scores() -> None:
    assert "restrict_oom_score_adj = true" in node.containerd_toml(LAYOUT, pause="x")


def test_each_audit_event_of_a_write_is_kept() -> None:
    rules = controlplane.AUDIT_POLICY["rules"]
    writing = {"level": "Metadata", "verbs": ["create", "update", "patch", "delete", "deletecollection"]}
    assert writing in rules
    assert rules.index(writing) == 1, "only the heartbeats' rule may come first"


def test_every_module_pins_a_version_and_names_its_programs() -> None:
    modules = [*MODULE_LIST, *FURTHER_MODULES]
    names = [name for module in modules for name in module.programs]
    assert len(names) == len(set(names)) == 24
    assert all(re.fullmatch(r"v\d+\.\d+\.\d+", module.version) for module in modules)


def test_modules_that_share_a_library_share_its_version_so_that_it_is_compiled_once() -> None:
    versions: dict[str, set[str]] = {}
    libraries = r"^\s+(k8s\.io/\S+|golang\.org/x/(?:net|sys|text)|google\.golang\.org/protobuf) (v\S+)"
    for module in (*MODULE_LIST, *FURTHER_MODULES):
        # They share next to nothing, and want the versions that they were tested with.
        if module.folder not in {"etcd", "keda", "krew", "kube-score", "kubectl-validate"}:
            text = (MODULES / module.folder / "go.mod").read_text()
            for library, version in re.findall(libraries, text, re.MULTILINE):
                versions.setdefault(library, set()).add(version)
    differing = {library: found for library, found in versions.items() if len(found - {"v0.0.0"}) > 1}
    assert differing == {}
    assert len(versions) > 20


def test_kubernetes_knows_its_own_version() -> None:
    (kubernetes,) = [module for module in MODULE_LIST if module.folder == "kubernetes"]
    assert f"-X k8s.io/component-base/version.gitVersion={kubernetes.version}" in kubernetes.linker_flags


def test_each_module_has_a_folder_of_its_own() -> None:
    folders = {binaries_of(LAYOUT).paths[name].parent for name in ("etcd", "kwok", "kubectl", "helm3", "helm4")}
    assert len(folders) == 5


def test_other_content_means_another_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (module,) = [module for module in MODULE_LIST if module.folder == "kwok"]
    contents = [module.content]
    shutil.copytree(MODULES / "kwok", tmp_path / "kwok")
    monkeypatch.setattr("deploy.local.binaries.MODULES", tmp_path)
    assert module.content == contents[0], "the place of the files is no content"
    for name in ("go.mod", "go.sum"):
        with (tmp_path / "kwok" / name).open("a") as file:
            file.write("// another\n")
        contents.append(module.content)
    contents.append(replace(module, programs={"kwok": "another/package"}).content)
    contents.append(replace(module, version_variables=()).content)
    contents.append(replace(module, tags=("another",)).content)
    monkeypatch.setattr("deploy.local.binaries.NO_DEBUGGER", "-another")
    contents.append(module.content)
    assert len(set(contents)) == len(contents)


@pytest.mark.parametrize(
    ("environment", "state", "cache"),
    [
        ({"TANDEM_STATE": "/a", "TANDEM_CACHE": "/b"}, "/a", "/b"),
        ({"HOME": "/h"}, "/h/.local/state/tandem/cluster", "/h/.cache/tandem"),
        ({"HOME": "/h", "XDG_STATE_HOME": "/x", "XDG_CACHE_HOME": "/y"}, "/x/tandem/cluster", "/y/tandem"),
    ],
)
def test_state_and_cache_lie_where_the_environment_says(environment: dict[str, str], state: str, cache: str) -> None:
    assert layout_of(environment) == Layout(Path(state), Path(cache))


def test_a_device_name_is_not_too_long_for_linux() -> None:
    assert len(LAYOUT.device) <= 15


def test_the_stages_are_valid_and_each_has_a_name_of_its_own() -> None:
    stages = [document for path in STAGES.glob("*.yaml") for document in yaml.safe_load_all(path.read_text())]
    names = [stage["metadata"]["name"] for stage in stages]
    assert len(set(names)) == len(names) == 7
    assert {stage["kind"] for stage in stages} == {"Stage"}


@pytest.mark.parametrize(
    ("name", "full"), [("nvidia-h100", "nvidia-h100-80gb"), ("cpu", "cpu"), ("nvidia-l", "nvidia-l40s-48gb")]
)
def test_a_class_may_be_named_by_its_beginning(name: str, full: str) -> None:
    assert kwok.class_named(name) == full


@pytest.mark.parametrize("name", ["nvidia", "tpu", ""])
def test_an_unknown_or_ambiguous_class_is_refused_with_the_choices(name: str) -> None:
    with pytest.raises(ClusterError, match="nvidia-h100-80gb, nvidia-a100-80gb"):
        kwok.class_named(name)


def test_fake_gpu_nodes_keep_pods_off_that_do_not_ask_for_gpus() -> None:
    found = kwok.fake_node("nvidia-h100-80gb", 4, address="127.0.0.1")
    assert found["spec"]["taints"] == [{"key": "nvidia.com/gpu", "value": "present", "effect": "NoSchedule"}]
    assert found["metadata"]["labels"]["nvidia.com/gpu.product"] == "NVIDIA-H100-80GB-HBM3"
    assert found["status"]["allocatable"]["nvidia.com/gpu"] == "8"
    assert found["metadata"]["labels"]["topology.kubernetes.io/zone"] == "tandem-a"


def test_new_nodes_are_numbered_after_the_highest_one() -> None:
    existing = ["cpu-1", "cpu-7", "nvidia-h100-80gb-9", "cpu-x"]
    assert kwok.numbers_after("cpu", existing, count=2) == [8, 9]
    assert kwok.numbers_after("nvidia-l40s-48gb", existing, count=1) == [1]
