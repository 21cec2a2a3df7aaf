"""How many drafts: as many as draft what is asked, none while they do not pay, and nothing is taken away unseen.

The names I1 to I18 are those of ../shared/background/autoscaling.md 6.7.
"""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tandem_operator.scaling.decision import Health
from tandem_operator.scaling.draft_memory import DraftMemory
from tandem_operator.scaling.drafting import DraftsSeen, Proposer, Said, Server
from tandem_operator.scaling.drafts import HOLD_SECONDS, MARGIN, SWITCH_SECONDS, DraftDecision, decide_drafts
from tandem_operator.scaling.observed import Observed, Pod
from tandem_operator.scaling.policy import Behavior, Bounds
from tandem_operator.scaling.reading import Reading
from tests.unit.operator.drafts_world import BEGIN, DraftPod, DraftsWorld, VerifierPod, make_draft_policy

# -- I1, I12, I18: whatever is seen ------------------------------------------------------------------------------------

NUMBERS = st.sampled_from([0.0, 1e-300, 0.5, 40.0, 1e6, 1e15])
TIMES = st.floats(BEGIN - 100, BEGIN + 100)
SAID: st.SearchStrategy[Said] = st.one_of(
    st.builds(Server, at=TIMES, tokens=NUMBERS, busy_seconds=NUMBERS),
    st.builds(Proposer, TIMES, NUMBERS, NUMBERS, NUMBERS, NUMBERS, NUMBERS, NUMBERS, NUMBERS),
)


def pods_named(names: str) -> st.SearchStrategy[list[Pod]]:
    since = st.floats(BEGIN - 1e4, BEGIN + 100)
    pods = st.builds(Pod, st.sampled_from(names), st.sampled_from("xy"), since, st.none() | since, st.booleans())
    return st.lists(pods, max_size=3, unique_by=lambda pod: pod.name)


SEEN = st.tuples(
    pods_named("abc"), pods_named("efg"), st.dictionaries(st.sampled_from("abcefg"), SAID), st.integers(0, 5)
)


@settings(max_examples=80, deadline=None)
@given(st.lists(SEEN, min_size=1, max_size=5), st.integers(0, 30), st.integers(0, 3))
def test_i1_i12_i18_whatever_pods_say_drafts_are_within_bounds_and_the_same_again(
    seen: list[tuple[list[Pod], list[Pod], dict[str, Said], int]], wanted: int, least: int
) -> None:
    def run() -> list[DraftDecision]:
        memory, asked, found = DraftMemory(), wanted, []
        for i, (verifiers, drafts, said, verifiers_wanted) in enumerate(seen):
            now = BEGIN + 70 * i
            readings = {pod.name: Reading(at=now, running=3, waiting=0) for pod in verifiers}
            of_verifiers = Observed(now, 3, tuple(verifiers), readings)
            observed = DraftsSeen(now, asked, of_verifiers, verifiers_wanted, tuple(drafts), said)
            decision, memory = decide_drafts(make_draft_policy(least, 9), observed, memory)
            asked = decision.replicas
            found.append(decision)
            assert (least <= asked <= 9) if verifiers_wanted else asked == 0
            DraftMemory.from_data(json.loads(json.dumps(memory.to_data(), allow_nan=False)))
        return found

    decisions = run()
    assert all(decision.reason for decision in decisions)
    assert decisions == run()


# -- demand over capacity ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("asked", [100.0, 1500.0, 1900.0, 3000.0, 7000.0])
def test_as_many_as_draft_what_is_asked_with_a_margin(asked: float) -> None:
    world = DraftsWorld(asked=asked)
    decision = world.run(900)
    assert decision.replicas == max(1, math.ceil(MARGIN * asked / world.capacity))
    assert decision.reason == f"needs {decision.replicas}: {asked:.0f} tokens/s are asked for, a draft gives 2000"


@pytest.mark.parametrize("asked", [100.0, 1739.0, 1740.0, 5300.0])
def test_i4_constant_demand_comes_to_rest_and_changes_nothing_more(asked: float) -> None:
    world = DraftsWorld(asked=asked)
    world.run(600)
    settled = world.wanted
    world.run(3600)
    assert {decision.replicas for decision in world.decisions[-700:]} == {settled}


