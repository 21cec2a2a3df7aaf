"""All contact with S3, and with what speaks its protocol: which files a prefix has, and each of them, checked.

S3 has no commits. A digest over what was listed stands for one, and every file is asked for on the condition that it
is still the listed one. No message of an error here has a credential, nor anything that a store says in its own words:
it has seen the credentials. Stores that know buckets only as names of hosts are not reached at an endpoint.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import time
from base64 import b64decode
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from random import SystemRandom
from typing import Any

import botocore.session
from boto3.session import Session
from botocore import UNSIGNED
from botocore.config import Config
from botocore.credentials import CredentialResolver
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    FlexibleChecksumError,
    IncompleteReadError,
    ParamValidationError,
    ReadTimeoutError,
    ResponseStreamingError,
)
from urllib3.exceptions import HTTPError

from tandem_contracts.artifact_job import ACCESS_KEY_VARIABLE, SECRET_KEY_VARIABLE, S3Source
from tandem_contracts.termination import Reason
from tandem_runtime.artifacts.last_word import RefusedError
from tandem_runtime.artifacts.origin import RemoteFile, Snapshot, is_as_told, is_wanted

CONNECT_LIMIT_SECONDS = 10.0
ANSWER_LIMIT_SECONDS = 30.0
TRIES = 3
"""Of a request, by the library; and of a file whose content broke off or is not what was told."""
PAUSE_SECONDS = 1.0
"""Before the second try, at most; twice that before the third."""
_BLOCK_BYTES = 1 << 20
_REGION = "us-east-1"
_MD5 = re.compile(r"[0-9a-f]{32}")
_BROKEN = (FlexibleChecksumError, HTTPError, IncompleteReadError, ReadTimeoutError, ResponseStreamingError)
"""In the middle of a content; the library repeats only what comes before."""

_DENIED, _NOT_FOUND = Reason.SOURCE_DENIED, Reason.SOURCE_NOT_FOUND
_MISMATCH = (Reason.CHECKSUM_MISMATCH, "what was downloaded is not what the store describes")
_CHANGED = (Reason.CHECKSUM_MISMATCH, "it was changed after it was listed")
_GONE = (_NOT_FOUND, "what was listed is not there any more")
_ELSEWHERE = (_NOT_FOUND, "the bucket is in another region")
_NO_NAME = (_NOT_FOUND, "that is no name of a bucket")
_CODES: Mapping[str, tuple[Reason, str]] = {
    "AccessDenied": (_DENIED, "access is denied"),
    "InvalidAccessKeyId": (_DENIED, "the store does not know the access key"),
    "SignatureDoesNotMatch": (_DENIED, "the secret key is not that of the access key"),
    "ExpiredToken": (_DENIED, "the session token has expired"),
    "InvalidToken": (_DENIED, "the session token is not valid"),
    "InvalidObjectState": (_DENIED, "it is archived, and has to be restored first"),
    "NoSuchBucket": (_NOT_FOUND, "there is no such bucket"),
    "NoSuchKey": _GONE,
    "InvalidBucketName": _NO_NAME,
    "PermanentRedirect": _ELSEWHERE,
    "AuthorizationHeaderMalformed": _ELSEWHERE,
    "PreconditionFailed": _CHANGED,
}
_STATUSES: Mapping[int, tuple[Reason, str]] = {
    301: _ELSEWHERE,
    401: (_DENIED, "the store answers 401: are the keys right?"),
    403: (_DENIED, "the store answers 403: are the keys right?"),
    404: _GONE,
    412: _CHANGED,
}
"""Where an answer has no code of the protocol, such as those to HEAD."""


class _ChangedError(Exception):
    """A store sends another content than was asked for: it takes no notice of conditions."""


@dataclass(frozen=True, kw_only=True)
class Credentials:
    """All empty: everybody's. A session token belongs to temporary credentials."""

    access_key: str = field(default="", repr=False)
    secret_key: str = field(default="", repr=False)
    session_token: str = field(default="", repr=False)


