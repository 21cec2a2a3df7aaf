"""The autoscalers that are compared: how each is made for a workload, its default, and what it is tried with.

Each has the same number of trials, its default among them. What is tried is the one number that its users tune.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from benchmarks.scaling.controllers import Controller, Static, Tandem, policy_of
from benchmarks.scaling.hpa import ConcurrencyHpa, FirstTokenHpa
from benchmarks.scaling.keda import Keda
from benchmarks.scaling.knative import Knative
from benchmarks.scaling.llm_d import Band, LlmD, Source
from benchmarks.scaling.simulation import Setting
from tandem_operator.scaling.policy import Strategy

Make = Callable[[Setting, float], Controller]


@dataclass(frozen=True)
class Contestant:
    """One autoscaler."""

    name: str
    knob: str
    """What the number means."""
    default: float
    trials: tuple[float, ...]
    make: Make

    def setting_of(self, number: float) -> str:
        """For people."""
        return f"{self.knob} {number:g}" if self.knob else ""

    def with_default(self, number: float) -> Contestant:
        """The same, set otherwise."""
        return replace(self, default=number)


def _static(setting: Setting, _: float) -> Controller:
    return Static(setting.most)


def _headroom(setting: Setting, quantile: float) -> Controller:
    return Tandem(policy_of(setting.objective, least=setting.least, most=setting.most, surge_quantile=quantile))


def _concurrency(setting: Setting, requests: float) -> Controller:
    policy = policy_of(
        setting.objective,
        least=setting.least,
        most=setting.most,
        strategy=Strategy.CONCURRENCY,
        requests_per_pod=requests,
    )
    return Tandem(policy)


def _hpa(setting: Setting, target: float) -> Controller:
    return ConcurrencyHpa(target, least=setting.least, most=setting.most)


def _first_token(setting: Setting, share: float) -> Controller:
    target = share * setting.objective.first_token_seconds
    return FirstTokenHpa(target, least=setting.least, most=setting.most)


def _keda(setting: Setting, threshold: float) -> Controller:
    return Keda(threshold, least=setting.least, most=setting.most)


def _knative(_: Setting, concurrency: float) -> Controller:
    return Knative(concurrency)


def _llm_d(source: Source) -> Make:
    def make(setting: Setting, up: float) -> Controller:
        band = Band(up, up * 0.40 / 0.55)
        return LlmD(setting.objective, least=setting.least, most=setting.most, source=source, band=band)

    return make


CONTESTANTS = {
    each.name: each
    for each in (
        Contestant("headroom", "surge quantile", 0.9, (0.5, 0.7, 0.8, 0.9, 0.95), _headroom),
        Contestant("concurrency", "requests a pod", 32.0, (16.0, 24.0, 32.0, 48.0, 64.0), _concurrency),
        Contestant("hpa", "running+waiting a pod", 35.0, (16.0, 25.0, 35.0, 45.0, 60.0), _hpa),
        Contestant("hpa-ttft", "p95 TTFT over objective", 0.5, (0.2, 0.3, 0.5, 0.7, 0.9), _first_token),
        Contestant("keda", "waiting a pod", 2.0, (0.25, 0.5, 1.0, 2.0, 5.0), _keda),
        Contestant("knative", "concurrency a pod", 100.0, (25.0, 35.0, 50.0, 70.0, 100.0), _knative),
        Contestant("llm-d", "signal", 0.55, (0.35, 0.45, 0.55, 0.70, 0.85), _llm_d(Source.MEASURED)),
        Contestant("llm-d-predicted", "signal", 0.55, (0.35, 0.45, 0.55, 0.70, 0.85), _llm_d(Source.PREDICTED)),
        Contestant("static", "", 0.0, (), _static),
    )
}


def setting_for(contestant: Contestant, setting: Setting) -> Setting:
    """A static fleet has all its pods from the begin on."""
    return replace(setting, start=setting.most) if contestant.name == "static" else setting
