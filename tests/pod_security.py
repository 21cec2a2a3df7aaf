"""PodSecurity `restricted`, and what we ask beyond it, as a judge of any pod template: sentences about what is wrong.

The rules are those of Kubernetes' own standard, field by field, written down anew so that a template is judged without
a cluster; a namespace of the cluster tests enforces the real ones.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

Manifest = dict[str, Any]

VOLUMES = frozenset(
    {
        "configMap",
        "csi",
        "downwardAPI",
        "emptyDir",
        "ephemeral",
        "image",
        "persistentVolumeClaim",
        "projected",
        "secret",
    }
)
CAPABILITIES_TO_ADD = frozenset({"NET_BIND_SERVICE"})
SYSCTLS = frozenset(
    {
        "kernel.shm_rmid_forced", "net.ipv4.ip_local_port_range", "net.ipv4.ip_unprivileged_port_start",
        "net.ipv4.tcp_syncookies", "net.ipv4.ping_group_range", "net.ipv4.ip_local_reserved_ports",
        "net.ipv4.tcp_keepalive_time", "net.ipv4.tcp_fin_timeout", "net.ipv4.tcp_keepalive_intvl",
        "net.ipv4.tcp_keepalive_probes",
    }
)  # fmt: skip
SELINUX_TYPES = frozenset({None, "", "container_t", "container_init_t", "container_kvm_t", "container_engine_t"})
LOWEST_UID = 10000


def pods_of(manifests: list[Manifest]) -> dict[str, Manifest]:
    """Every pod that the manifests would start, by what starts it."""
    found = {}
    for manifest in manifests:
        name, spec = f"{manifest['kind']} {manifest['metadata']['name']}", manifest.get("spec") or {}
        if manifest["kind"] == "Pod":
            found[name] = spec
        elif manifest["kind"] == "CronJob":
            found[name] = spec["jobTemplate"]["spec"]["template"]["spec"]
        elif isinstance(spec.get("template"), dict) and "spec" in spec["template"]:
            found[name] = spec["template"]["spec"]
    return found


def violations_of_restricted(pod: Manifest) -> list[str]:
    """What PodSecurity `restricted` refuses in a pod; empty when it would be let in."""
    return [*_of_the_pod(pod), *(said for container in _containers(pod) for said in _of_a_container(container, pod))]


def violations_beyond_restricted(pod: Manifest) -> list[str]:
    """What a pod of ours lacks besides: limits, a root file system that nobody writes, sized scratch, no token."""
    said = []
    if pod.get("automountServiceAccountToken") is not False:
        said.append("automountServiceAccountToken is not false")
    if pod.get("enableServiceLinks") is not False:
        said.append("enableServiceLinks is not false")
    if pod.get("securityContext", {}).get("runAsUser", 0) < LOWEST_UID:
        said.append(f"runAsUser is below {LOWEST_UID}")
    endless = [v["name"] for v in pod.get("volumes", []) if "emptyDir" in v and "sizeLimit" not in v["emptyDir"]]
    said += [f"volume {name}: emptyDir without sizeLimit" for name in endless]
    for container in _containers(pod):
        name, resources = container["name"], container.get("resources", {})
        if container.get("securityContext", {}).get("readOnlyRootFilesystem") is not True:
            said.append(f"{name}: readOnlyRootFilesystem is not true")
        for kind, resource in (("requests", "memory"), ("limits", "memory"), ("requests", "cpu")):
            if resource not in resources.get(kind, {}) and not (resource == "cpu" and _has_device(resources)):
                said.append(f"{name}: no {kind} of {resource}")
    return said


def _has_device(resources: Manifest) -> bool:
    """An extended resource or a claim: its node is bought for it, CPU and all."""
    return bool(resources.get("claims")) or any("/" in resource for resource in resources.get("limits", {}))


def _of_the_pod(pod: Manifest) -> Iterator[str]:
    for field in ("hostNetwork", "hostPID", "hostIPC"):
        if pod.get(field):
            yield f"{field} is set"
    for volume in pod.get("volumes", []):
        kinds = volume.keys() - {"name"}
        if not kinds <= VOLUMES:
            yield f"volume {volume['name']}: {', '.join(sorted(kinds - VOLUMES))} is not allowed"
    context = pod.get("securityContext", {})
    for sysctl in context.get("sysctls", []):
        if sysctl["name"] not in SYSCTLS:
            yield f"sysctl {sysctl['name']} is not allowed"
    yield from _of_a_context(context, "pod")
    if any(group == 0 for group in context.get("supplementalGroups", [])):
        yield "supplementalGroups has root's group"


def _of_a_container(container: Manifest, pod: Manifest) -> Iterator[str]:
    name, own, shared = container["name"], container.get("securityContext", {}), pod.get("securityContext", {})
    if own.get("runAsNonRoot", shared.get("runAsNonRoot")) is not True:
        yield f"{name}: runAsNonRoot is not true"
    profile = own.get("seccompProfile", shared.get("seccompProfile", {})).get("type")
    if profile not in {"RuntimeDefault", "Localhost"}:
        yield f"{name}: seccompProfile is {profile}"
    if own.get("allowPrivilegeEscalation") is not False:
        yield f"{name}: allowPrivilegeEscalation is not false"
    if own.get("privileged"):
        yield f"{name}: privileged"
    capabilities = own.get("capabilities", {})
    if "ALL" not in capabilities.get("drop", []):
        yield f"{name}: capabilities are not dropped"
    if not set(capabilities.get("add", [])) <= CAPABILITIES_TO_ADD:
        yield f"{name}: adds {', '.join(capabilities['add'])}"
    if own.get("procMount", "Default") != "Default":
        yield f"{name}: procMount {own['procMount']}"
    if any(port.get("hostPort") for port in container.get("ports", [])):
        yield f"{name}: hostPort"
    for handler in _handlers(container):
        called = handler.get("httpGet") or handler.get("tcpSocket") or {}
        if called.get("host"):
            yield f"{name}: a probe or hook names a host"
    yield from _of_a_context(own, name)


def _of_a_context(context: Manifest, where: str) -> Iterator[str]:
    if context.get("runAsUser") == 0:
        yield f"{where}: runAsUser is 0"
    if context.get("appArmorProfile", {}).get("type", "RuntimeDefault") not in {"RuntimeDefault", "Localhost"}:
        yield f"{where}: appArmorProfile {context['appArmorProfile']['type']}"
    options = context.get("seLinuxOptions", {})
    if options.get("type") not in SELINUX_TYPES or options.get("user") or options.get("role"):
        yield f"{where}: seLinuxOptions"
    if context.get("windowsOptions", {}).get("hostProcess"):
        yield f"{where}: hostProcess"


def _containers(pod: Manifest) -> list[Manifest]:
    return [each for kind in ("initContainers", "containers", "ephemeralContainers") for each in pod.get(kind, [])]


def _handlers(container: Manifest) -> list[Manifest]:
    probes = [container[kind] for kind in ("startupProbe", "readinessProbe", "livenessProbe") if kind in container]
    return [*probes, *container.get("lifecycle", {}).values()]
