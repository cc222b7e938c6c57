"""What instances say of their own load, and what it counts for. Time and chance are the test's."""

from __future__ import annotations

import heapq
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chassis.discovery import Instance
from chassis.discovery.balancer import Balancer, BalancerConfig

TRIES = 6000
Loads = list[float | None]


def cluster(count: int) -> tuple[Instance, ...]:
    return tuple(Instance(f"i{n}", "test", "127.0.0.1", 9000 + n) for n in range(count))


def report(balancer: Balancer, name: str, utilisation: float, now: float) -> None:
    balancer.reported(balancer.standings()[name], utilisation, now)


def reporting(loads: Loads, config: BalancerConfig | None = None) -> Balancer:
    """All have answered equally fast, and said this of their load at 0; None: nothing."""
    instances, balancer = cluster(len(loads)), Balancer(config)
    balancer.pick(instances, 0.0, random.random)
    for instance, load in zip(instances, loads, strict=True):
        balancer.finished(instance, 0.01, True, 0.0)
        if load is not None:
            report(balancer, instance.id, load, 0.0)
    return balancer


def parts(balancer: Balancer, now: float = 0.0, busy: dict[str, int] | None = None) -> list[float]:
    """What part of all requests each instance gets; `busy` says how many it has in hand."""
    instances = tuple(standing.instance for standing in balancer.standings().values())
    balancer.pick(instances, now, random.random)
    for name, in_flight in (busy or {}).items():
        balancer.standings()[name].in_flight = in_flight
    chance, got = random.Random(5), dict.fromkeys([one.id for one in instances], 0)
    for _ in range(TRIES):
        got[balancer.pick(instances, now, chance.random).id] += 1
    return [count / TRIES for count in got.values()]


def test_one_of_five_that_is_nearly_full_gets_clearly_less_than_its_peers() -> None:
    full, *others = parts(reporting([0.95, 0.5, 0.5, 0.5, 0.5]))
    assert 0 < full < 0.2 * min(others)
    assert max(others) < 1.2 * min(others)


def test_the_fuller_an_instance_is_the_less_it_gets_and_never_nothing() -> None:
    steps = [0.4, 0.6, 0.8, 0.9, 0.95]
    got = [parts(reporting([load, 0.5, 0.5, 0.5]))[0] for load in steps]
    assert got == sorted(got, reverse=True)
    assert got[0] > 0.25 > got[1] and got[-1] > 0.01
    assert parts(reporting([1.0, 0.5, 0.5, 0.5]))[0] == got[-1], "full is full"


@pytest.mark.parametrize("load", [0.0, 0.3, 0.9, 1.0])
def test_where_all_report_the_same_all_get_the_same(load: float) -> None:
    assert parts(reporting([load] * 5)) == pytest.approx([0.2] * 5, abs=0.02)


@pytest.mark.parametrize("load", [0.0, 0.5, 1.0])
def test_who_does_not_report_gets_an_equal_part_beside_equals_that_do(load: float) -> None:
    silent, *_ = parts(reporting([None, load, load, load]))
    assert silent == pytest.approx(0.25, abs=0.02)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_who_does_not_report_is_neither_preferred_nor_punished_beside_any_that_do(
    loads: list[float],
) -> None:
    """By what it wins of each, were all drawn equally often and equally cheap: half on average."""
    balancer = reporting([None, *loads])
    balancer.pick(cluster(len(loads) + 1), 0.0, random.random)
    silent, *others = [standing.burden for standing in balancer.standings().values()]
    won = [1 - silent / other / 2 if other > silent else other / silent / 2 for other in others]
    assert 0.8 * 0.5 < sum(won) / len(won) < 1.2 * 0.5


def test_who_does_not_report_gets_more_than_the_full_and_less_than_the_idle() -> None:
    silent, idle, full = parts(reporting([None, 0.1, 0.9]))
    assert full < silent < idle
    assert silent == pytest.approx(1 / 3, abs=0.03)


def test_a_single_report_changes_nothing_as_there_is_none_to_compare_it_with() -> None:
    assert parts(reporting([0.95, None, None, None])) == pytest.approx([0.25] * 4, abs=0.02)


@given(st.lists(st.none() | st.floats(0, 1), min_size=2, max_size=6), st.floats(0, 60))
def test_whatever_is_reported_nobody_wins_by_it_more_than_twice_an_equal_part(
    loads: Loads, later: float
) -> None:
    balancer, count = reporting([0.0, *loads]), len(loads) + 1
    instances = tuple(standing.instance for standing in balancer.standings().values())
    balancer.pick(instances, later, random.random)
    assert all(1.0 <= s.burden <= 20.000001 for s in balancer.standings().values())
    chance, won = random.Random(2), 0
    for _ in range(500):
        won += balancer.pick(instances, later, chance.random).id == "i0"
    assert won / 500 < 2 / count + 0.1


