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
    "an option within one text": ("serve --api-key abcdefgh --seed 1", "abcdefgh"),
    "an option in a shell": ("sh -c \"serve --hf-token 'abc defgh'\"", "abc defgh"),
    "an option of a list": ("argv: ['serve', '--api-key', 'abcdefgh']", "abcdefgh"),
    "a list": ("Namespace(api_key=['abcdefgh', 'ijklmnop'], port=1)", "ijklmnop"),
    "a list of Python's": ("{'api_key': ['abcdefgh']}", "abcdefgh"),
    "a map": ('{"apiKeys": {"of-one": "abcdefgh"}}', "abcdefgh"),
    "several words": ('password: "abc def ghi"', "ghi"),
    "a quote within a quote": ('password="abc\'defghi"', "defghi"),
    "JSON within JSON": (r'{"message": "{\"api_key\": \"abcdefgh\"}"}', "abcdefgh"),
    "a fine-grained token of GitHub": ("github_pat_11abcdefg0_abcdefghijkl", "abcdefghijkl"),
    "a signature of S3": ("GET /x?X-Amz-Signature=0123456789abcdef&x=1", "0123456789abcdef"),
    "a session of S3": ("GET /x?X-Amz-Security-Token=IQoJb3JpZ2lu%2F&x=1", "IQoJb3JpZ2lu"),
    "a signature of Google's store": ("GET /x?X-Goog-Signature=0123456789abcdef", "0123456789abcdef"),
    "a signature of Azure's store": ("GET /x?sv=1&sig=0123456789abcdefABCD%2Bx%3D", "0123456789abcdefABCD"),
    "a signed address within another": ("GET /?url=x%3FX-Amz-Signature%3D0123456789abcdef", "0123456789abcdef"),
    "a cookie": ("Set-Cookie: session=abcdef0123; Path=/", "abcdef0123"),
    "a cookie that is sent": ("> cookie: a=1; session=abcdef0123", "abcdef0123"),
    "a key of an API in lower case": ("Incorrect API key: sk-0123456789abcdefghij.", "sk-0123456789abcdefghij"),
    "a key of a project in lower case": ("got sk-proj-0123456789abcdefghij", "0123456789abcdefghij"),
    "a key of NVIDIA's": ("got nvapi-abcdefghijklmnopqrst", "abcdefghijklmnopqrst"),
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
        "vllm:time_to_first_token: 0.01234, time_per_output_token=0.01234, experts_per_token: 123456",
        "--max-num-batched-tokens 8192 --api-key --seed",
        "tokens: [101, 102, 103], signature: (self, tokens), design=0123456789abcdefghij",
        "AttributeError: 'Config' object has no attribute 'hf_quantizer'",
    ],
)
def test_what_is_no_credential_is_left_as_it_is(text: str) -> None:
    assert one_line(text) == text


@pytest.mark.parametrize("case", SECRETS)
def test_what_is_masked_stays_as_it_is(case: str) -> None:
    text, _ = SECRETS[case]
    assert masked(masked(text)) == masked(text)


def test_only_the_value_is_taken_out() -> None:
    assert masked("serve --api-key 'abcdefgh' --seed 1") == "serve --api-key '***' --seed 1"
    assert masked("{'api_key': ['abcdefgh'], 'port': 1}") == "{'api_key': [***], 'port': 1}"
    assert masked(r'"{\"api_key\": \"abcdefgh\", \"x\": 1}"') == r'"{\"api_key\": \"***\", \"x\": 1}"'


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


@pytest.mark.parametrize(
    "piece",
    [
        "token",
        "a-",
        "eyJ",
        "a.b://",
        "password ",
        "hf_",
        "\x1b[",
        "Bearer ",
        "sk-a-",
        "token=[",
        "secrets={",
        "--token ",
        "token='",
        'token=\\"',
        "sig=",
    ],
)
def test_a_hostile_text_takes_no_quadratic_time(piece: str) -> None:
    text = piece * 20_000
    assert len(one_line(text)) <= len(text) + 100  # a test that takes minutes fails by its limit
