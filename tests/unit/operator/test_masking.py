"""What other programs write is shown on one line and without credentials, however hostile it is."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tandem_operator.masking import masked, masked_lines, one_line

SECRETS = {
    "a Hugging Face token": ("401 for hf_AbCdEfGhIjKlMnOpQrStUvWx", "hf_AbCdEfGhIjKlMnOpQrStUvWx"),
    "an access key": ("key AKIAIOSFODNN7EXAMPLE is unknown", "AKIAIOSFODNN7EXAMPLE"),
    "a bearer token": ("sent Authorization: Bearer abc.def-ghi_jkl", "abc.def-ghi_jkl"),
    "basic credentials": ("authorization: Basic dXNlcjpwYXNzd29yZA==", "dXNlcjpwYXNzd29yZA=="),
    "a password of a URL": ("cannot pull https://user:s3cr3t@reg.example/x", "s3cr3t"),
    "a token that is a user": ("clone https://ghp_0123456789abcdefABCD@git.example/x", "ghp_0123456789abcdefABCD"),
    "a key of an API": ("Incorrect API key provided: sk-proj-0123456789aBcdef.", "sk-proj-0123456789aBcdef"),
    "an assignment": ("AWS_SECRET_ACCESS_KEY=wJalrXUtnFEMI", "wJalrXUtnFEMI"),
    "JSON": ('{"hf_token": "abcdefgh", "x": 1}', "abcdefgh"),
    "a query": ("GET /v1?api_key=0123456789&x=1", "0123456789"),
    "a ServiceAccount's token": ("jwt eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJrdWJlIn0.c2lnbmF0dXJl", "c2lnbmF0dXJl"),
}


@pytest.mark.parametrize("case", SECRETS)
def test_credentials_are_masked(case: str) -> None:
    text, secret = SECRETS[case]
    assert secret not in masked(text)
    assert "***" in masked(text)


@pytest.mark.parametrize(
    "text",
    [
        'secret "keys" not found',
        "couldn't find key token in Secret chat/keys",
        "max_num_batched_tokens (2048) is below max_model_len",
        "image registry.example/engine@sha256:abc not found",
        'MountVolume.SetUp failed for volume "keys" : secret "keys" not found',
        "https://registry.example/v2/engine/manifests/1: 404",
        "pod sk-mistral-7b-instruct-verifier-7f3a90c1-x2k9p is Pending",
        "AttributeError: 'Config' object has no attribute 'hf_quantizer'",
    ],
)
def test_what_is_no_credential_is_left_as_it_is(text: str) -> None:
    assert one_line(text) == text


def test_colours_and_newlines_do_not_get_into_a_line() -> None:
    assert (
        one_line("\x1b[31mred\x1b[0m\r\nnext\tcell\x00 \x1b]0;title\x07end\u2028\u202eback") == "red next cell end back"
    )


def test_lines_keep_how_far_they_are_indented_and_lose_colours_before_they_are_masked() -> None:
    assert masked_lines("a:\n  \x1b[31mhf_AbCdEfGhIjKlMnOpQrStUvWx\x1b[0m\n\tb\n") == "a:\n  ***\n b"


@given(st.text())
def test_any_text_becomes_one_line_and_stays_as_it_is_then(text: str) -> None:
    line = one_line(text)
    assert len(line.splitlines()) <= 1
    assert line == line.strip()
    assert one_line(line) == line


@pytest.mark.parametrize("piece", ["token", "a-", "eyJ", "a.b://", "password ", "hf_", "\x1b[", "Bearer "])
def test_a_hostile_text_takes_no_quadratic_time(piece: str) -> None:
    text = piece * 20_000
    assert len(one_line(text)) <= len(text) + 100  # a test that takes minutes fails by its limit