def test_drafts_that_are_starting_are_not_asked_for_again() -> None:
    world = DraftsWorld(asked=3000.0, cold_start=300.0)
    world.run(60)
    asked = world.wanted
    assert asked == 2
    world.run(200)
    assert world.wanted == asked


def test_pods_with_little_to_do_say_nothing_less_of_what_they_can_give() -> None:
    world = DraftsWorld(asked=1900.0)
    world.run(120)
    world.asked, world.capacity = 300.0, 500.0  # a small batch takes nearly as long as a large one
    world.run(900)
    assert world.memory.capacity["a"] > 500
    world.asked = 3000.0
    world.run(600)
    assert world.memory.capacity["a"] == pytest.approx(500, rel=0.1), "what busy pods give is believed"


def test_steps_that_wait_in_vain_for_busy_drafts_ask_for_more_and_for_idle_ones_do_not() -> None:
    world = DraftsWorld(asked=1700.0, late=0.4)
    assert world.run(300).replicas == 2
    idle = DraftsWorld(asked=500.0, late=0.4)
    assert idle.run(300).replicas == 1


def test_no_draft_goes_while_steps_wait_in_vain() -> None:
    world = DraftsWorld(asked=5000.0)
    world.run(600)
    world.asked, world.late = 100.0, 0.4
    decision = world.run(900)
    assert decision.replicas == 3
    assert decision.reason.startswith("stays at 3 (steps wait in vain); needs 1: ")
    world.late = 0.0
    assert world.run(600).replicas == 1


def test_no_draft_goes_while_another_is_still_starting() -> None:
    world = DraftsWorld(asked=5000.0)
    world.run(600)
    world.asked, world.cold_start = 100.0, 1e9
    world.drafts.append(DraftPod("starting", world.now, None))
    world.wanted = 4
    decision = world.run(900)
    assert decision.replicas == 4
    assert decision.reason.startswith("stays at 4 (a draft is still starting); needs 1: ")
    world.drafts[-1].ready_at = world.now
    assert world.run(60).replicas == 1


def test_more_than_the_most_is_told_and_not_had() -> None:
    world = DraftsWorld(asked=60_000.0, policy=make_draft_policy(1, 3))
    decision = world.run(600)
    assert decision.replicas == 3
    assert decision.reason.startswith("needs 4:")


@pytest.mark.parametrize(("verifiers", "drafts"), [(1, 1), (4, 1), (5, 2), (9, 3)])
def test_i14_before_anything_is_measured_there_is_one_for_four_verifiers(verifiers: int, drafts: int) -> None:
    pods = [VerifierPod(f"v{i}") for i in range(verifiers)]
    world = DraftsWorld(counts=False, verifiers=pods, verifiers_wanted=verifiers)
    decision = world.run(300)
    assert decision.replicas == drafts
    assert f"{verifiers} Ready verifiers, one for 4" in decision.reason


def test_drafts_of_a_server_that_counts_nothing_go_with_verifiers_alone() -> None:
    world = DraftsWorld(counts=False, wanted=3)
    assert world.run(900).replicas == 3
    world.verifiers_wanted = 3
    assert world.tick(verifiers_before=4).replicas == 1


# -- with verifiers ----------------------------------------------------------------------------------------------------


def test_verifiers_come_first_on_the_way_up() -> None:
    world = DraftsWorld()
    world.run(60)
    world.verifiers.append(VerifierPod("new", created_at=world.now, ready_at=None))
    world.verifiers_wanted, world.asked = 5, 3000.0
    decision = world.run(100)
    assert decision.replicas == 1
    assert "a verifier is starting, which comes first" in decision.reason
    world.verifiers[-1].ready_at = world.now
    assert world.tick().replicas == 2


