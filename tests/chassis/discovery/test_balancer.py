"""The balancer: who gets the next attempt. Time and chance are the test's."""

from __future__ import annotations

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
