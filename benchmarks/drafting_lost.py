"""Drafts that cannot pay, since each comes when it is of no use any more: how soon that is known, and what it costs.

At depth 0 and at the depth that the product chooses, with every answer `DELAY_MS` late: beyond the deadline of a step,
and later than all that is drafted ahead reaches.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

from benchmarks.pairs import Way, engines_of, measured
from benchmarks.report import options_of, report
from benchmarks.switch import ADAPTIVE, StepRecord
from deploy.fixtures.pair import model_pair
from tandem_contracts.launch import DraftEngine
from tests.runtime.relay import Relay

DELAY_MS = 600
MOST = 8
ROUNDS = 3
PROMPTS = {1: 3, 4: 8, 8: 16}
"""How many are decoded at once, and how many in all."""
SETTLED_STEPS = 16
"""So many in a row at depth 0: a look at another depth is one step."""
MOST_STEPS = 200
LEAST_SPEED = 0.95


def main() -> int:
    """Measure and report."""
    options = options_of("drafting_lost", __doc__)
    figures: dict[str, float] = {}
    lines = ["batch   chosen over depth 0             steps to depth 0"]
    models = model_pair()
    with engines_of(models) as engines:
        drafts, address = engines.drafts(DraftEngine.TRANSFORMERS)
        drafts.wait_until_ready()
        with Relay(address) as relay:
            verifier, switch = engines.switched({"late": relay.address}, MOST)
            verifier.wait_until_ready()
            relay.delay_seconds = DELAY_MS / 2000
            for batch, count in PROMPTS.items():
                prompts, ratios, settled = models.prompts()[:count], [], []
                for _ in range(ROUNDS):
                    without = measured(Way(verifier, "late", 0), prompts, batch, switch)
                    switch.start_anew()
                    chosen = measured(Way(verifier, "late", ADAPTIVE), prompts, batch, switch)
                    ratios.append(chosen.tokens_per_second / without.tokens_per_second)
                    settled.append(steps_to_depth_0(chosen.records))
                suffix, typical, longest = "" if batch == 1 else f"_b{batch}", median(ratios), max(settled)
                figures |= {f"lost_over_depth_0{suffix}": typical, f"lost_steps_to_depth_0{suffix}": float(longest)}
                is_met = typical >= LEAST_SPEED and longest <= MOST_STEPS
                lines.append(
                    f"{batch:5}   {typical:.2f} ({min(ratios):.2f} to {max(ratios):.2f}), wanted {LEAST_SPEED}"
                    f"   {longest}, wanted {MOST_STEPS}   {'met' if is_met else 'NOT MET'}"
                )
    report("drafting_lost", figures, table="\n".join(lines), path=options.json)
    return 0


def steps_to_depth_0(steps: Sequence[StepRecord]) -> int:
    """Steps before the first of `SETTLED_STEPS` at depth 0, once drafts were tried."""
    depths = [step.depth for step in steps]
    tried = next((at for at, depth in enumerate(depths) if depth), None)
    if tried is None:
        raise RuntimeError(f"no drafts were asked for in {len(depths)} steps: there was nothing to learn from")
    for at in range(tried, len(depths)):
        if not any(depths[at : at + SETTLED_STEPS]):
            return at
    return len(depths)


if __name__ == "__main__":
    raise SystemExit(main())
