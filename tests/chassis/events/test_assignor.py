from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from chassis.events.assignor import assign
from chassis.events.log import Partition

Members = st.dictionaries(
    st.sampled_from("ABCDEF"), st.sets(st.sampled_from(["plays", "beacons"]), min_size=1)
)
Counts = st.fixed_dictionaries({"plays": st.integers(1, 12), "beacons": st.integers(1, 5)})
Owners = st.dictionaries(
    st.tuples(st.sampled_from(["plays", "beacons"]), st.integers(0, 11)), st.sampled_from("ABCDEFZ")
)


def topics_of(members: dict[str, set[str]]) -> set[str]:
    return set().union(*members.values())


@given(Members, Counts, Owners)
def test_every_partition_has_one_owner_who_subscribed(
    members: dict[str, set[str]], counts: dict[str, int], owners: dict[Partition, str]
) -> None:
    result = assign(members, counts, owners)
    everything = [partition for owned in result.values() for partition in owned]
    wanted = {(t, n) for t in topics_of(members) for n in range(counts[t])}
    assert sorted(everything) == sorted(wanted)
    for member, owned in result.items():
        assert {topic for topic, _ in owned} <= members[member]


@given(Members, Counts, Owners)
def test_shares_of_a_topic_differ_by_one_at_most(
    members: dict[str, set[str]], counts: dict[str, int], owners: dict[Partition, str]
) -> None:
    result = assign(members, counts, owners)
    for topic in topics_of(members):
        shares = [
            sum(partition[0] == topic for partition in result[member])
            for member, topics in members.items()
            if topic in topics
        ]
        assert max(shares) - min(shares) <= 1


@given(Members, Counts, Owners)
def test_the_result_is_stable_once_reached(
    members: dict[str, set[str]], counts: dict[str, int], owners: dict[Partition, str]
) -> None:
    result = assign(members, counts, owners)
    reached = {partition: member for member, owned in result.items() for partition in owned}
    assert assign(members, counts, reached) == result


@given(Members, Counts, Owners, st.randoms(use_true_random=False))
def test_members_that_act_one_by_one_reach_the_same_end(
    members: dict[str, set[str]], counts: dict[str, int], owners: dict[Partition, str], random
) -> None:
    """Each may only release what is surplus, and claim what is free, as `groups.sync` does."""
    owners = {
        p: m
        for p, m in owners.items()
        if m in members and p[0] in members[m] and p[1] < counts[p[0]]
    }
    moves = 0
    for _ in range(6 * len(members)):
        member = random.choice(sorted(members))
        target = assign(members, counts, owners)[member]
        mine = {p for p, owner in owners.items() if owner == member}
        for partition in mine - target:
            del owners[partition]
            moves += 1
        for partition in target - owners.keys():
            owners[partition] = member
    for member in [*members, *members]:
        target = assign(members, counts, owners)[member]
        owners = {p: m for p, m in owners.items() if m != member or p in target}
        owners |= dict.fromkeys(target - owners.keys(), member)
    final = {(t, n) for t in topics_of(members) for n in range(counts[t])}
    assert owners.keys() == final
    assert moves <= sum(counts.values())


def test_a_newcomer_takes_no_more_than_its_share() -> None:
    owners = {("plays", n): "A" if n < 4 else "B" for n in range(8)}
    members = {name: {"plays"} for name in "ABC"}
    result = assign(members, {"plays": 8}, owners)
    kept = sum(owners[p] == member for member, owned in result.items() for p in owned)
    assert len(result["C"]) == 2
    assert kept == 6
