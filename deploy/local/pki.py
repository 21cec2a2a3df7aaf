"""The cluster's own certificate authority and every certificate below it (ECDSA P-256). Files only; nothing is
started here.

The authority and the key that signs ServiceAccount tokens live as long as the state folder; leaves are made anew at
each start.
"""

import datetime as dt
import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

AUTHORITY_DAYS = 3650
LEAF_DAYS = 365
BACKDATE = dt.timedelta(minutes=5)


@dataclass(frozen=True)
class Leaf:
    """One certificate to make: common name and organization (a user and its group), addresses and names it answers
    for.
    """

    file: str
    common_name: str
    organization: str = ""
    names: tuple[str, ...] = ()
    addresses: tuple[str, ...] = ()


@dataclass(frozen=True)
class Authority:
    """A certificate authority whose files lie in `folder` as ca.crt and ca.key."""

    folder: Path
    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey


def authority_in(folder: Path) -> Authority:
    """The authority in `folder`; made when its files are missing or unreadable.

    Also makes the token key pair sa.key and sa.pub.
    """
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    if not _is_token_key(folder):
        key = ec.generate_private_key(ec.SECP256R1())
        _write(folder / "sa.key", _private(key))
        _write(folder / "sa.pub", _public(key))
    try:
        certificate = x509.load_pem_x509_certificate((folder / "ca.crt").read_bytes())
        key_read = serialization.load_pem_private_key((folder / "ca.key").read_bytes(), None)
        if isinstance(key_read, ec.EllipticCurvePrivateKey):
            return Authority(folder, certificate, key_read)
    except (FileNotFoundError, ValueError):
        pass
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "tandem-local")])
    certificate = (
        _builder(name, name, key=key, days=AUTHORITY_DAYS)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .sign(key, hashes.SHA256())
    )
    _write(folder / "ca.key", _private(key))
    _write(folder / "ca.crt", certificate.public_bytes(serialization.Encoding.PEM))
    return Authority(folder, certificate, key)


def issue(authority: Authority, leaves: Sequence[Leaf]) -> None:
    """Write FILE.crt and FILE.key for each leaf, each good as a client and as a server."""
    for leaf in leaves:
        key = ec.generate_private_key(ec.SECP256R1())
        attributes = [x509.NameAttribute(NameOID.COMMON_NAME, leaf.common_name)]
        if leaf.organization:
            attributes.append(x509.NameAttribute(NameOID.ORGANIZATION_NAME, leaf.organization))
        builder = (
            _builder(x509.Name(attributes), authority.certificate.subject, key=key, days=LEAF_DAYS)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(signs_certificates=False), critical=True)
            .add_extension(
                x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH]),
                critical=False,
            )
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.key.public_key()), critical=False
            )
        )
        answers_for: list[x509.GeneralName] = [x509.DNSName(name) for name in leaf.names]
        answers_for += [x509.IPAddress(ipaddress.ip_address(address)) for address in leaf.addresses]
        if answers_for:
            builder = builder.add_extension(x509.SubjectAlternativeName(answers_for), critical=False)
        certificate = builder.sign(authority.key, hashes.SHA256())
        _write(authority.folder / f"{leaf.file}.key", _private(key))
        _write(authority.folder / f"{leaf.file}.crt", certificate.public_bytes(serialization.Encoding.PEM))


def _builder(
    subject: x509.Name, issuer: x509.Name, *, key: ec.EllipticCurvePrivateKey, days: int
) -> x509.CertificateBuilder:
    now = dt.datetime.now(dt.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATE)
        .not_valid_after(now + dt.timedelta(days=days))
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _is_token_key(folder: Path) -> bool:
    try:
        key = serialization.load_pem_private_key((folder / "sa.key").read_bytes(), None)
        return isinstance(key, ec.EllipticCurvePrivateKey) and (folder / "sa.pub").read_bytes() == _public(key)
    except (FileNotFoundError, ValueError):
        return False


def _private(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _public(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def _write(path: Path, content: bytes) -> None:
    path.touch(mode=0o600)
    path.write_bytes(content)
