"""The balancer: who gets the next attempt. Time and chance are the test's."""

from __future__ import annotations

import heapq
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chassis.discovery import Instance
from chassis.discovery.balancer import Balancer, BalancerConfig


def cluster(count: int) -> tuple[Instance, ...]:
    return tuple(Instance(f"i{n}", "test", "127.0.0.1", 9000 + n) for n in range(count))


def fail(balancer: Balancer, instance: Instance, times: int, now: float = 0.0) -> None:
    for _ in range(times):
        balancer.started(instance)
        balancer.finished(instance, 0.01, False, now)


def used(instances: tuple[Instance, ...]) -> Balancer:
    """A balancer to which all of `instances` have answered equally fast."""
    balancer = Balancer()
    balancer.pick(instances, 0.0, random.random)
    for instance in instances:
        balancer.finished(instance, 0.01, True, 0.0)
    return balancer


def reached(balancer: Balancer, instances, now: float, tries: int = 300) -> set[str]:
    chance = random.Random(1)
    return {balancer.pick(instances, now, chance.random).id for _ in range(tries)}


def simulate(latencies: list[float], *, rate: float, seconds: float) -> list[list[int]]:
    """Requests at `rate` a second; per second of time, how many each instance got."""
    instances, balancer, chance = cluster(len(latencies)), Balancer(), random.Random(7)
    ends: list[tuple[float, Instance]] = []
    shares = [[0] * len(latencies) for _ in range(int(seconds))]
    for number in range(int(rate * seconds)):
        now = number / rate
        for end, instance in sorted(ends, key=lambda one: one[0]):
            if end <= now:
                latency = latencies[instances.index(instance)]
                balancer.finished(instance, latency, True, end)
                ends.remove((end, instance))
        instance = balancer.pick(instances, now, chance.random)
        balancer.started(instance)
        ends.append((now + latencies[instances.index(instance)], instance))
        shares[int(now)][instances.index(instance)] += 1
    return shares


def test_an_empty_cluster_has_nobody_to_pick():
    assert Balancer().pick((), 0.0, random.random) is None


def test_a_single_instance_is_always_picked():
    (only,) = cluster(1)
    balancer = Balancer()
    fail(balancer, only, 50)
    assert balancer.pick((only,), 0.0, random.random) is only


def test_of_two_the_one_with_fewer_requests_in_flight_is_picked():
    instances, balancer = cluster(2), Balancer()
    balancer.pick(instances, 0.0, random.random)
    balancer.started(instances[0])
    assert reached(balancer, instances, 0.0) == {"i1"}


def test_equal_instances_share_equally():
    total = [sum(second) for second in zip(*simulate([0.01] * 4, rate=500, seconds=4), strict=True)]
    assert max(total) < 1.3 * min(total)


def test_a_twenty_times_slower_instance_of_five_gets_little_within_two_seconds():
    shares = simulate([0.01, 0.01, 0.01, 0.01, 0.2], rate=300, seconds=6)
    for second in shares[2:]:
        assert second[4] < 0.05 * sum(second)


def test_a_rise_in_latency_counts_at_once_and_a_fall_decays():
    instances, balancer = cluster(2), Balancer()
    balancer.pick(instances, 0.0, random.random)
    first = balancer.standings()["i0"]
    balancer.finished(instances[0], 0.01, True, 0.0)
    balancer.finished(instances[0], 1.0, True, 0.1)
    assert first.latency_s == 1.0
    balancer.finished(instances[0], 0.01, True, 0.2)
    assert 0.9 < first.latency_s < 1.0
    balancer.finished(instances[0], 0.01, True, 60.0)
    assert first.latency_s < 0.02


def test_failing_fast_does_not_look_like_answering_fast():
    instances, balancer = cluster(2), Balancer()
    balancer.pick(instances, 0.0, random.random)
    balancer.finished(instances[0], 0.5, True, 0.0)
    balancer.finished(instances[0], 0.0001, False, 5.0)
    assert balancer.standings()["i0"].latency_s == 0.5


