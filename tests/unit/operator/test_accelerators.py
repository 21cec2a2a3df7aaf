"""The accelerator table and the administrator's configuration: overrides, additions, and what is refused at start."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from tandem_contracts.launch import DraftEngine, Role, Speculation
from tandem_operator.accelerators import (
    EVERY_METHOD,
    SHIPPED,
    AcceleratorClass,
    table_of,
    uses_claims,
)
from tandem_operator.config import AcceleratorOverride, Capacity, InvalidConfigError, OperatorConfig
from tandem_operator.inputs import RejectedSpecError, resolve
from tandem_operator.names import Reason
from tandem_operator.quantities import multiplied
from tandem_operator.role_inputs import RoleInputs
from tests.builders import make_config, make_deployment, make_inputs, make_role, make_spec


def base_of(table: Mapping[str, AcceleratorClass]) -> dict[str, AcceleratorClass]:
    """The table without the spot twins."""
    return {name: line for name, line in table.items() if line.capacity is not Capacity.SPOT}


def test_without_overrides_the_table_is_the_shipped_one() -> None:
    table = base_of(table_of(make_config()))
    assert [replace(line, spot_labels={}) for line in table.values()] == list(SHIPPED)


@pytest.mark.parametrize("accelerator", SHIPPED, ids=lambda accelerator: accelerator.name)
def test_every_shipped_class_is_usable(accelerator: AcceleratorClass) -> None:
    assert re.fullmatch("[a-z0-9]([-a-z0-9]*[a-z0-9])?", accelerator.name)
    assert len(accelerator.name + "-spot") <= 63
    assert multiplied(accelerator.quantity, 1) == accelerator.quantity
    assert multiplied(accelerator.host_memory, 1) == accelerator.host_memory
    assert set(accelerator.methods) <= set(Speculation)
    assert accelerator.is_cpu or "/" in accelerator.resource
    assert accelerator.methods == EVERY_METHOD or accelerator.methods_note
    # What is shipped is held to the rules for what is configured.
    written = {key: value for key, value in asdict(accelerator).items() if key not in {"name", "spot_labels"}}
    AcceleratorOverride.model_validate(written)


@pytest.mark.parametrize("accelerator", SHIPPED, ids=lambda accelerator: accelerator.name)
def test_a_class_is_as_fast_as_hardware_of_these_years_is(accelerator: AcceleratorClass) -> None:
    if accelerator.is_cpu or not accelerator.methods:
        return  # a share of a host, and cards whose compute is up to their design
    assert 4 < accelerator.memory_gib < 300
    assert 150 < accelerator.bandwidth_gb_per_second <= 8000
    # Operations a byte at which a device turns from memory bound to compute bound: a slip by a power of ten shows here.
    ridge = accelerator.teraflops * 1000 / accelerator.bandwidth_gb_per_second
    assert 75 < ridge < 600


def test_every_vendor_is_there() -> None:
    resources = {line.vendor: set() for line in SHIPPED}  # type: dict[str, set[str]]
    for line in SHIPPED:
        resources[line.vendor].add(line.resource)
    assert resources["NVIDIA"] >= {"nvidia.com/gpu", "nvidia.com/mig-1g.10gb", "nvidia.com/mig-3g.40gb"}
    assert resources["AMD"] >= {"amd.com/gpu", "amd.com/xilinx_u55c_gen3x16_xdma_base_3-0"}
    assert resources["Intel"] == {"habana.ai/gaudi", "gpu.intel.com/i915", "gpu.intel.com/xe"}
    assert resources["Google"] == {"google.com/tpu"}
    assert resources["AWS"] == {"aws.amazon.com/neuron"}


@pytest.mark.parametrize(
    "name", ["intel-gaudi3-128gb", "google-tpu-v6e-32gb", "aws-trainium2-96gb", "google-tpu-v6e-32gb-spot"]
)
def test_remote_drafts_are_refused_where_the_engine_replaces_vllms_runner(name: str) -> None:
    config = make_config(engineImages=dict.fromkeys(("cpu", "gaudi", "tpu", "neuron"), "engine:1"))
    spec = make_spec(verifier=make_role(classes=(name,)))
    with pytest.raises(
        RejectedSpecError, match=rf"\(is Remote\): a verifier on {name} can run .*NGram, Off: .*own runner"
    ) as caught:
        resolve(make_deployment(spec), Role.VERIFIER, config=config, table=table_of(config))
    assert caught.value.reason is Reason.METHOD_NOT_SUPPORTED
    spec["speculation"] = {"method": "NGram"}
    assert resolve(make_deployment(spec), Role.VERIFIER, config=config, table=table_of(config)).image == "engine:1"


def test_drafts_by_triton_have_an_image_of_their_own_beside_that_of_their_class() -> None:
    def drafting(accelerator: str) -> RoleInputs:
        draft = {**make_role(classes=(accelerator,)), "engine": {"type": "Triton"}}
        return make_inputs(make_spec(draft=draft), Role.DRAFT, engineImages={"cpu": "c:1", "cpu-triton": "t:1"})

    inputs = drafting("cpu")
    assert (inputs.image, inputs.draft_engine) == ("t:1", DraftEngine.TRITON)
    with pytest.raises(RejectedSpecError, match="engineImages has no 'gpu-triton', the image of class nvidia-l4-24gb"):
        drafting("nvidia-l4-24gb")


def test_an_fpga_card_drafts_with_an_image_of_its_own_and_verifies_nothing() -> None:
    card = make_role(classes=("amd-alveo-u55c-16gb",), image="mine:1")
    drafts = make_inputs(make_spec(draft=card), Role.DRAFT, engineImageAllowList=["mine:1"])
    assert drafts.accelerator.resource == "amd.com/xilinx_u55c_gen3x16_xdma_base_3-0"
    assert drafts.image == "mine:1"
    with pytest.raises(RejectedSpecError, match="engineImages has no 'fpga'"):
        make_inputs(make_spec(draft=make_role(classes=("amd-alveo-u55c-16gb",))), Role.DRAFT)
    for method in ("Off", "NGram"):
        spec = make_spec(verifier=card, draft=None, speculation={"method": method})
        with pytest.raises(RejectedSpecError, match="can run none: vLLM does not run there"):
            make_inputs(spec, engineImageAllowList=["mine:1"])


def test_slices_of_a_gpu_do_not_work_together() -> None:
    one = make_spec(verifier=make_role(classes=("nvidia-h100-80gb-mig-3g-40gb",), count=1))
    assert make_inputs(one).accelerator.resource == "nvidia.com/mig-3g.40gb"
    two = make_spec(verifier=make_role(classes=("nvidia-h100-80gb-mig-3g-40gb",), count=2))
    with pytest.raises(
        RejectedSpecError, match=r"spec\.verifier\.accelerator\.count \(is 2\): must be at most 1"
    ) as caught:
        make_inputs(two)
    assert caught.value.reason is Reason.TOO_MANY_ACCELERATORS


@pytest.mark.parametrize(
    ("limit", "reason"),
    [
        ({"methods": ["Off"]}, Reason.METHOD_NOT_SUPPORTED),
        ({"maxCount": 2}, Reason.TOO_MANY_ACCELERATORS),
    ],
    ids=str,
)
def test_every_class_that_a_role_may_land_on_must_be_able_to_do_it(limit: dict[str, Any], reason: Reason) -> None:
    for classes in (("nvidia-l4-24gb", "nvidia-h100-80gb"), ("nvidia-h100-80gb", "nvidia-l4-24gb")):
        spec = make_spec(verifier=make_role(classes=classes, count=4))
        assert make_inputs(spec).count == 4
        with pytest.raises(RejectedSpecError, match="nvidia-l4-24gb") as caught:
            make_inputs(spec, accelerators={"nvidia-l4-24gb": limit})
        assert caught.value.reason is reason


def test_a_mig_slice_has_its_share_of_the_gpu() -> None:
    table = table_of(make_config())
    whole, part = table["nvidia-h100-80gb"], table["nvidia-h100-80gb-mig-3g-40gb"]
    assert part.bandwidth_gb_per_second == whole.bandwidth_gb_per_second / 2
    assert part.teraflops == pytest.approx(whole.teraflops * 3 / 7, rel=1e-3)
    assert part.memory_gib < whole.memory_gib / 2
    assert part.node_labels == whole.node_labels


def test_every_class_that_is_rented_on_demand_has_a_spot_twin_and_no_other_one_has() -> None:
    table = table_of(make_config())
    twins = {name for name, line in table.items() if line.capacity is Capacity.SPOT}
    assert twins == {f"{line.name}-spot" for line in SHIPPED if line.capacity is Capacity.ON_DEMAND}
    assert {"nvidia-h100-80gb-spot", "amd-mi300x-192gb-spot", "google-tpu-v6e-32gb-spot"} <= twins
    assert table["nvidia-h100-80gb-spot"].price_per_hour == ""
    assert table["nvidia-h100-80gb-spot"].memory_gib == table["nvidia-h100-80gb"].memory_gib


def test_a_spot_twin_follows_its_class_and_can_be_changed_itself() -> None:
    settings = {
        "nvidia-l4-24gb": {"nodeLabels": {"cloud.google.com/gke-accelerator": "nvidia-l4"}},
        "nvidia-l4-24gb-spot": {"pricePerHour": "0.28"},
        "npu": {"resource": "example.com/npu", "capacity": "OnDemand"},
    }
    table = table_of(make_config(accelerators=settings))
    assert table["nvidia-l4-24gb-spot"].node_labels == {"cloud.google.com/gke-accelerator": ("nvidia-l4",)}
    assert table["nvidia-l4-24gb-spot"].price_per_hour == "0.28"
    assert table["nvidia-l4-24gb"].price_per_hour != "0.28"
    assert table["npu-spot"].resource == "example.com/npu"


def test_without_labels_of_spot_nodes_there_are_no_spot_classes() -> None:
    assert table_of(make_config(spotNodeLabels={})).keys() == {line.name for line in SHIPPED}
    wrong = {"npu": {"resource": "example.com/npu", "capacity": "Spot"}}
    with pytest.raises(InvalidConfigError, match=r"accelerators\.npu\.capacity \(is Spot\): must be OnDemand or Any"):
        table_of(make_config(spotNodeLabels={}, accelerators=wrong))


def test_a_new_price_or_figure_is_no_new_revision_but_a_label_is() -> None:
    spec = make_spec(verifier=make_role(classes=("nvidia-l4-24gb",)))

    def revision(**line: Any) -> str:
        return make_inputs(spec, accelerators={"nvidia-l4-24gb": line}).revision

    before = make_inputs(spec).revision
    figures = {"memoryGib": 1, "bandwidthGBPerSecond": 2, "teraflops": 3, "pricePerHour": "4", "vendor": "5"}
    assert revision(**figures, maxCount=2, methods=["Remote"], methodsNote="so") == before
    assert revision(deviceClass="other", deviceSelectors=["true"]) == before
    assert revision(nodeLabels={"a": "b"}) != before
    assert revision(capacity="Any") != before


def test_claims_are_used_only_where_a_class_says_so() -> None:
    assert not uses_claims(table_of(make_config()))
    table = table_of(make_config(accelerators={"nvidia-h100-80gb": {"allocation": "ResourceClaim"}}))
    assert uses_claims(table)
    assert table["nvidia-h100-80gb"].device_class == "gpu.nvidia.com"
    assert table["nvidia-h100-80gb-spot"].is_claimed


def test_classes_of_one_role_are_all_claimed_or_none() -> None:
    spec = make_spec(verifier=make_role(classes=("nvidia-h100-80gb", "nvidia-l4-24gb")))
    mixed = {"nvidia-h100-80gb": {"allocation": "ResourceClaim"}}
    with pytest.raises(RejectedSpecError, match=r"these are of ResourceClaim for nvidia\.com/gpu, nvidia\.com/gpu"):
        make_inputs(spec, accelerators=mixed)
    both = {**mixed, "nvidia-l4-24gb": {"allocation": "ResourceClaim"}}
    assert all(each.is_claimed for each in make_inputs(spec, accelerators=both).accelerators)


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ({"quantity": "500m"}, r"^accelerators\.npu\.quantity \(is 500m\): must be a whole number"),
        ({"allocation": "ResourceClaim"}, r"^accelerators\.npu\.deviceClass \(is omitted\): required with allocation"),
        (
            {"resource": "cpu", "allocation": "ResourceClaim", "deviceClass": "x"},
            r"^accelerators\.npu\.allocation \(is ResourceClaim\): must be DevicePlugin for cpu",
        ),
    ],
)
def test_keys_that_do_not_fit_together_are_refused_at_start(line: dict[str, Any], told: str) -> None:
    with pytest.raises(InvalidConfigError, match=told):
        table_of(make_config(accelerators={"npu": {"resource": "example.com/npu", **line}}))


@pytest.mark.parametrize(
    ("line", "at", "allowed"),
    [
        ({"capacity": "spot"}, "capacity", "'OnDemand', 'Spot' or 'Any'"),
        ({"allocation": "DRA"}, "allocation", "'DevicePlugin' or 'ResourceClaim'"),
        ({"memoryGib": -1}, "memoryGib", "greater than or equal to 0"),
        ({"teraflops": float("inf")}, "teraflops", "finite"),
        ({"bandwidthGBPerSecond": "fast"}, "bandwidthGBPerSecond", "number"),
        ({"pricePerHour": "$3"}, "pricePerHour", "a number such as 3.5"),
        ({"pricePerHour": 3.5}, "pricePerHour", "string"),
        ({"maxCount": 0}, "maxCount", "greater than or equal to 1"),
        ({"resource": "gpu"}, "resource", "cpu, or an extended resource"),
        ({"nodeLabels": {"a b": "c"}}, "nodeLabels", "the key of a label"),
        ({"nodeLabels": {"a": []}}, "nodeLabels.a", "at least 1 item"),
        ({"nodeLabels": {"a": "x y"}}, "nodeLabels.a.0", "the value of a label"),
        ({"toleratedTaints": ["a b"]}, "toleratedTaints.0", "the key of a label"),
        ({"deviceSelectors": [""]}, "deviceSelectors.0", "at least 1 character"),
        ({"methods": ["Sideways"]}, "methods.0", "'Remote'"),
        ({"memory": "1Gi"}, "memory", "not permitted"),
    ],
)
def test_a_wrong_value_is_refused_with_its_path_and_what_is_allowed(
    line: dict[str, Any], at: str, allowed: str
) -> None:
    with pytest.raises(ValidationError) as caught:
        make_config(accelerators={"nvidia-l4-24gb": line})
    detail = caught.value.errors()[0]
    assert ".".join(str(part) for part in detail["loc"]).startswith(f"accelerators.nvidia-l4-24gb.{at}")
    assert allowed in detail["msg"]


@pytest.mark.parametrize("name", ["H100", "h100_80gb", "-h100", "h" * 64])
def test_a_class_that_no_resource_could_name_is_refused(name: str) -> None:
    with pytest.raises(ValidationError, match=name):
        make_config(accelerators={name: {"resource": "example.com/npu"}})


def test_an_override_changes_one_field_and_keeps_the_others() -> None:
    plain = table_of(make_config())
    table = table_of(make_config(accelerators={"nvidia-l4-24gb": {"hostMemory": "8Gi"}}))
    assert table["nvidia-l4-24gb"] == replace(plain["nvidia-l4-24gb"], host_memory="8Gi")
    changed = {"nvidia-l4-24gb", "nvidia-l4-24gb-spot"}
    assert {name: line for name, line in table.items() if name not in changed} == {
        name: line for name, line in plain.items() if name not in changed
    }


def test_an_override_can_empty_a_field() -> None:
    table = table_of(make_config(accelerators={"nvidia-l4-24gb": {"nodeLabels": {}, "toleratedTaints": []}}))
    assert table["nvidia-l4-24gb"].node_labels == {}
    assert table["nvidia-l4-24gb"].tolerated_taints == ()


def test_an_administrator_adds_a_class_of_their_own() -> None:
    added = {
        "resource": "example.com/npu",
        "nodeLabels": {"example.com/npu": "yes"},
        "toleratedTaints": ["example.com/npu"],
        "engineImage": "npu",
        "environment": {"NPU": "1"},
        "methods": ["Off"],
    }
    made = table_of(make_config(accelerators={"npu": added}))["npu"]
    assert made.name == "npu"
    assert made.resource == "example.com/npu"
    assert made.quantity == "1"
    assert made.environment == {"NPU": "1"}
    assert made.methods == ("Off",)
    assert not made.is_cpu


def test_a_class_of_their_own_without_a_resource_is_refused_by_its_path() -> None:
    with pytest.raises(InvalidConfigError, match=r"^accelerators\.npu\.resource \(is omitted\): required"):
        table_of(make_config(accelerators={"npu": {"quantity": "1"}}))


@pytest.mark.parametrize("field", ["quantity", "hostMemory"])
@pytest.mark.parametrize("quantity", ["1.5Gi", "sixteen", ""])
def test_a_quantity_that_cannot_be_multiplied_is_refused_at_start(field: str, quantity: str) -> None:
    with pytest.raises((InvalidConfigError, ValidationError), match=r"cpu"):
        table_of(make_config(accelerators={"cpu": {field: quantity}}))


def test_a_method_that_does_not_exist_is_refused_at_start() -> None:
    with pytest.raises((InvalidConfigError, ValidationError), match="Sideways"):
        table_of(make_config(accelerators={"cpu": {"methods": ["Sideways"]}}))


@pytest.mark.parametrize(
    ("settings", "path"),
    [
        ({"engineImage": {}}, "engineImage"),
        ({"accelerators": {"cpu": {"memory": "1Gi"}}}, "accelerators.cpu.memory"),
        ({"resyncSeconds": 0}, "resyncSeconds"),
        ({"requestTimeoutSeconds": 0}, "requestTimeoutSeconds"),
        ({"leaseSeconds": 4}, "leaseSeconds"),
        ({"leaseSeconds": 301}, "leaseSeconds"),
        ({"engineImageAllowList": "not a list"}, "engineImageAllowList"),
    ],
)
def test_a_wrong_setting_is_refused_by_its_path(settings: dict[str, Any], path: str) -> None:
    with pytest.raises(ValidationError) as caught:
        make_config(**settings)
    assert ".".join(str(at) for at in caught.value.errors()[0]["loc"]) == path


def test_an_expression_that_does_not_compile_is_refused_at_start() -> None:
    with pytest.raises(ValidationError, match="engineImageAllowList"):
        make_config(engineImageAllowList=["registry/("])


@pytest.mark.parametrize(("lease", "request_timeout", "limit"), [(5, 8, "3.33333"), (15, 10, "10"), (300, 200, "200")])
def test_a_request_may_not_take_longer_than_the_lease_is_kept(lease: int, request_timeout: float, limit: str) -> None:
    message = rf"requestTimeoutSeconds \(is {request_timeout}\): must be below two thirds of leaseSeconds, {limit},"
    with pytest.raises(ValidationError, match=message):
        make_config(leaseSeconds=lease, requestTimeoutSeconds=request_timeout)
    make_config(leaseSeconds=lease, requestTimeoutSeconds=float(limit) - 0.1)


def test_an_image_must_match_an_allowed_expression_whole() -> None:
    config = make_config(engineImageAllowList=[r"example\.org/engines/[a-z]+:[0-9.]+", "exact:1"])
    assert config.allows_engine_image("example.org/engines/vllm:1.2")
    assert config.allows_engine_image("exact:1")
    for refused in (
        "example.org/engines/vllm:1.2-evil",
        "evil.org/example.org/engines/vllm:1",
        "exact:11",
        "exact:1\n",
    ):
        assert not config.allows_engine_image(refused), refused


def test_by_default_no_image_may_be_named() -> None:
    assert not make_config().allows_engine_image("tandem.local/engine-cpu:0.1.0")


def test_the_configuration_is_read_from_its_file(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("engineImages: {cpu: 'mine:1'}\nleaseSeconds: 30\n", encoding="utf-8")
    config = OperatorConfig.load(path)
    assert config.engine_images == {"cpu": "mine:1"}
    assert config.lease_seconds == 30


def test_without_a_file_and_with_an_empty_one_the_defaults_hold(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("# nothing\n", encoding="utf-8")
    assert OperatorConfig.load(None) == OperatorConfig() == OperatorConfig.load(path)
