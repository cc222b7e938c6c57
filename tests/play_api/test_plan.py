"""The plan as data: whether it holds together, and what it says of itself."""

from __future__ import annotations

import msgspec
import pytest

from chassis.contracts.profiles import ALLOCATE
from play_api.plan import BUDGET_S, DEGRADE, PLAN, Criticality, Step, check


def step(name: str, *needs: str) -> Step:
    return Step(name, ALLOCATE, DEGRADE, 1.0, fallback="", never="", needs=needs)


def test_the_plan_of_a_play_holds_together() -> None:
    check(PLAN)


@pytest.mark.parametrize(
    ("plan", "said"),
    [
        ([], "no steps"),
        ([step("a"), step("a")], "a is in the plan twice"),
        ([step("a", "b"), step("b")], "a needs .'b'."),
        ([step("a", "a")], "a needs .'a'."),
        ([step("a", "nowhere")], "nowhere"),
    ],
    ids=["empty", "twice", "later", "itself", "nowhere"],
)
def test_a_plan_that_cannot_be_run_is_refused(plan: list[Step], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        check(plan)


@pytest.mark.parametrize("one", PLAN, ids=lambda one: one.name)
def test_each_step_says_what_stands_in_for_it_and_what_never_may(one: Step) -> None:
    assert one.fallback and one.never
    assert 0 < one.timeout_s < BUDGET_S


@pytest.mark.parametrize("one", PLAN, ids=lambda one: one.name)
def test_each_step_is_a_call_that_may_be_repeated(one: Step) -> None:
    assert one.call.idempotent
    assert issubclass(one.call.request, msgspec.Struct)


def test_what_may_be_left_out_is_never_needed_by_what_may_not() -> None:
    """A critical step may need a degradable one only where that always has a stand-in."""
    degradable = {one.name for one in PLAN if one.criticality is Criticality.DEGRADE}
    needed = {need for one in PLAN if one.criticality is Criticality.CRITICAL for need in one.needs}
    assert needed & degradable <= {"profiles"}


def test_only_what_holds_something_has_to_be_undone() -> None:
    assert [one.name for one in PLAN if one.compensation] == ["sessions"]