def test_five_failures_in_a_row_eject_for_thirty_seconds():
    instances = cluster(3)
    balancer = used(instances)
    fail(balancer, instances[0], 4)
    assert "i0" in reached(balancer, instances, 0.0)
    fail(balancer, instances[0], 1)
    assert reached(balancer, instances, 29.9) == {"i1", "i2"}
    assert "i0" in reached(balancer, instances, 30.0)


def test_a_success_in_between_starts_the_count_anew():
    instances = cluster(3)
    balancer = used(instances)
    for _ in range(10):
        fail(balancer, instances[0], 4)
        balancer.finished(instances[0], 0.01, True, 0.0)
    assert "i0" in reached(balancer, instances, 0.0)


def test_ejections_last_longer_each_time_up_to_the_cap_and_are_forgiven():
    instances, balancer, now = cluster(3), Balancer(), 0.0
    balancer.pick(instances, now, random.random)
    standing = balancer.standings()["i0"]
    waits = []
    for _ in range(12):
        fail(balancer, instances[0], 5, now)
        waits.append(standing.ejected_until - now)
        now = standing.ejected_until
        balancer.pick(instances, now, random.random)
    assert waits[:3] == [30.0, 60.0, 90.0]
    assert max(waits) == 300.0
    fail(balancer, instances[0], 5, now + 1000)
    assert standing.ejected_until - (now + 1000) == 30.0


@pytest.mark.parametrize(("count", "most"), [(2, 1), (10, 1), (20, 2), (35, 3)])
def test_at_most_a_tenth_is_ejected_but_always_one_may_be(count, most):
    instances, balancer = cluster(count), Balancer()
    balancer.pick(instances, 0.0, random.random)
    for instance in instances:
        fail(balancer, instance, 5)
    assert sum(standing.ejected for standing in balancer.standings().values()) == most


def test_when_fewer_than_half_are_left_ejections_are_ignored():
    instances = cluster(4)
    balancer = Balancer(BalancerConfig(eject_share=1.0))
    balancer.pick(instances, 0.0, random.random)
    for instance in instances[:2]:
        fail(balancer, instance, 5)
    assert reached(balancer, instances, 0.0) == {"i2", "i3"}
    fail(balancer, instances[2], 5)
    assert len(reached(balancer, instances, 0.0)) == 4


def test_excluded_instances_are_used_again_only_when_nothing_else_is_left():
    instances, balancer = cluster(3), Balancer()
    for _ in range(50):
        assert balancer.pick(instances, 0.0, random.random, exclude={"i0", "i2"}).id == "i1"
    everybody = {"i0", "i1", "i2"}
    assert balancer.pick(instances, 0.0, random.random, exclude=everybody) is not None


def test_a_changed_list_keeps_what_is_known_of_those_that_stay():
    instances, balancer = cluster(3), Balancer()
    balancer.pick(instances, 0.0, random.random)
    fail(balancer, instances[0], 5)
    assert reached(balancer, instances[:2], 1.0) == {"i1"}
    assert set(balancer.standings()) == {"i0", "i1"}


def test_an_id_at_a_new_address_is_somebody_new():
    instances, balancer = cluster(2), Balancer()
    balancer.pick(instances, 0.0, random.random)
    fail(balancer, instances[0], 5)
    moved = (Instance("i0", "test", "127.0.0.1", 9999), instances[1])
    assert "i0" in reached(balancer, moved, 1.0)


def test_a_cancelled_attempt_only_gives_its_place_back():
    instances, balancer = cluster(2), Balancer()
    balancer.pick(instances, 0.0, random.random)
    standing = balancer.standings()["i0"]
    balancer.started(instances[0])
    balancer.finished(instances[0], 9.0, None, 1.0)
    assert (standing.in_flight, standing.latency_s, standing.failures) == (0, 0.0, 0)


def test_the_end_of_an_attempt_on_an_instance_that_left_is_harmless():
    instances, balancer = cluster(2), Balancer()
    balancer.pick(instances, 0.0, random.random)
    balancer.started(instances[0])
    balancer.pick(instances[1:], 0.0, random.random)
    balancer.finished(instances[0], 0.1, True, 1.0)
    assert set(balancer.standings()) == {"i1"}


