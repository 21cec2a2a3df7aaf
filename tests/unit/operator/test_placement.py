"""Where pods may run: one node affinity over the classes of a role, spot and on demand, and tolerated taints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from tandem_operator.accelerators import table_of
from tandem_operator.facts import Manifest
from tandem_operator.objects.placement import placement_of
from tests.builders import make_config
from tests.unit.operator.golden import golden_difference

REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
PREFERRED = "preferredDuringSchedulingIgnoredDuringExecution"
PRODUCT = "nvidia.com/gpu.product"
H100 = {PRODUCT: "NVIDIA-H100-80GB-HBM3"}
L40S = {PRODUCT: "NVIDIA-L40S"}
SPOT_MARKS = (
    {"karpenter.sh/capacity-type": "spot"},
    {"cloud.google.com/gke-spot": "true"},
    {"eks.amazonaws.com/capacityType": "SPOT"},
    {"kubernetes.azure.com/scalesetpriority": "spot"},
)
BY_KARPENTER_ON_AZURE = {"karpenter.sh/capacity-type": "spot", "kubernetes.azure.com/scalesetpriority": "spot"}


def placement(*classes: str, **settings: Any) -> Manifest:
    table = table_of(make_config(**settings))
    return placement_of([table[name] for name in classes])


def matches(term: Manifest, labels: Mapping[str, str]) -> bool:
    """As the scheduler does: a label that is not there is not in, and is NotIn."""

    def holds(expression: Manifest) -> bool:
        is_in = labels.get(expression["key"]) in expression["values"]
        return is_in if expression["operator"] == "In" else not is_in

    return all(map(holds, term["matchExpressions"]))


def score(placed: Manifest, labels: Mapping[str, str]) -> int | None:
    """Sum of the weights of a node with these labels; None when the pod may not go there."""
    affinity = placed.get("affinity", {}).get("nodeAffinity", {})
    required = affinity.get(REQUIRED, {}).get("nodeSelectorTerms")
    if required is not None and not any(matches(term, labels) for term in required):
        return None
    weights: list[int] = [each["weight"] for each in affinity.get(PREFERRED, ()) if matches(each["preference"], labels)]
    return sum(weights)


GOLDEN: Mapping[str, Sequence[str]] = {
    "one": ("nvidia-h100-80gb",),
    "several": ("nvidia-h200-141gb", "nvidia-h100-80gb", "nvidia-a100-80gb"),
    "spot-first": ("nvidia-h100-80gb-spot", "nvidia-h100-80gb"),
    "tpu": ("google-tpu-v6e-32gb",),
    "amd": ("amd-mi300x-192gb", "amd-mi325x-256gb"),
}


@pytest.mark.parametrize("name", GOLDEN)
def test_a_placement_is_as_reviewed(name: str) -> None:
    difference = golden_difference(f"placement-{name}", [placement(*GOLDEN[name])])
    assert not difference, f"{difference}\nIf this is meant: TANDEM_UPDATE_GOLDEN=1, and review the diff"


def test_a_class_that_may_run_anywhere_has_no_placement() -> None:
    assert placement("cpu") == {}


def test_one_class_goes_to_its_own_nodes_and_prefers_none_of_them() -> None:
    placed = placement("nvidia-h100-80gb")
    assert score(placed, H100) == 0
    assert score(placed, L40S) is None
    assert score(placed, {}) is None
    assert PREFERRED not in placed["affinity"]["nodeAffinity"]


def test_earlier_classes_are_preferred_and_no_other_node_is_allowed() -> None:
    placed = placement("nvidia-h100-80gb", "nvidia-l40s-48gb")
    assert (score(placed, H100), score(placed, L40S), score(placed, {PRODUCT: "NVIDIA-L4"})) == (100, 0, None)


def test_as_many_classes_as_a_spec_may_name_still_have_valid_and_different_weights() -> None:
    names = [f"class-{n}" for n in range(8)]
    added = {n: {"resource": "example.com/npu", "nodeLabels": {"kind": n}} for n in names}
    placed = placement(*names, accelerators=added)
    weights = [score(placed, {"kind": name}) or 0 for name in names]
    assert (weights[0], weights[-1]) == (100, 0)
    assert weights == sorted(set(weights), reverse=True)
    assert all(1 <= each["weight"] <= 100 for each in placed["affinity"]["nodeAffinity"][PREFERRED])


def test_a_class_with_several_node_labels_needs_all_of_them_and_any_value_of_each() -> None:
    added = {"x": {"resource": "example.com/npu", "nodeLabels": {"b": ["2", "3"], "a": "1"}}}
    placed = placement("x", accelerators=added)
    assert placed["affinity"]["nodeAffinity"][REQUIRED]["nodeSelectorTerms"] == [
        {
            "matchExpressions": [
                {"key": "a", "operator": "In", "values": ["1"]},
                {"key": "b", "operator": "In", "values": ["2", "3"]},
            ]
        }
    ]
    assert score(placed, {"a": "1", "b": "3"}) == 0
    assert score(placed, {"a": "1"}) is None


def test_beside_a_class_without_labels_every_node_is_allowed() -> None:
    added = {"x": {"resource": "nvidia.com/gpu"}}
    placed = placement("nvidia-h100-80gb", "x", accelerators=added)
    assert (score(placed, H100), score(placed, {})) == (100, 0)


@pytest.mark.parametrize("mark", [*SPOT_MARKS, BY_KARPENTER_ON_AZURE], ids=lambda mark: "+".join(mark))
def test_on_demand_keeps_off_spot_nodes_and_spot_keeps_to_them(mark: dict[str, str]) -> None:
    assert score(placement("nvidia-h100-80gb"), {**H100, **mark}) is None
    assert score(placement("nvidia-h100-80gb-spot"), {**H100, **mark}) == 0
    assert score(placement("nvidia-h100-80gb-spot"), H100) is None


@pytest.mark.parametrize("mark", [*SPOT_MARKS, BY_KARPENTER_ON_AZURE], ids=lambda mark: "+".join(mark))
def test_a_spot_node_counts_once_however_many_labels_say_so(mark: dict[str, str]) -> None:
    placed = placement("nvidia-h100-80gb", "nvidia-l40s-48gb-spot", "nvidia-l40s-48gb")
    assert (score(placed, H100), score(placed, {**L40S, **mark}), score(placed, L40S)) == (100, 50, 0)


def test_a_node_that_says_it_is_on_demand_is() -> None:
    on_demand = {"karpenter.sh/capacity-type": "on-demand", "eks.amazonaws.com/capacityType": "ON_DEMAND"}
    assert score(placement("nvidia-h100-80gb"), {**H100, **on_demand}) == 0


def test_capacity_any_takes_both() -> None:
    placed = placement("nvidia-h100-80gb", accelerators={"nvidia-h100-80gb": {"capacity": "Any"}})
    assert score(placed, H100) == score(placed, {**H100, **SPOT_MARKS[0]}) == 0


def test_taints_are_tolerated_once_and_those_of_spot_nodes_only_by_spot_classes() -> None:
    gpu = {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}
    assert placement("nvidia-h100-80gb", "nvidia-l40s-48gb")["tolerations"] == [gpu]
    tolerations = placement("nvidia-h100-80gb-spot", "nvidia-h100-80gb")["tolerations"]
    assert tolerations[0] == gpu
    assert {(each["key"], each["value"]) for each in tolerations[1:]} == {
        mark for marks in SPOT_MARKS for mark in marks.items()
    }


def test_the_labels_of_spot_nodes_are_configuration() -> None:
    placed = placement("nvidia-h100-80gb-spot", spotNodeLabels={"pool.example/kind": "cheap"})
    assert score(placed, {**H100, "pool.example/kind": "cheap"}) == 0
    assert score(placed, {**H100, **SPOT_MARKS[0]}) is None
    assert placed["tolerations"][1:] == [
        {"key": "pool.example/kind", "operator": "Equal", "value": "cheap", "effect": "NoSchedule"}
    ]


def test_a_claimed_device_needs_no_label_on_its_node_but_prefers_one() -> None:
    claimed = {name: {"allocation": "ResourceClaim"} for name in ("nvidia-h100-80gb", "nvidia-l40s-48gb")}
    placed = placement("nvidia-h100-80gb", "nvidia-l40s-48gb", accelerators=claimed)
    assert (score(placed, H100), score(placed, {}), score(placed, SPOT_MARKS[0])) == (100, 0, None)
