"""Bills of materials, in CycloneDX 1.6: what is in the plugin and in each image. Pure.

Python packages are those of the lock that was installed, Debian's what dpkg says in the built image.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime

from cyclonedx.model import Property
from cyclonedx.model.bom import Bom, BomMetaData
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.output import make_outputter
from cyclonedx.schema import OutputFormat, SchemaVersion
from packageurl import PackageURL
from packaging.requirements import Requirement

DISTRIBUTION = "bookworm"
_INSTALLED = "install ok installed"


def python_packages_in(lock: str, environments: Iterable[Mapping[str, str]]) -> set[str]:
    """What a lock installs in any of these environments, as package URLs; markers are asked about each."""
    known = list(environments)
    return {
        PackageURL("pypi", None, requirement.name, version).to_string()
        for requirement, version in _pins_in(lock)
        if requirement.marker is None or any(requirement.marker.evaluate({**each}) for each in known)
    }


def debian_packages_in(status: str) -> set[str]:
    """What dpkg has installed, as package URLs, from the text of its status file."""
    found = set()
    for paragraph in status.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in paragraph.splitlines() if ": " in line and line[0] != " ")
        if fields.get("Status") == _INSTALLED:
            qualifiers = {"arch": fields["Architecture"], "distro": DISTRIBUTION}
            found.add(PackageURL("deb", "debian", fields["Package"], fields["Version"], qualifiers).to_string())
    return found


def environment_of(*, python: str, system: str, machine: str) -> dict[str, str]:
    """What markers are asked about on CPython; `python` such as 3.11, `system` as `platform.system()` calls it."""
    return {
        "implementation_name": "cpython",
        "implementation_version": f"{python}.0",
        "os_name": "posix",
        "platform_machine": machine,
        "platform_python_implementation": "CPython",
        "platform_release": "",
        "platform_system": system,
        "platform_version": "",
        "python_full_version": f"{python}.0",
        "python_version": python,
        "sys_platform": system.lower(),
    }


def sbom_of(
    name: str, version: str, packages: Iterable[str], *, kind: ComponentType, made: int, remarks: Iterable[str] = ()
) -> str:
    """The document, as JSON. `packages`: package URLs; `made`: seconds since 1970; `remarks`: what it does not know."""
    known = sorted(packages)
    root = Component(name=name, version=version, type=kind, bom_ref=name)
    components = [_component_of(package) for package in known]
    bom = Bom(
        # From the content, so that the same content has the same document.
        serial_number=uuid.uuid5(uuid.NAMESPACE_URL, "\n".join([name, version, *known])),
        components=components,
        metadata=BomMetaData(
            component=root,
            timestamp=datetime.fromtimestamp(made, UTC),
            properties=[Property(name="tandem:remark", value=remark) for remark in remarks],
        ),
    )
    bom.register_dependency(root, components)
    text: str = make_outputter(bom, OutputFormat.JSON, SchemaVersion.V1_6).output_as_string(indent=2)
    return text + "\n"


def _component_of(package: str) -> Component:
    url = PackageURL.from_string(package)
    return Component(name=url.name, version=url.version, type=ComponentType.LIBRARY, purl=url, bom_ref=package)


def _pins_in(lock: str) -> Iterator[tuple[Requirement, str]]:
    for line in lock.splitlines():
        if line and not line.startswith((" ", "#")):
            requirement = Requirement(line.removesuffix("\\").strip())
            (pin,) = requirement.specifier
            yield requirement, pin.version
