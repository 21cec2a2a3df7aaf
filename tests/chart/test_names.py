"""Names and labels that follow from those of release and namespace: Kubernetes takes them, however long these are."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.chart.rendering import EVERYTHING, Manifest, merged, objects_in, rendered

LONGEST_RELEASE = "r" * 53
"""Helm takes no longer one."""
LONGEST_NAMESPACE = "n" * 63
LABEL = re.compile(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?")
"""What a Service may be called."""
SUBDOMAIN = re.compile(r"(?=.{1,253}$)[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
PATH_SEGMENT = re.compile(r"(?=.{1,253}$)[^/%]+")
"""What objects of rbac.authorization.k8s.io may be called."""
LABEL_VALUE = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?")
NAMED: dict[str, tuple[str, Manifest]] = {
    "short": ("tandem", {}),
    "a long release": (LONGEST_RELEASE, {}),
    "a long release that ends where it is cut": (f"{'r' * 44}-{'r' * 8}", {}),
    "a release with dots": ("team.of.three", {}),
    "a long name for it": (LONGEST_RELEASE, {"nameOverride": "a" * 63}),
    "a long name for all": ("tandem", {"fullnameOverride": "f" * 63}),
    "a long name for all that ends where it is cut": ("tandem", {"fullnameOverride": f"{'f' * 54}-{'f' * 8}"}),
}


def form_of(kind: str, api_version: str) -> re.Pattern[str]:
    if api_version.startswith("rbac."):
        return PATH_SEGMENT
    return LABEL if kind == "Service" else SUBDOMAIN


@pytest.mark.parametrize(("release", "values"), NAMED.values(), ids=NAMED)
def test_every_name_and_label_is_one_that_kubernetes_takes(
    release: str, values: Manifest, helm: str, tmp_path: Path
) -> None:
    text = rendered(helm, merged(EVERYTHING, values), tmp_path, release=release, namespace=LONGEST_NAMESPACE)
    found = objects_in(text)
    assert len({each["kind"] for each in found}) > 15
    assert len({(each["kind"], each["metadata"]["name"]) for each in found}) == len(found), "each has its own"
    for each in found:
        name, kind = each["metadata"]["name"], each["kind"]
        assert form_of(kind, each["apiVersion"]).fullmatch(name), f"{kind} {name} ({len(name)})"
        for label, value in each["metadata"]["labels"].items():
            assert LABEL_VALUE.fullmatch(value), f"{kind} {name}: {label}: {value}"


def test_a_name_that_is_too_long_would_be_found() -> None:
    assert form_of("Service", "v1").fullmatch("s" * 64) is None
    assert form_of("ConfigMap", "v1").fullmatch("s" * 254) is None