def test_one_that_always_reports_to_be_idle_is_held_back_by_what_it_has_in_hand() -> None:
    """It serves one after the other, as all do; what it gains makes it slower than the others."""
    instances, balancer, chance = cluster(5), reporting([0.0, 0.8, 0.8, 0.8, 0.8]), random.Random(4)
    free_at, got = dict.fromkeys([one.id for one in instances], 0.0), [0] * 5
    ends: list[tuple[float, int, Instance, float]] = []
    for number in range(12_000):
        now = number / 400
        while ends and ends[0][0] <= now:
            end, _, instance, begun = heapq.heappop(ends)
            report(balancer, instance.id, 0.0 if instance.id == "i0" else 0.8, end)
            balancer.finished(instance, end - begun, True, end)
        instance = balancer.pick(instances, now, chance.random)
        balancer.started(instance)
        end = free_at[instance.id] = max(now, free_at[instance.id]) + 0.01
        heapq.heappush(ends, (end, number, instance, now))
        got[instances.index(instance)] += 1
    liar, *others = [count / sum(got) for count in got]
    assert min(others) < liar < 0.26, "of an instance's fifth, and a quarter is all it can serve"


def test_reports_weigh_against_what_is_in_flight_and_do_not_replace_it() -> None:
    full, *_ = parts(reporting([0.95, 0.5]), busy={"i0": 0, "i1": 99})
    assert full == 1.0, "a hundred times as cheap, and ten times as full"


def test_a_report_that_is_old_counts_for_nothing() -> None:
    balancer = reporting([0.95, 0.5, 0.5, 0.5])
    for name in ("i1", "i2", "i3"):
        report(balancer, name, 0.5, 5.0)
    assert parts(balancer, 9.9)[0] < 0.06
    assert parts(balancer, 10.1)[0] == pytest.approx(0.25, abs=0.02)
    assert balancer.standings()["i0"].utilisation is None
    assert parts(balancer, 15.1) == pytest.approx([0.25] * 4, abs=0.02)
    assert all(standing.burden == 1.0 for standing in balancer.standings().values())


def test_for_how_long_a_report_counts_is_a_setting() -> None:
    balancer = reporting([0.95, 0.5], BalancerConfig(report_s=2.0))
    assert parts(balancer, 1.9)[0] < 0.1
    assert parts(balancer, 2.1)[0] == pytest.approx(0.5, abs=0.03)


def test_reports_are_smoothed_so_that_one_of_them_says_little() -> None:
    balancer = reporting([0.2])
    standing = balancer.standings()["i0"]
    report(balancer, "i0", 1.0, 0.1)
    assert (standing.utilisation, standing.load) == (1.0, pytest.approx(0.216, abs=0.001))
    for tenth in range(2, 200):
        report(balancer, "i0", 1.0, tenth / 10)
    assert standing.load > 0.95


def test_after_a_silence_a_report_is_taken_as_it_is() -> None:
    balancer = reporting([0.2])
    report(balancer, "i0", 0.9, 30.0)
    assert balancer.standings()["i0"].load == 0.9


def test_a_changed_list_keeps_the_reports_of_those_that_stay() -> None:
    balancer = reporting([0.95, 0.5])
    balancer.pick(cluster(3), 1.0, random.random)
    assert balancer.standings()["i0"].utilisation == 0.95
    assert balancer.standings()["i2"].utilisation is None


def swings(part: float, balancers: int, config: BalancerConfig | None = None) -> float:
    """How far an instance's load is from an equal part of it, at most, once all goes its way.

    Five instances take a hundred requests a second each, and all balancers together send `part` of
    that. Each reports with its answers what it took in the last whole second: late, and the same to
    everybody. Five milliseconds an answer: there is next to nothing in flight to go by.
    """
    instances, chance = cluster(5), random.Random(11)
    asking = [Balancer(config) for _ in range(balancers)]
    taken, told = dict.fromkeys([one.id for one in instances], 0), dict[str, float]()
    ends: list[tuple[float, int, Balancer, Instance]] = []
    seen: list[float] = []
    for number in range(int(part * 500 * 30)):
        now = number / (part * 500)
        if int(now) > int((number - 1) / (part * 500)):
            told = {name: count / 100 for name, count in taken.items()}
            seen += [abs(load / part - 1) for load in told.values() if now > 10]
            taken = dict.fromkeys(taken, 0)
        while ends and ends[0][0] <= now:
            end, _, balancer, instance = heapq.heappop(ends)
            if told:
                report(balancer, instance.id, min(1.0, told[instance.id]), end)
            balancer.finished(instance, 0.005, True, end)
        balancer = asking[number % balancers]
        instance = balancer.pick(instances, now, chance.random)
        balancer.started(instance)
        taken[instance.id] += 1
        heapq.heappush(ends, (now + 0.005, number, balancer, instance))
    return max(seen)


@pytest.mark.parametrize("balancers", [2, 8])
@pytest.mark.parametrize("part", [0.5, 0.8])
def test_balancers_that_get_the_same_late_reports_do_not_herd(part: float, balancers: int) -> None:
    assert swings(part, balancers) < 0.45, "chance alone makes 0.35"


def test_without_smoothing_they_would() -> None:
    assert swings(0.8, 2, BalancerConfig(report_smoothing_s=1e-6)) > 0.6
