"""Short runs and requests for the tests of the simulator."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from benchmarks.scaling.controllers import Sight, Static
from benchmarks.scaling.engine import Engine, Profile
from benchmarks.scaling.requests import Request, random_of
from benchmarks.scaling.router_signals import RouterSignals
from benchmarks.scaling.scraping import Fault, Scraped
from benchmarks.scaling.simulation import Run, Setting, Simulation
from tandem_operator.scaling.observed import Pod
from tandem_operator.scaling.reading import Reading


def make_requests(
    rate: float, seconds: float, *, prompt: int = 1000, output: int = 100, seed: int = 1
) -> list[Request]:
    random, at, found = random_of("test", seed), 0.0, []
    while (at := at + random.expovariate(rate)) < seconds:
        found.append(Request(at, prompt, output))
    return found


def make_engine(requests: list[Request], profile: Profile | None = None) -> Engine:
    """An engine that was given all of them at their times."""
    engine = Engine(profile or Profile(), at=0.0)
    for request in requests:
        engine.advance(request.arrival)
        engine.add(request)
    return engine


def make_run(setting: Setting, requests: list[Request], *, pods: int | None = None, seed: int = 1) -> Run:
    return Simulation(setting, Static(pods or setting.start), [requests], seed=seed).run()


@dataclass
class Fleet:
    """What an autoscaler would see, by hand."""

    wanted: int = 3
    ready: int = 3
    warming: int = 0
    in_work: int = 0
    readings: Mapping[str, Reading] = field(default_factory=dict)
    signals: RouterSignals = field(default_factory=RouterSignals)

    def sight(self, now: float) -> Sight:
        pods = [Pod(f"ready-{i}", "", 0.0, ready_at=1.0) for i in range(self.ready)]
        pods += [Pod(f"warming-{i}", "", 0.0) for i in range(self.warming)]
        return Sight(
            now=now,
            wanted=self.wanted,
            pods=pods,
            scraped=make_scraped(self.readings),
            held=0,
            in_work=self.in_work,
            signals=self.signals,
        )


def make_scraped(readings: Mapping[str, Reading]) -> Scraped:
    scraped = Scraped()
    for name, reading in readings.items():
        page = (
            f"vllm:num_requests_running {reading.running}\n"
            f"vllm:num_requests_waiting {reading.waiting}\n"
        )  # fmt: skip
        scraped.scrape(name, page.__str__, at=reading.at, fault=Fault.NO)
    return scraped
