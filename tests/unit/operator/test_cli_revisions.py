"""`tandem rollback`: which revision it goes back to, and that the spec then asks for exactly that revision."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from tandem_contracts.launch import Role
from tandem_operator import names
from tandem_operator.api.deployment import LLMDeployment
from tandem_operator.cli.inputs import CommandError
from tandem_operator.cli.main import main
from tandem_operator.cli.revisions import (
    REFRESH,
    ROLLBACK,
    chosen_revision,
    is_asked_for,
    least_changed,
    require_valid,
    rolled_back,
    told_of_refresh,
)
from tandem_operator.facts import Facts, Manifest, RevisionFacts
from tests.builders import NAME, NAMESPACE, make_body, make_config, make_role, make_spec
from tests.unit.operator.rollouts import started
from tests.unit.operator.simulation import Operator
from tests.unit.operator.user_cluster import user_cluster

FIRST, SECOND, THIRD = (
    RevisionFacts(Role.VERIFIER, name, number, {}, {}, {}) for number, name in enumerate(("one", "two", "three"), 1)
)
DRAFT = RevisionFacts(Role.DRAFT, "draft", 9, {}, {}, {})
FACTS = Facts(revisions=(FIRST, SECOND, THIRD, DRAFT))


@pytest.mark.parametrize(
    ("facts", "present", "asked", "chosen"),
    [
        (FACTS, "three", None, "two"),
        (FACTS, "two", None, "three"),
        (FACTS, "three", "one", "one"),
        (FACTS, "", None, "three"),
        (replace(FACTS, revisions=(FIRST, replace(SECOND, failed="late"), THIRD)), "three", None, "one"),
    ],
)
def test_a_rollback_goes_to_the_newest_other_revision_or_the_named_one(
    facts: Facts, present: str, asked: str | None, chosen: str
) -> None:
    found = chosen_revision(facts, Role.VERIFIER, asked=frozenset({present}), serving=present, revision=asked)
    assert found.revision == chosen


def test_what_serves_comes_before_a_newer_one_that_failed_and_lost_its_mark() -> None:
    def chosen(*asked: str) -> str:
        return chosen_revision(FACTS, Role.VERIFIER, asked=frozenset(asked), serving="one", revision=None).revision

    assert chosen("three") == "one"
    assert chosen() == "one", "the spec is refused, and asks for none"
    assert chosen("one") == "three"


@pytest.mark.parametrize("asked", ["draft", "nonsense"])
def test_an_unknown_revision_is_refused_with_those_there_are(asked: str) -> None:
    with pytest.raises(CommandError, match=f"--to .is {asked}.: must be .* there are: two, one"):
        chosen_revision(FACTS, Role.VERIFIER, asked=frozenset({"three"}), serving="three", revision=asked)


def test_without_an_earlier_revision_there_is_nothing_to_go_back_to() -> None:
    with pytest.raises(CommandError, match="there are: none"):
        chosen_revision(
            Facts(revisions=(FIRST,)), Role.VERIFIER, asked=frozenset({"one"}), serving="one", revision=None
        )


CLIENTS = [{"podLabels": {"app": "web"}}]
NGRAM = make_spec(draft=None, speculation={"method": "NGram", "maxDepth": 2})


def make_in_engine(kind: str, path: str) -> Manifest:
    model = make_role(path)["model"]
    return make_spec(draft=None, speculation={"method": "InEngine", "inEngine": {"kind": kind, "model": model}})


def make_access(key: str) -> Manifest:
    return {"allowedFrom": CLIENTS, "apiKey": {"secretKeyRef": {"name": "keys", "key": key}}}


def make_secured(secret: str) -> Manifest:
    return make_spec(speculation={"method": "Remote", "maxDepth": 4, "tls": {"secretName": secret}})


EAGLE = make_in_engine("EAGLE3", "head")


def _target(operator: Operator, role: Role) -> str:
    return operator.intent(operator.facts()).wants[role].target.revision


@pytest.mark.parametrize(
    ("role", "before", "after"),
    [
        (Role.VERIFIER, make_spec(), make_spec(verifier=make_role("other", replicas=4))),
        (Role.VERIFIER, make_spec(), make_spec(servedName="renamed")),
        (Role.VERIFIER, make_spec(), make_spec(speculation={"method": "NGram", "maxDepth": 2})),
        (Role.VERIFIER, make_spec(draft=None, speculation={"method": "Off"}), make_spec()),
        (Role.VERIFIER, make_spec(verifier=make_role(image="x:1")), make_spec()),
        (Role.DRAFT, make_spec(), make_spec(draft=make_role("other"))),
        (Role.VERIFIER, NGRAM, EAGLE),
        (Role.VERIFIER, EAGLE, NGRAM),
        (Role.VERIFIER, EAGLE, make_in_engine("EAGLE3", "another-head")),
        (Role.VERIFIER, make_spec(access=make_access("one")), make_spec(access=make_access("two"))),
        (Role.VERIFIER, make_spec(access=make_access("one")), make_spec()),
        (Role.VERIFIER, make_spec(), make_secured("tls")),
        (Role.VERIFIER, make_secured("tls"), make_spec()),
        (Role.VERIFIER, make_secured("tls"), make_secured("other-tls")),
        (Role.VERIFIER, make_secured("tls"), make_spec(speculation={"method": "NGram", "tls": {"secretName": "tls"}})),
        (Role.VERIFIER, make_spec(access={"allowedFrom": CLIENTS}), make_spec(access=make_access("one"))),
    ],
)
def test_after_a_rollback_the_spec_asks_for_the_former_revision(role: Role, before: Manifest, after: Any) -> None:
    operator = started(before)
    operator.config = make_config(engineImageAllowList=[".*"])
    operator.converge()
    former = operator.intent(operator.facts()).wants[role].target
    operator.change_spec(after)
    operator.converge()
    assert _target(operator, role) != former.revision
    back = rolled_back(operator.body["spec"], role, former.requested)
    LLMDeployment.parse(make_body(back))
    assert not is_asked_for(operator.body, role, former)
    assert is_asked_for({**operator.body, "spec": back}, role, former)
    assert set(back[role].get("engine", {})) <= set(before[role].get("engine", {})), "no defaults are written out"
    assert back[role].get("replicas") == after[role].get("replicas")
    operator.change_spec(back)
    assert _target(operator, role) == former.revision


READY = {"type": "Ready", "status": "True", "reason": "RolledOut", "message": "2 verifiers"}


@pytest.mark.parametrize(
    ("conditions", "told"),
    [
        ([("Ready", "True", "RolledOut"), ("VerifierReady", "True", "RevisionOutdated")], "rolls out: because"),
        ([("Ready", "True", "RolledOut"), ("VerifierReady", "True", "PodsReady")], "nothing will roll"),
        ([("Ready", "False", "PodsNotReady"), ("VerifierReady", "False", "PodsNotReady")], "will tell what rolls"),
        ([], "will tell what rolls"),
    ],
)
def test_a_refresh_promises_only_what_is_known(conditions: list[tuple[str, str, str]], told: str) -> None:
    written = [
        {"type": kind, "status": status, "reason": reason, "message": "because"} for kind, status, reason in conditions
    ]
    acted_on = {"observedGeneration": 3, "conditions": written}
    assert told in told_of_refresh("pair", {"metadata": {"generation": 3}, "status": acted_on})


@pytest.mark.parametrize("status", [{"observedGeneration": 3, "conditions": [READY]}, {"conditions": [READY]}, {}])
def test_a_refresh_promises_nothing_of_a_generation_that_nobody_has_acted_on(status: Manifest) -> None:
    told = told_of_refresh("pair", {"metadata": {"generation": 4}, "status": status})
    assert told == "pair: asked for; the operator has not acted on generation 4 yet\n"


def test_a_rollback_writes_no_defaults_where_nothing_was_written() -> None:
    before = make_spec(speculation=None)
    operator = started(before)
    operator.converge()
    former = operator.intent(operator.facts()).wants[Role.VERIFIER].target
    operator.change_spec({**before, "verifier": make_role("other")})
    operator.converge()
    body = operator.body
    back = rolled_back(body["spec"], Role.VERIFIER, former.requested)
    assert least_changed(body, back, role=Role.VERIFIER, chosen=former) == before


def test_a_rollback_to_drafts_that_are_not_in_the_spec_any_more_says_what_to_do_first() -> None:
    operator = started(make_spec())
    operator.converge()
    former = operator.intent(operator.facts()).wants[Role.VERIFIER].target
    operator.change_spec(NGRAM)
    operator.converge()
    back = rolled_back(operator.body["spec"], Role.VERIFIER, former.requested)
    with pytest.raises(CommandError, match=r"spec\.draft is required .*; `tandem rollback --role draft` asks for"):
        require_valid(operator.body, back, role=Role.VERIFIER, chosen=former)


@pytest.mark.parametrize("form", ["json", "yaml"])
def test_for_programs_it_is_one_document_that_says_what_was_changed(
    form: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before, after = make_spec(), make_spec(verifier=make_role("other"))
    operator = started(before)
    operator.converge()
    former = operator.intent(operator.facts()).wants[Role.VERIFIER].target.revision
    operator.change_spec(after)
    operator.converge()

    def document(command: str) -> Any:
        assert main(cluster.options(command, NAME, "-o", form)) == 0
        text = capsys.readouterr().out
        return json.loads(text) if form == "json" else yaml.safe_load(text)

    with user_cluster(tmp_path) as cluster:
        cluster.put(names.KIND, operator.body | {"metadata": {**operator.body["metadata"], "resourceVersion": "1"}})
        for revision in operator.cluster.of_kind("ControllerRevision"):
            cluster.put("ControllerRevision", revision)
        back, fresh = document("rollback"), document("refresh")
        (body,) = (each for path, each in cluster.objects.items() if path.endswith(f"/llmdeployments/{NAME}"))
    assert body["spec"] == before
    assert back.keys() == ROLLBACK.keys.keys()
    assert back == {
        "name": NAME,
        "namespace": NAMESPACE,
        "role": "verifier",
        "revision": former,
        "changed": ["spec.verifier"],
        "notes": [f"the spec asks for verifier revision {former} again; changed: spec.verifier"],
    }
    assert fresh.keys() == REFRESH.keys.keys()
    assert fresh["changed"] == [f"metadata.annotations[{names.ANNOTATION_REFRESH}]"]
    assert names.ANNOTATION_REFRESH in body["metadata"]["annotations"]