def test_a_verifier_that_takes_twice_its_time_to_start_holds_nothing_up() -> None:
    world = DraftsWorld()
    world.run(60)
    world.verifiers.append(VerifierPod("stuck", created_at=world.now, ready_at=None))
    world.asked = 3000.0
    assert world.run(195).replicas == 1
    assert world.run(10).replicas == 2


def test_drafts_go_first_on_the_way_down() -> None:
    assert Behavior().down.stabilization_seconds > HOLD_SECONDS
    world = DraftsWorld(asked=5000.0)
    world.run(600)
    assert world.wanted == 3
    world.asked = 1000.0
    world.run(60)
    assert world.wanted == 3, "they are held for a while"
    world.verifiers_wanted = 3
    decision = world.tick(verifiers_before=4)
    assert decision.replicas == 1
    assert "drafts go before verifiers" in decision.reason
    world.verifiers_wanted = 4
    waiting = DraftsWorld(asked=5000.0)
    waiting.run(600)
    waiting.asked = 1000.0
    assert waiting.run(2 * HOLD_SECONDS + 30).replicas == 1, "without a step of the verifiers"


def test_without_verifiers_there_is_no_draft_and_none_comes_before_a_verifier_is_ready() -> None:
    world = DraftsWorld(policy=make_draft_policy(0, 8), asked=3000.0)
    world.run(300)
    verifiers, world.verifiers, world.verifiers_wanted = world.verifiers, [], 0
    decision = world.tick(verifiers_before=4)
    assert (decision.replicas, decision.reason) == (0, "no verifiers are wanted")
    world.run(600)
    world.verifiers, world.verifiers_wanted = verifiers, 4
    for each in verifiers:
        each.ready_at = None
    assert world.run(60).replicas == 0
    verifiers[0].ready_at = world.now
    assert world.tick().replicas >= 1


# -- I2, I9 ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("silent", ["one draft", "all drafts", "a verifier", "all verifiers"])
def test_i2_pods_that_say_nothing_take_no_draft_away(silent: str) -> None:
    world = DraftsWorld(asked=5000.0)
    world.run(600)
    assert world.wanted == 3
    names = {"drafts": [pod.name for pod in world.drafts], "verifiers": [each.name for each in world.verifiers]}
    found = names["drafts" if "draft" in silent else "verifiers"]
    world.silent = set(found if "all" in silent else found[:1])
    world.asked, world.pays = 100.0, "verifier" not in silent
    decision = world.run(1800)
    assert decision.replicas >= 3
    assert decision.health is (Health.BLIND if silent == "all drafts" else decision.health)
    assert decision.health is not Health.GOOD
    assert not decision.is_off


def test_i9_paused_changes_nothing_and_goes_on_learning() -> None:
    world = DraftsWorld(policy=make_draft_policy(0, 8, is_paused=True), asked=7000.0)
    world.run(600)
    assert {decision.replicas for decision in world.decisions} == {1}
    assert world.memory.capacity["a"] == 2000


# -- I13, I14: whether drafts pay --------------------------------------------------------------------------------------


def test_drafts_that_do_not_pay_go_after_a_minute_and_as_fast_as_behavior_says() -> None:
    world = DraftsWorld(asked=5000.0)
    world.run(600)
    world.pays = False
    assert world.run(55).replicas == 3
    decision = world.run(10)
    assert (decision.replicas, decision.is_off) == (0, True)
    assert decision.reason.startswith("drafts do not pay: verifiers chose to go without; they are tried again once")
    slow = DraftsWorld(asked=5000.0, policy=replace(make_draft_policy(), behavior=Behavior()))
    slow.run(600)
    slow.pays = False
    assert slow.run(65).replicas == 2
    assert slow.run(180).replicas == 0


def test_a_draft_that_may_not_go_measures_when_it_pays_again() -> None:
    world = DraftsWorld(asked=5000.0, policy=make_draft_policy(1, 8))
    world.run(600)
    world.pays = False
    assert world.run(300).replicas == 1
    world.pays = True
    assert world.run(45).is_off
    assert not world.run(30).is_off
    assert world.run(300).replicas == 3