@given(
    st.lists(st.tuples(st.integers(0, 5), st.sampled_from([True, False, None]), st.floats(0, 9)))
)
def test_there_is_always_somebody_to_pick(ends):
    instances, balancer, now, chance = cluster(6), Balancer(), 0.0, random.Random(3)
    for number, ok, pause in ends:
        now += pause
        picked = balancer.pick(instances, now, chance.random)
        assert picked in instances
        balancer.started(instances[number])
        balancer.finished(instances[number], 0.01, ok, now)
    assert all(standing.in_flight == 0 for standing in balancer.standings().values())


def lose(balancer: Balancer, instance: Instance, times: int, now: float) -> None:
    """Nobody accepts a connection there."""
    for _ in range(times):
        balancer.started(instance)
        standing = balancer.standings()[instance.id]
        balancer.ended(standing, 0.001, False, now, reached=False)


def shares(balancer: Balancer, instances, now: float, tries: int = 4000) -> dict[str, float]:
    """What part each instance gets when all answer at once and equally fast."""
    chance = random.Random(5)
    got = dict.fromkeys([one.id for one in instances], 0)
    for _ in range(tries):
        picked = balancer.pick(instances, now, chance.random)
        got[picked.id] += 1
        balancer.started(picked)
        balancer.finished(picked, 0.01, True, now)
    return {name: count / tries for name, count in got.items()}


def test_whoever_joins_warm_instances_gets_its_part_little_by_little():
    instances = cluster(5)
    balancer = used(instances[:4])
    parts = [shares(balancer, instances, now)["i4"] for now in (1.0, 3.5, 6.5, 12.0)]
    assert 0 < parts[0] < 0.06
    assert parts == sorted(parts)
    assert 0.15 < parts[-1] < 0.25


def test_those_that_start_together_share_equally_from_the_start():
    instances = cluster(4)
    assert min(shares(Balancer(), instances, 0.0).values()) > 0.2


def test_whoever_comes_back_from_an_ejection_warms_up_too():
    instances = cluster(4)
    balancer = used(instances)
    fail(balancer, instances[0], 5)
    assert "i0" not in reached(balancer, instances, 29.0)
    assert 0 < shares(balancer, instances, 31.0)["i0"] < 0.1


def test_instances_that_nobody_can_reach_are_left_out_however_many_they_are():
    instances = cluster(10)
    balancer = used(instances)
    for instance in instances[2:]:
        lose(balancer, instance, 5, 0.0)
    assert reached(balancer, instances, 0.5) == {"i0", "i1"}


def test_an_instance_nobody_can_reach_is_looked_at_again_after_a_second_then_ever_later():
    instances, now, waits = cluster(3), 0.0, []
    balancer = used(instances)
    lose(balancer, instances[0], 5, now)
    standing = balancer.standings()["i0"]
    for _ in range(8):
        waits.append(standing.ejected_until - now)
        assert "i0" not in reached(balancer, instances, standing.ejected_until - 0.01)
        now = standing.ejected_until
        balancer.pick(instances, now, random.random)
        assert not standing.ejected
        lose(balancer, instances[0], 1, now)
    assert waits == [1, 2, 4, 8, 16, 30, 30, 30]
    now = standing.ejected_until
    balancer.pick(instances, now, random.random)
    balancer.finished(instances[0], 0.01, True, now)
    assert (standing.failures, standing.absences) == (0, 0)


def test_when_nobody_can_be_reached_all_are_tried():
    instances = cluster(3)
    balancer = used(instances)
    for instance in instances:
        lose(balancer, instance, 5, 0.0)
    assert reached(balancer, instances, 0.5) == {"i0", "i1", "i2"}


def answer(balancer: Balancer, instance: Instance, good: int, bad: int) -> None:
    """Never five failures in a row."""
    for number in range(good + bad):
        ok = number * bad // (good + bad) == (number + 1) * bad // (good + bad)
        balancer.finished(instance, 0.01, ok, 1.0)