class S3:
    """A model below a prefix, asked for with credentials or, without them, unsigned."""

    def __init__(self, source: S3Source, credentials: Credentials) -> None:
        """Raises RefusedError where there is only half a pair of keys, or no such endpoint or region can be."""
        self._bucket, self._prefix = source.bucket, f"{source.prefix.rstrip('/')}/".lstrip("/")
        self._name = f"s3://{source.bucket}/{self._prefix}"
        if bool(credentials.access_key) != bool(credentials.secret_key):
            told = f"{ACCESS_KEY_VARIABLE} and {SECRET_KEY_VARIABLE} are needed both, or none of them"
            raise _refused((_DENIED, told), self._name)
        try:
            self._client = _client(source, credentials)
        except (BotoCoreError, ValueError):
            told = "the endpoint is no URL of http or https, or the region cannot be one"
            raise _refused((_NOT_FOUND, told), self._name) from None

    def snapshot(self) -> Snapshot:
        """What is directly below the prefix. Raises RefusedError."""
        try:
            listed = self._listed()
            files = tuple(self._described(name, each) for name, each in listed.items() if is_wanted(name))
        except Exception as error:  # noqa: BLE001 - of several libraries; none of their texts may get out
            raise _refusal(error, self._name) from None
        if not listed:
            raise _refused((_NOT_FOUND, "there is no file"), self._name)
        return Snapshot(
            name=self._name,
            commit=_commit_of(files),
            files=files,
            others=tuple(name for name in listed if not is_wanted(name)),
            provenance={"bucket": self._bucket, "prefix": self._prefix},
        )

    def download(self, snapshot: Snapshot, file: RemoteFile, folder: Path) -> Path:
        """One file into `folder`, which is nobody else's; checked. Raises RefusedError, OSError of the folder."""
        path, what = folder / file.path, f"{snapshot.name}{file.path}"
        refusals: list[RefusedError] = []
        while len(refusals) < TRIES:
            if refusals:
                time.sleep(SystemRandom().uniform(0.0, PAUSE_SECONDS * len(refusals)))
            try:
                self._write(file, path)
            except Exception as error:
                if isinstance(error, OSError) and error.errno is not None:
                    raise  # of the folder
                refusals.append(_refusal(error, what))
                if not isinstance(error, _BROKEN):
                    break
            else:
                if is_as_told(path, file):
                    return path
                refusals.append(_refused(_MISMATCH, what))
        raise refusals[-1]

    def _listed(self) -> Mapping[str, Mapping[str, Any]]:
        """By name below the prefix. What is in folders is not listed; some tools make an empty file of a folder."""
        pages = self._client.get_paginator("list_objects_v2").paginate(
            Bucket=self._bucket, Prefix=self._prefix, Delimiter="/"
        )
        found = {each["Key"].removeprefix(self._prefix): each for page in pages for each in page.get("Contents", ())}
        return {name: each for name, each in found.items() if name}

    def _described(self, name: str, listed: Mapping[str, Any]) -> RemoteFile:
        """With its digests, which listings do not have."""
        tag = listed["ETag"].strip('"')
        told = self._client.head_object(**self._request(name, tag))
        _require_same(told, tag)
        sha256 = _sha256_of(told)
        md5 = "" if sha256 else _md5_of(told, tag)
        return RemoteFile(path=name, bytes=int(listed["Size"]), sha256=sha256, md5=md5, tag=tag)

    def _write(self, file: RemoteFile, path: Path) -> None:
        told = self._client.get_object(**self._request(file.path, file.tag))
        # Not `with` alone: that gives the stream below, which compares nothing.
        with closing(told["Body"]) as body, path.open("wb") as target:
            _require_same(told, file.tag)
            while block := body.read(_BLOCK_BYTES):
                target.write(block)

    def _request(self, name: str, tag: str) -> dict[str, str]:
        key = f"{self._prefix}{name}"
        return {"Bucket": self._bucket, "Key": key, "IfMatch": f'"{tag}"', "ChecksumMode": "ENABLED"}


