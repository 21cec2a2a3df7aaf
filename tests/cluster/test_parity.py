"""The API server and pydantic judge the same resource alike: thousands of generated ones go to both.

Compared are the verdict, the paths that are named, and the messages of the rules, letter for letter, with the values
in them. An unknown field is left out here: the API server refuses it by strict validation, and an operator must
survive one of a newer CRD.
"""

from __future__ import annotations

import asyncio
import json
import re
import secrets
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import pytest
from kubernetes.aio import client, config

from deploy.local.kubectl import Kubectl
from deploy.place import Place, PlaceError
from tandem_operator import names
from tandem_operator.api.crd import crd_schema
from tandem_operator.api.deployment import InvalidSpecError, LLMDeployment
from tests.clusters import make_namespace
from tests.documents import (
    SHORTEST,
    Document,
    Path,
    Schema,
    body_of,
    changed,
    combinations,
    every_flag,
    every_single_change,
    own_drafts,
)

pytestmark = pytest.mark.timeout(300)

SPEC = crd_schema()["properties"]["spec"]
KIBIBYTE = 2**10
AT_ONCE = 16
LIMIT_SECONDS = 20
COMBINATIONS = 300
NO_PATH = "<nil>"
NOT_CHECKED = "some validation rules were not checked"


@dataclass(frozen=True)
class Verdict:
    """What a judge says: the paths at which the schema is broken, and the rules that are, each with its path.

    `skipped`: it found the resource too broken to look at the rules.
    """

    paths: frozenset[str] = frozenset()
    rules: frozenset[tuple[str, str]] = frozenset()
    """Messages as they were told, the values that they show included."""
    skipped: bool = False

    @property
    def is_accepted(self) -> bool:
        return not self.paths and not self.rules

    def __str__(self) -> str:
        return f"{sorted(self.paths)} {sorted(self.rules)}" if not self.is_accepted else "yes"


def rules_of(schema: Schema) -> Iterator[str]:
    """Messages of every rule of a schema."""
    yield from (rule["message"] for rule in schema.get("x-kubernetes-validations", []))
    children = [*schema.get("properties", {}).values(), schema.get("items"), schema.get("additionalProperties")]
    for child in filter(None, children):
        yield from rules_of(child)


RULES = frozenset(rules_of(SPEC))


def judged_by_pydantic(document: Document) -> Verdict:
    try:
        LLMDeployment.parse(body_of(document.spec))
    except InvalidSpecError as error:
        return _verdict((fault.path, fault.allowed) for fault in error.faults)
    return Verdict()


def judged_by_the_api_server(answer: dict[str, Any]) -> Verdict:
    causes = [(cause.get("field", ""), cause.get("message", "")) for cause in answer["details"]["causes"]]
    return _verdict((_KEY.sub(r".\1", path), message) for path, message in causes)


_KEY = re.compile(r"\[([^]]*[^]0-9][^]]*)]")
"""A key of a map in a path: rules put it in brackets, and keywords behind a dot."""
_LIST = re.compile(r"\[(.*)](?=\)$)")
"""What a rule shows of a map, in whatever order it was read."""


def _in_order(message: str) -> str:
    return _LIST.sub(lambda found: ", ".join(sorted(found[1].split(", "))), message)


def _verdict(faults: Iterable[tuple[str, str]]) -> Verdict:
    """Faults are pairs of path and message."""
    paths, rules, skipped = set(), set(), False
    for path, message in faults:
        broken = {_in_order(message[message.index(rule) :]) for rule in RULES if rule in message}
        if NOT_CHECKED in message:
            skipped = True
        elif path.startswith(".") or path == NO_PATH:
            continue  # the scale subresource finds no replicas in what is no object; a type is complained of twice
        elif broken:
            rules |= {(path, rule) for rule in broken}
        else:
            paths.add(path)
    return Verdict(frozenset(paths), frozenset(rules), skipped)


