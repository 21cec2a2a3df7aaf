"""Specs to roll out, and questions to a simulated deployment that several files of tests ask."""

from __future__ import annotations

from tandem_contracts.launch import Role
from tandem_operator import names
from tandem_operator.facts import Manifest, Ref
from tests.builders import NAME, make_role, make_spec
from tests.unit.operator.simulation import Cluster, Operator

PAIR = make_spec()
OTHER_VERIFIER = make_spec(verifier=make_role("other"))
OTHER_DRAFT = make_spec(draft=make_role("other"))
NGRAM = make_spec(speculation={"method": "NGram"})
INVALID = make_spec(verifier=make_role(replicas=-1))
UNKNOWN_CLASS = make_spec(verifier=make_role(classes=("abacus",)))


def started(spec: Manifest = PAIR) -> Operator:
    """A deployment that serves."""
    operator = Operator(Cluster(), spec)
    operator.converge()
    return operator


def workloads(operator: Operator, role: Role) -> dict[str, int]:
    """Revision and wanted replicas of each Deployment of a role."""
    return {
        deployment["metadata"]["labels"][names.LABEL_REVISION]: deployment["spec"]["replicas"]
        for deployment in operator.cluster.of_kind("Deployment")
        if deployment["metadata"]["labels"][names.LABEL_ROLE] == role
    }


def serving(operator: Operator, service: str = NAME) -> str:
    found: str = operator.cluster.objects[Ref("Service", service)]["spec"]["selector"][names.LABEL_REVISION]
    return found


def verifier_ref(revision: str) -> Ref:
    return Ref("Deployment", f"{NAME}-verifier-{revision}")


def revision_of(spec: Manifest) -> str:
    """The verifier revision of a spec."""
    operator = Operator(Cluster(), spec)
    return operator.intent(operator.facts()).wants[Role.VERIFIER].target.revision