def test_a_success_rate_far_below_the_others_ejects_at_the_next_sweep():
    instances = cluster(6)
    balancer = used(instances)
    for instance in instances[1:]:
        answer(balancer, instance, 200, 2)
    answer(balancer, instances[0], 140, 60)
    assert "i0" in reached(balancer, instances, 9.0)
    assert "i0" not in reached(balancer, instances, 10.5)
    assert "success rate" in balancer.standings()["i0"].why


@pytest.mark.parametrize(("count", "calls"), [(4, 200), (6, 60)])
def test_too_few_instances_or_calls_say_nothing_of_success_rates(count, calls):
    instances = cluster(count)
    balancer = used(instances)
    for instance in instances[1:]:
        answer(balancer, instance, calls, 0)
    answer(balancer, instances[0], calls // 2, calls // 2)
    assert "i0" in reached(balancer, instances, 10.5)


def test_what_active_checks_find_unfit_is_not_chosen_until_they_find_it_fit():
    instances = cluster(3)
    balancer = used(instances)
    balancer.checked("i1", healthy=False)
    assert reached(balancer, instances, 0.0) == {"i0", "i2"}
    balancer.checked("i1", healthy=True)
    assert "i1" in reached(balancer, instances, 0.0)


def test_checks_that_find_more_than_half_unfit_are_not_believed():
    instances = cluster(3)
    balancer = used(instances)
    for name in ("i0", "i1"):
        balancer.checked(name, healthy=False)
    assert len(reached(balancer, instances, 0.0)) == 3


def test_of_whom_nothing_is_known_is_tried_before_one_that_is_known_to_be_slow():
    instances, balancer = cluster(2), Balancer()
    balancer.pick(instances, 0.0, random.random)
    balancer.finished(instances[0], 2.0, True, 0.0)
    assert reached(balancer, instances, 0.5) == {"i1"}


def test_who_was_overtaken_by_a_second_attempt_is_known_to_be_slow():
    instances = cluster(2)
    balancer = used(instances)
    balancer.started(instances[0])
    balancer.superseded(balancer.standings()["i0"], 0.5, 0.5)
    assert balancer.standings()["i0"].in_flight == 0
    assert reached(balancer, instances, 0.5) == {"i1"}


def test_two_balancers_do_not_herd():
    """Each sees only its own requests; what an instance takes grows with all it has in hand."""
    instances, chance = cluster(5), random.Random(11)
    balancers = (Balancer(), Balancer())
    hands = dict.fromkeys([one.id for one in instances], 0)
    ends: list[tuple[float, int, Balancer, Instance, float]] = []
    most, step = 0, 0.0005
    for number in range(12_000):
        now = number * step
        while ends and ends[0][0] <= now:
            end, _, asking, instance, begun = heapq.heappop(ends)
            hands[instance.id] -= 1
            asking.finished(instance, end - begun, True, end)
        asking = balancers[number % 2]
        instance = asking.pick(instances, now, chance.random)
        asking.started(instance)
        hands[instance.id] += 1
        heapq.heappush(ends, (now + 0.0015 * hands[instance.id], number, asking, instance, now))
        if now > 1:
            most = max(most, hands[instance.id])
    assert most < 12, "all went to the same instance at once"


def test_a_further_attempt_goes_where_the_last_one_did_not_fail():
    instances, chance = cluster(4), random.Random(3)
    balancer = used(instances)
    fail(balancer, instances[1], 1)
    fail(balancer, instances[2], 1)
    found = {balancer.pick(instances, 0.0, chance.random, exclude={"i0"}).id for _ in range(50)}
    assert found == {"i3"}
    found = {
        balancer.pick(instances, 0.0, chance.random, exclude={"i0", "i3"}).id for _ in range(50)
    }
    assert found == {"i1", "i2"}


def test_the_spare_is_who_was_left_out_for_its_answers_not_who_is_not_there():
    instances = cluster(4)
    balancer = used(instances)
    assert balancer.spare(()) is None
    fail(balancer, instances[1], 5)
    lose(balancer, instances[2], 5, 0.0)
    spare = balancer.spare({"i0"})
    assert spare is not None and spare.instance.id == "i1"
    assert balancer.spare({"i1"}) is None