def test_without_drafts_they_are_tried_again_once_verifiers_have_less_to_do() -> None:
    world = DraftsWorld(load=40.0, pays=False)
    assert world.run(200).replicas == 0
    world.load = 30.0
    assert world.run(600).replicas == 0, "that is not clearly less"
    world.load, world.pays = 20.0, True
    decision = world.run(300)
    assert decision.replicas == 1
    assert not decision.is_off


def test_without_drafts_they_are_tried_again_after_an_hour_and_go_again_where_they_still_do_not_pay() -> None:
    world = DraftsWorld(pays=False)
    world.run(3 * 3600)
    tried = [
        before.replicas < after.replicas for before, after in zip(world.decisions, world.decisions[1:], strict=False)
    ]
    assert sum(tried) == 2
    assert world.wanted == 0


@pytest.mark.parametrize("pair", ["", "1/2", "1/3"])
def test_without_drafts_another_pair_of_models_is_tried_and_one_that_is_not_known_is_not(pair: str) -> None:
    world = DraftsWorld(pays=False)
    assert world.run(300).replicas == 0
    world.pair = pair
    assert world.run(60).replicas == (1 if pair == "1/3" else 0)


def test_nobody_is_there_to_try_drafts_while_there_are_no_requests() -> None:
    world = DraftsWorld(pays=False)
    world.run(200)
    world.load = 0.0
    assert world.run(3 * 3600).replicas == 0
    world.load = 1.0
    assert world.run(30).replicas == 1


def test_requests_that_are_away_do_not_mean_that_drafts_do_not_pay() -> None:
    world = DraftsWorld(load=0.0)
    decision = world.run(7200)
    assert (decision.replicas, decision.is_off) == (1, False)


def test_verifiers_that_leave_their_drafts_alone_have_not_chosen_to_go_without() -> None:
    world = DraftsWorld(asked=5000.0)
    world.run(600)
    world.is_left_alone = True
    decision = world.run(900)
    assert not decision.is_off
    assert decision.replicas == 3, "nor are fewer asked for because fewer are needed"


EPISODES = st.lists(
    st.tuples(
        st.integers(1, 60),
        st.sampled_from([0.0, 1.0, 10.0, 40.0]),
        st.booleans(),
        st.booleans(),
        st.sampled_from(["", "d0", "v0"]),
    ),
    min_size=1,
    max_size=12,
)


@settings(max_examples=40, deadline=None)
@given(EPISODES, st.integers(0, 2))
def test_i13_i14_whether_drafts_pay_changes_once_in_three_minutes_and_there_is_none_just_while_they_do_not(
    episodes: list[tuple[int, float, bool, bool, str]], least: int
) -> None:
    world, since = DraftsWorld(policy=make_draft_policy(least, 8), asked=3000.0), -math.inf
    is_off = False
    for ticks, load, pays, is_left_alone, silent in episodes:
        world.load, world.pays, world.is_left_alone, world.silent = load, pays, is_left_alone, {silent}
        for _ in range(ticks):
            decision = world.tick()
            if decision.is_off is not is_off:
                assert world.now - since >= SWITCH_SECONDS
                is_off, since = decision.is_off, world.now
            if least == 0:
                assert (decision.replicas == 0) is decision.is_off
            else:
                assert decision.replicas == least if decision.is_off else decision.replicas >= least


def test_revisions_that_are_long_gone_are_forgotten() -> None:
    world = DraftsWorld()
    for i in range(9):
        world.drafts = [DraftPod(f"pod-{i}", world.now, world.now, kind=f"kind-{i}")]
        world.run(60)
    assert list(world.memory.capacity) == ["kind-5", "kind-6", "kind-7", "kind-8"]


def test_changed_bounds_hold_at_once() -> None:
    world = DraftsWorld(asked=7000.0, policy=replace(make_draft_policy(), behavior=Behavior()))
    world.run(900)
    world.policy = replace(world.policy, bounds=Bounds(0, 2))
    assert world.tick().replicas == 2
    world.policy = replace(world.policy, bounds=Bounds(7, 9))
    assert world.tick().replicas == 7