def _client(source: S3Source, credentials: Credentials) -> Any:
    """A client that knows what it is given here and nothing else. Raises ValueError, BotoCoreError."""
    # Neither files of a user nor profiles in them; the four of each are as in botocore's own table.
    nothing = (None, None, os.devnull, None)
    core = botocore.session.Session(
        {"profile": (None, None, None, None), "config_file": nothing, "credentials_file": nothing}
    )
    # Nobody is asked for credentials: the metadata service of a cloud would give those of the node.
    core.register_component("credential_provider", CredentialResolver([]))
    is_signed = bool(credentials.access_key)
    config = Config(
        signature_version="s3v4" if is_signed else UNSIGNED,
        connect_timeout=CONNECT_LIMIT_SECONDS,
        read_timeout=ANSWER_LIMIT_SECONDS,
        retries={"mode": "standard", "total_max_attempts": TRIES},
        # Under one name of a host: that of a bucket is rarely in a cluster's DNS, or in a certificate.
        s3={"addressing_style": "path" if source.endpoint else "auto"},
        response_checksum_validation="when_supported",
        ignore_configured_endpoint_urls=True,
        # Another one asks the metadata service for a region.
        defaults_mode="legacy",
    )
    keys = (
        {
            "aws_access_key_id": credentials.access_key,
            "aws_secret_access_key": credentials.secret_key,
            "aws_session_token": credentials.session_token or None,
        }
        if is_signed
        else {}
    )
    return Session(botocore_session=core).client(
        "s3", endpoint_url=source.endpoint or None, region_name=source.region or _REGION, config=config, **keys
    )


def _commit_of(files: tuple[RemoteFile, ...]) -> str:
    content = sorted((file.path, file.bytes, file.sha256 or file.tag) for file in files)
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def _sha256_of(told: Mapping[str, Any]) -> str:
    """Empty where there is none of the whole content: one over digests of parts has their number behind a dash."""
    value = str(told.get("ChecksumSHA256", ""))
    if "-" in value or told.get("ChecksumType", "") == "COMPOSITE":
        return ""
    return b64decode(value, validate=True).hex()


def _md5_of(told: Mapping[str, Any], tag: str) -> str:
    """Empty where the tag is something else: of parts, of content under a key, or of a directory bucket."""
    is_plain = told.get("ServerSideEncryption", "AES256") == "AES256" and "SSECustomerAlgorithm" not in told
    is_plain = is_plain and told.get("StorageClass", "") != "EXPRESS_ONEZONE"
    return tag if is_plain and _MD5.fullmatch(tag) else ""


def _require_same(told: Mapping[str, Any], tag: str) -> None:
    """For stores that take no notice of conditions. Raises _ChangedError."""
    if told.get("ETag", "").strip('"') != tag:
        raise _ChangedError


def _refused(known: tuple[Reason, str], what: str) -> RefusedError:
    reason, told = known
    return RefusedError(reason, f"{what}: {told}")


def _refusal(error: Exception, what: str) -> RefusedError:
    """In words of our own."""
    if isinstance(error, _ChangedError):
        return _refused(_CHANGED, what)
    if isinstance(error, FlexibleChecksumError):
        return _refused(_MISMATCH, what)
    if isinstance(error, ParamValidationError):
        return _refused(_NO_NAME, what)
    if isinstance(error, ClientError):
        status = int(error.response["ResponseMetadata"]["HTTPStatusCode"])
        known = _CODES.get(error.response["Error"]["Code"]) or _STATUSES.get(status)
        return _refused(known or (Reason.NETWORK_FAILED, f"the store answers {status}"), what)
    told = "the store cannot be reached, or breaks off"
    if not isinstance(error, BotoCoreError | HTTPError):
        told = "what the store answers is not S3"
    return RefusedError(Reason.NETWORK_FAILED, f"{what}: {told}: {type(error).__name__}")
