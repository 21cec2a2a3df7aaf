"""The accelerator table and the administrator's configuration: overrides, additions, and what is refused at start."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from tandem_contracts.launch import Speculation
from tandem_operator.accelerators import SHIPPED, InvalidAcceleratorError, table_of
from tandem_operator.config import OperatorConfig
from tandem_operator.quantities import multiplied
from tests.builders import make_config


def test_without_overrides_the_table_is_the_shipped_one() -> None:
    assert tuple(table_of(make_config()).values()) == SHIPPED


@pytest.mark.parametrize("accelerator", SHIPPED, ids=lambda accelerator: accelerator.name)
def test_every_shipped_class_is_usable(accelerator: Any) -> None:
    assert multiplied(accelerator.quantity, 1) == accelerator.quantity
    assert multiplied(accelerator.host_memory, 1) == accelerator.host_memory
    assert set(accelerator.methods) <= {method.value for method in Speculation}
    assert accelerator.is_cpu or "/" in accelerator.resource


def test_an_override_changes_one_field_and_keeps_the_others() -> None:
    table = table_of(make_config(accelerators={"nvidia-l4-24gb": {"hostMemory": "8Gi"}}))
    shipped = next(accelerator for accelerator in SHIPPED if accelerator.name == "nvidia-l4-24gb")
    changed = table["nvidia-l4-24gb"]
    assert changed.host_memory == "8Gi"
    assert (changed.resource, changed.node_labels, changed.tolerated_taints, changed.methods) == (
        shipped.resource,
        shipped.node_labels,
        shipped.tolerated_taints,
        shipped.methods,
    )
    others = {name: line for name, line in table.items() if name != "nvidia-l4-24gb"}
    assert others == {line.name: line for line in SHIPPED if line.name != "nvidia-l4-24gb"}


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
    with pytest.raises(InvalidAcceleratorError, match=r"^accelerators\.npu\.resource: required"):
        table_of(make_config(accelerators={"npu": {"quantity": "1"}}))


@pytest.mark.parametrize("field", ["quantity", "hostMemory"])
@pytest.mark.parametrize("quantity", ["1.5Gi", "sixteen", ""])
def test_a_quantity_that_cannot_be_multiplied_is_refused_at_start(field: str, quantity: str) -> None:
    with pytest.raises((InvalidAcceleratorError, ValidationError), match=r"cpu"):
        table_of(make_config(accelerators={"cpu": {field: quantity}}))


def test_a_method_that_does_not_exist_is_refused_at_start() -> None:
    with pytest.raises((InvalidAcceleratorError, ValidationError), match="Sideways"):
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
