"""What is believed of a registry's answers."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from chassis.discovery import Instance
from chassis.discovery.roster import Roster, RosterConfig

CONFIG = RosterConfig(grace_s=10.0, burst=3, swaps_per_s=1.0)


def some(*ids: str, port: int = 1) -> list[Instance]:
    return [Instance(one, "test", "127.0.0.1", port) for one in ids]


def ids(roster: Roster) -> str:
    return "".join(instance.id for instance in roster.instances)


def following(*names: str) -> Roster:
    roster = Roster(CONFIG)
    roster.answer(some(*names), 0.0)
    return roster


def test_answers_are_believed_at_once_and_ordered():
    roster = Roster(CONFIG)
    assert roster.answer(some("b", "a"), 0.0)
    assert ids(roster) == "ab"
    assert roster.answer(some("b"), 0.1)
    assert ids(roster) == "b"


def test_the_same_answer_keeps_the_same_tuple():
    roster = following("a")
    before = roster.instances
    assert not roster.answer(some("a"), 1.0)
    assert roster.instances is before


def test_a_sudden_empty_answer_is_refused_for_the_grace_period():
    roster = following("a", "b")
    assert not roster.answer([], 5.0)
    assert roster.due_s(5.0) == 10.0
    assert not roster.reconsider(14.9)
    assert ids(roster) == "ab"
    assert roster.reconsider(15.0)
    assert ids(roster) == ""
    assert roster.due_s(15.0) is None


def test_instances_that_come_back_in_the_grace_period_are_believed():
    roster = following("a", "b")
    roster.answer([], 5.0)
    assert not roster.answer(some("a", "b"), 6.0)
    assert roster.due_s(6.0) is None
    assert roster.answer(some("a"), 16.0)
    assert ids(roster) == "a"


def test_repeated_empty_answers_do_not_prolong_the_grace_period():
    roster = following("a")
    for now in (5.0, 8.0, 14.0):
        roster.answer([], now)
    assert roster.reconsider(15.0)


def test_losing_the_registry_changes_nothing_for_as_long_as_it_lasts():
    roster = following("a", "b")
    roster.lost()
    assert not roster.reconsider(1e6)
    assert ids(roster) == "ab"
    assert roster.due_s(1e6) is None


def test_a_registry_that_came_back_is_believed_about_arrivals_before_departures():
    roster = following("a", "b")
    roster.lost()
    assert roster.answer(some("b", "c"), 20.0)
    assert ids(roster) == "abc"
    assert roster.reconsider(30.0)
    assert ids(roster) == "bc"


def test_a_moved_instance_is_believed_even_in_doubt():
    roster = following("a")
    roster.lost()
    roster.answer(some("a", port=2), 20.0)
    assert roster.instances[0].port == 2


def test_a_remembered_list_serves_until_the_first_answer():
    roster = Roster(CONFIG, some("old"))
    roster.lost()
    assert ids(roster) == "old"
    assert roster.answer(some("new"), 1.0)
    assert ids(roster) == "new"


def test_a_remembered_list_is_not_emptied_by_the_first_answer():
    roster = Roster(CONFIG, some("old"))
    assert not roster.answer([], 1.0)
    assert ids(roster) == "old"


def test_flapping_is_damped_to_a_swap_a_second_and_the_last_answer_wins():
    roster = following("a")
    swaps = sum(roster.answer(some("a", *"b"[: n % 2]), n / 100) for n in range(1, 300))
    assert swaps <= 5
    due = roster.due_s(3.0)
    assert due is not None
    assert due <= 1.0
    assert roster.reconsider(3.0 + due)
    assert ids(roster) == "ab"


def test_who_comes_back_and_vanishes_again_has_a_grace_of_its_own():
    roster = following("a")
    roster.answer([], 1.0)
    roster.answer(some("a"), 2.0)
    roster.answer([], 10.0)
    roster.reconsider(11.5)
    assert ids(roster) == "a"
    roster.reconsider(20.5)
    assert ids(roster) == ""


def test_repr_tells_the_state():
    assert repr(following("a", "b")) == "Roster(following, 2 instances)"


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("answer"), st.sets(st.sampled_from("abc"))),
            st.tuples(st.just("lost"), st.just(set())),
            st.tuples(st.just("wait"), st.floats(0.1, 20)),
        )
    )
)
def test_it_never_empties_before_its_grace_and_always_settles_on_the_last_answer(steps):
    roster, now, last = Roster(CONFIG), 0.0, None
    emptied_since = None
    for kind, value in steps:
        if kind == "answer":
            now += 0.01
            had = bool(roster.instances)
            roster.answer(some(*value), now)
            last = "".join(sorted(value))
            emptied_since = (emptied_since or now) if not value and had else None
        elif kind == "lost":
            roster.lost()
            last = None
        else:
            now += value
            roster.reconsider(now)
        if not roster.instances and emptied_since is not None:
            assert now - emptied_since >= CONFIG.grace_s
    for _ in range(10):
        due = roster.due_s(now)
        if due is not None:
            now += due
            roster.reconsider(now)
    if last is not None:
        assert ids(roster) == last
