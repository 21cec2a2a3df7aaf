"""Certificates: who they name, where they are good, and what survives a restart."""

import ipaddress
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.oid import NameOID

from deploy.local.controlplane import leaves_of
from deploy.local.pki import Leaf, authority_in, issue
from deploy.local.record import Record

RECORD = Record("marker", 88, {}, has_real_node=True)


def read(path: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate(path.read_bytes())


def test_the_api_servers_certificate_is_good_for_loopback_node_and_service(tmp_path: Path) -> None:
    issue(authority_in(tmp_path), leaves_of(RECORD))
    names = read(tmp_path / "apiserver.crt").extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    addresses = {str(address) for address in names.get_values_for_type(x509.IPAddress)}
    assert addresses == {"127.0.0.1", RECORD.network.node, RECORD.network.first_service}
    assert "kubernetes.default.svc" in names.get_values_for_type(x509.DNSName)


@pytest.mark.parametrize(
    ("file", "user", "group"),
    [
        ("admin", "tandem-admin", "system:masters"),
        ("kubelet", "system:node:tandem-node", "system:nodes"),
        ("scheduler", "system:kube-scheduler", ""),
    ],
)
def test_a_client_certificate_names_its_user_and_group(tmp_path: Path, file: str, user: str, group: str) -> None:
    issue(authority_in(tmp_path), leaves_of(RECORD))
    subject = read(tmp_path / f"{file}.crt").subject
    assert [a.value for a in subject.get_attributes_for_oid(NameOID.COMMON_NAME)] == [user]
    assert [a.value for a in subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)] == [group] * bool(group)


def test_every_leaf_is_signed_by_the_authority(tmp_path: Path) -> None:
    authority = authority_in(tmp_path)
    issue(authority, leaves_of(RECORD))
    for leaf in leaves_of(RECORD):
        read(tmp_path / f"{leaf.file}.crt").verify_directly_issued_by(authority.certificate)


def test_authority_and_token_key_survive_a_restart(tmp_path: Path) -> None:
    first = authority_in(tmp_path)
    token_key = (tmp_path / "sa.key").read_bytes()
    assert authority_in(tmp_path).certificate == first.certificate
    assert (tmp_path / "sa.key").read_bytes() == token_key


@pytest.mark.parametrize("damage", ["ca.crt", "ca.key", "sa.key", "sa.pub"])
def test_a_file_cut_off_by_a_crash_is_made_anew(tmp_path: Path, damage: str) -> None:
    authority_in(tmp_path)
    (tmp_path / damage).write_bytes(b"")
    authority = authority_in(tmp_path)
    issue(authority, [Leaf("x", "x", addresses=("127.0.0.1",))])
    read(tmp_path / "x.crt").verify_directly_issued_by(read(tmp_path / "ca.crt"))
    assert (tmp_path / damage).stat().st_size > 0


def test_keys_are_readable_by_their_owner_only(tmp_path: Path) -> None:
    issue(authority_in(tmp_path), leaves_of(RECORD))
    assert {path.stat().st_mode & 0o077 for path in tmp_path.glob("*.key")} == {0}


def test_addresses_lie_inside_the_one_network_that_is_routed() -> None:
    network = RECORD.network
    whole = ipaddress.IPv4Network(network.whole)
    ranges = (network.pods, network.fake_pods, network.services, f"{network.node}/32")
    parts = [ipaddress.IPv4Network(text) for text in ranges]
    assert all(part.subnet_of(whole) for part in parts)
    assert not any(a.overlaps(b) for a in parts for b in parts if a is not b)
