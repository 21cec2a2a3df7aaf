"""What the pods of a pair mount so that draft pods answer this deployment's verifiers alone: certificates for TLS, a
token for verifiers, and for draft pods the keys that check it.

Names Secrets and reads none. The folders are those of `tandem_contracts.draft_access`.
"""

from __future__ import annotations

from collections.abc import Mapping

from tandem_contracts.draft_access import (
    AUTHORITY_FILE,
    CERTIFICATE_FILE,
    CERTIFICATES_FOLDER,
    CREDENTIALS_FOLDER,
    ISSUER_FILE,
    KEYS_FILE,
    PRIVATE_KEY_FILE,
    TOKEN_FILE,
    DraftIdentity,
)
from tandem_contracts.launch import Role
from tandem_operator import names
from tandem_operator.api.deployment import Owner
from tandem_operator.facts import IssuerKeys, Manifest
from tandem_operator.objects.ownership import metadata_of, sealed
from tandem_operator.objects.restricted import UID
from tandem_operator.role_inputs import DraftCertificates, RoleInputs

CERTIFICATES = "draft-certificates"
CREDENTIALS = "draft-credentials"
CSI_DRIVER = "csi.cert-manager.io"
TOKEN_SECONDS = 3600
"""The kubelet renews a token when four fifths of its time are over. A stream that is open outlives its token."""
READ_ONLY = 0o440
_FILES: Mapping[Role, tuple[str, ...]] = {
    Role.VERIFIER: (AUTHORITY_FILE,),
    Role.DRAFT: (CERTIFICATE_FILE, PRIVATE_KEY_FILE),
}
_USAGES: Mapping[Role, str] = {Role.VERIFIER: "client auth", Role.DRAFT: "server auth"}


def identity_of(owner: Owner) -> DraftIdentity:
    """Whose drafts a deployment's are."""
    return DraftIdentity(owner.namespace, owner.name)


def access_volumes_of(owner: Owner, inputs: RoleInputs) -> list[Manifest]:
    """The volumes; none for a pair that talks in plaintext."""
    if inputs.draft_tls is None:
        return []
    return [_certificates(owner, inputs.role, inputs.draft_tls), _credentials(owner, inputs.role)]


def access_mounts_of(inputs: RoleInputs) -> list[Manifest]:
    """The mounts of these volumes."""
    if inputs.draft_tls is None:
        return []
    return [
        {"name": CERTIFICATES, "mountPath": CERTIFICATES_FOLDER, "readOnly": True},
        {"name": CREDENTIALS, "mountPath": CREDENTIALS_FOLDER, "readOnly": True},
    ]


def keys_config_map_of(owner: Owner, keys: IssuerKeys) -> Manifest:
    """The ConfigMap with the API server's published keys, for the draft pods of every revision."""
    return sealed(
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": metadata_of(owner, names.protection_name(owner.name, Role.DRAFT), role=Role.DRAFT),
            "data": {ISSUER_FILE: keys.issuer, KEYS_FILE: keys.jwks},
        }
    )


def _certificates(owner: Owner, role: Role, source: DraftCertificates) -> Manifest:
    if source.secret_name:
        items = [{"key": file, "path": file} for file in _FILES[role]]
        secret: Manifest = {"secretName": source.secret_name, "items": items, "defaultMode": READ_ONLY}
        if role is Role.VERIFIER:  # which serves without drafts, and begins to ask when the file is there
            secret["optional"] = True
        return {"name": CERTIFICATES, "secret": secret}
    identity = identity_of(owner)
    name = identity.server_name if role is Role.DRAFT else f"{owner.name}-verifier.{owner.namespace}.svc"
    attributes = {
        "issuer-name": source.issuer_name,
        "issuer-kind": source.issuer_kind,
        "issuer-group": source.issuer_group,
        "dns-names": name,
        "key-usages": f"digital signature,key encipherment,{_USAGES[role]}",
        "fs-group": str(UID),
    }
    given = {f"{CSI_DRIVER}/{key}": value for key, value in attributes.items()}
    return {"name": CERTIFICATES, "csi": {"driver": CSI_DRIVER, "readOnly": True, "volumeAttributes": given}}


def _credentials(owner: Owner, role: Role) -> Manifest:
    if role is Role.DRAFT:
        # Optional: without keys a draft pod starts all the same, and refuses every verifier until they are there.
        keys = {"name": names.protection_name(owner.name, Role.DRAFT), "optional": True, "defaultMode": READ_ONLY}
        return {"name": CREDENTIALS, "configMap": keys}
    token = {"path": TOKEN_FILE, "audience": identity_of(owner).audience, "expirationSeconds": TOKEN_SECONDS}
    return {
        "name": CREDENTIALS,
        "projected": {"sources": [{"serviceAccountToken": token}], "defaultMode": READ_ONLY},
    }