async def _ask_all(place: Place, namespace: str, documents: list[Document]) -> list[Verdict]:
    api = await config.new_client_from_config(config_file=str(place.kubeconfig))
    resources, turns = client.CustomObjectsApi(api), asyncio.Semaphore(AT_ONCE)

    async def ask(document: Document) -> Verdict:
        async with turns:
            try:
                await resources.create_namespaced_custom_object(
                    names.GROUP,
                    names.VERSION,
                    namespace,
                    names.PLURAL,
                    body_of(document.spec),
                    dry_run="All",
                    field_validation="Ignore",
                    _request_timeout=LIMIT_SECONDS,
                )
            except client.ApiException as refused:
                if refused.status != HTTPStatus.UNPROCESSABLE_ENTITY:
                    raise AssertionError(f"{document}: {refused.status} {refused.body}") from refused
                return judged_by_the_api_server(json.loads(refused.body))
            return Verdict()

    async with api:
        return await asyncio.gather(*map(ask, documents))


def disagreement(document: Document, ours: Verdict, theirs: Verdict) -> str:
    """How two verdicts on one document differ; empty when they do not.

    Where a field is wrong by itself, or breaks a rule of its own, pydantic does not look at the rules above it; the
    API server does, and looks at no rule at all if a fault is a grave one.
    """
    if theirs.skipped:
        agree = ours.paths == theirs.paths
    elif ours.paths:
        agree = ours.paths == theirs.paths and ours.rules <= theirs.rules
    else:
        agree = not theirs.paths and ours.rules <= theirs.rules and bool(ours.rules) == bool(theirs.rules)
    return "" if agree else f"{document}: pydantic says {ours}, the API server {theirs}"


@pytest.fixture(scope="module")
def verdicts(place: Place, parity_namespace: str) -> list[tuple[Document, Verdict, Verdict]]:
    """Every document with what pydantic and what the API server say of it."""
    several = combinations(SPEC, seed=20261125, count=COMBINATIONS)
    documents = [*every_single_change(SPEC), *every_flag(), *own_drafts(), *several]
    theirs = asyncio.run(_ask_all(place, parity_namespace, documents))
    ours = map(judged_by_pydantic, documents)
    return list(zip(documents, ours, theirs, strict=True))


@pytest.fixture(scope="module")
def parity_namespace(kubectl: Kubectl) -> Iterator[str]:
    name = f"t-{secrets.token_hex(4)}"
    make_namespace(kubectl, name)
    yield name
    kubectl.run("delete", "namespace", name, "--wait=false")


Verdicts = list[tuple[Document, Verdict, Verdict]]


def test_there_are_enough_documents_of_both_kinds(verdicts: Verdicts) -> None:
    accepted = sum(theirs.is_accepted for _, _, theirs in verdicts)
    assert len(verdicts) >= 2000
    assert accepted >= 300
    assert len(verdicts) - accepted >= 1500


def test_both_accept_and_reject_the_same_and_name_the_same_paths_and_rules(verdicts: Verdicts) -> None:
    found = [said for document, ours, theirs in verdicts if (said := disagreement(document, ours, theirs))]
    assert not found, f"{len(found)} of {len(verdicts)}:\n" + "\n".join(found[:40])


def test_every_rule_is_broken_by_some_document(verdicts: Verdicts) -> None:
    told = {message for _, _, theirs in verdicts for _, message in theirs.rules}
    assert {rule for rule in RULES if not any(message.startswith(rule) for message in told)} == set()


def test_a_rule_between_two_fields_shows_their_values(verdicts: Verdicts) -> None:
    told = {message for _, _, theirs in verdicts for _, message in theirs.rules}
    shown = {message.partition(" (")[2] for message in told if message.startswith("tensorParallel must not be above")}
    assert "tensorParallel is 4, accelerator.count is 1)" in shown


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("servedName",), "a" * KIBIBYTE * KIBIBYTE),
        (("verifier", "accelerator", "classes"), ["x" * KIBIBYTE] * KIBIBYTE),
        (("verifier", "engine"), {"args": {f"{n:0{KIBIBYTE}}": 1 for n in range(KIBIBYTE)}}),
    ],
    ids=["text", "list", "map"],
)
def test_a_resource_of_a_mebibyte_is_rejected_by_both(place: Place, namespace: str, *, path: Path, value: Any) -> None:
    body = body_of(changed({**SHORTEST, "servedName": "a"}, path, value))
    with pytest.raises(InvalidSpecError):
        LLMDeployment.parse(body)
    with pytest.raises(PlaceError, match=r"spec\." + r"\.".join(path)):
        place.run("create", "--dry-run=server", "--validate=false", "-n", namespace, "-f", "-", stdin=json.dumps(body))
