"""What is taken out of an object and of a log, and what stays."""

from __future__ import annotations

from typing import Any

import pytest

from tandem_operator.cli.redaction import Redaction

TOKEN = "hf_AbCdEfGhIjKlMnOpQrStUvWx"


def shown(manifest: dict[str, Any]) -> dict[str, Any]:
    return Redaction.of([manifest]).object(manifest)


@pytest.mark.parametrize(
    ("manifest", "expected"),
    [
        ({"env": [{"name": "X", "value": "anything"}]}, {"env": [{"name": "X", "value": "***"}]}),
        ({"env": [{"name": "HOME", "value": "/tmp"}]}, {"env": [{"name": "HOME", "value": "/tmp"}]}),
        (
            {"env": [{"name": "X", "valueFrom": {"secretKeyRef": {"name": "hf", "key": "token"}}}]},
            {"env": [{"name": "X", "valueFrom": {"secretKeyRef": {"name": "hf", "key": "token"}}}]},
        ),
        ({"environment": {"X": "anything"}}, {"environment": {"X": "***"}}),
        ({"metadata": {"annotations": {"a": "b"}}}, {"metadata": {"annotations": {"a": "***"}}}),
        (
            {"metadata": {"annotations": {"tandem.dev/failed": "late"}}},
            {"metadata": {"annotations": {"tandem.dev/failed": "late"}}},
        ),
        ({"metadata": {"managedFields": [{}], "name": "n"}}, {"metadata": {"name": "n"}}),
        ({"password": "anything", "apiKey": {"secretKeyRef": {}}}, {"password": "***", "apiKey": {"secretKeyRef": {}}}),
        ({"timeToFirstToken": "2000ms"}, {"timeToFirstToken": "2000ms"}),
        ({"automountServiceAccountToken": False}, {"automountServiceAccountToken": False}),
        ({"args": ["--api-key", "anything", "--seed", "1"]}, {"args": ["--api-key", "***", "--seed", "1"]}),
        ({"args": ["--api-key=anything", "x"]}, {"args": ["--api-key=***", "x"]}),
        ({"args": ["--api-key anything"]}, {"args": ["--api-key ***"]}),
        ({"password": 1234567890, "token": 0.5}, {"password": "***", "token": "***"}),
        ({"apiKeys": ["anything", 7], "hf_tokens": ["anything"]}, {"apiKeys": ["***", "***"], "hf_tokens": ["***"]}),
        ({"credentials": {"user": {"a": ["b"]}, "b": 1}}, {"credentials": {"user": {"a": ["***"]}, "b": "***"}}),
        ({"secrets": [{"name": "a", "key": "b"}]}, {"secrets": [{"name": "a", "key": "***"}]}),
        ({"binaryData": {"a.bin": "YQ=="}}, {"binaryData": {"a.bin": "***"}}),
        ({1: {None: "a"}}, {"1": {"None": "a"}}),
        *((each, each) for each in (
            {"secret": {"secretName": "a", "defaultMode": 288, "items": [{"key": "tls.crt", "path": "server.crt"}]}},
            {"serviceAccountToken": {"audience": "a", "expirationSeconds": 600, "path": "token"}},
            {"imagePullSecrets": [{"name": "a"}], "enginePullSecrets": ["a"], "secretName": "a", "token": None},
            {"timeToFirstToken": {"p50": "1s"}, "timePerOutputToken": 1.5, "tokensPerSecond": 51, "firstToken": "99.5"},
            {"apiKey": {"secretKeyRef": {"name": "hf", "key": "token"}}, "maxBatchedTokens": 2048},
            {"losses": [{"tokens": 4096, "wantedTokens": 8}], "windows": [{"tokens": "1 2 3"}]},
            {"perMillionTokens": "0.4", "experts_per_token": 2, "inputTokens": 64, "key": "a", "keys": ["a"]},
        )),
        ({"message": f"401 for {TOKEN}"}, {"message": "401 for ***"}),
        ({"image": "reg.example/x@sha256:0a1b", "replicas": 3}, {"image": "reg.example/x@sha256:0a1b", "replicas": 3}),
    ],
)  # fmt: skip
def test_values_are_taken_out_by_their_place_and_by_their_look(
    manifest: dict[str, Any], expected: dict[str, Any]
) -> None:
    assert shown(manifest) == expected


@pytest.mark.parametrize(
    ("value", "log", "expected"),
    [
        ("plain-secret", "asked with plain-secret today", "asked with *** today"),
        ("AbCdEfGh", f"401 for {TOKEN}", "401 for ***"),
        ("postgres://u:pw@db/plain", "at postgres://u:pw@db/plain", "at ***"),
        ("abcdefgh xyzzy", "token=abcdefgh xyzzy", "token=***"),
        ("secret:", f"secret:{TOKEN}", "***:***"),
        ("short", "a short text", "a short text"),
        ("-----", "a ----- text", "a ----- text"),
    ],
)
def test_what_was_taken_out_of_an_object_is_taken_out_of_a_log(value: str, log: str, expected: str) -> None:
    assert Redaction.of([{"env": [{"name": "X", "value": value}]}]).text(log) == expected


@pytest.mark.parametrize(
    "manifest",
    [
        {"password": 1234567890},
        {"apiKeys": ["1234567890"]},
        {"credentials": {"a": {"b": "1234567890"}}},
        {"args": ["--api-key=1234567890"]},
        {"command": ["sh", "-c", "serve --api-key '1234567890' --seed 1"]},
    ],
)
def test_every_form_in_which_a_value_is_given_makes_it_known(manifest: dict[str, Any]) -> None:
    assert Redaction.of([manifest]).text("asked with 1234567890 today") == "asked with *** today"


def test_the_key_of_a_secret_is_no_secret() -> None:
    revision = {"requested": {"apiKey": {"name": "keys", "key": "api-key"}}}
    assert Redaction.of([revision]).text("--api-key is missing") == "--api-key is missing"


def test_a_value_that_holds_another_goes_as_a_whole() -> None:
    objects = [{"environment": {"A": "plain-secret", "B": "plain-secret-and-more"}}]
    assert Redaction.of(objects).text("x plain-secret-and-more y") == "x *** y"


def test_a_private_key_goes_with_all_its_lines() -> None:
    key = "-----BEGIN RSA PRIVATE KEY-----\nMIIE\n-----END RSA PRIVATE KEY-----"
    assert Redaction().text(f"before\n{key}\nafter") == "before\n***\nafter"
    assert Redaction().text("before\n-----BEGIN PRIVATE KEY-----\nMIIE") == "before\n***", "cut off by the last lines"
