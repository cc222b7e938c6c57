"""Who should own which partition: fair, sticky and the same wherever it is computed."""

from __future__ import annotations

from collections.abc import Mapping, Set

from chassis.events.log import Partition


def assign(
    members: Mapping[str, Set[str]],
    partitions: Mapping[str, int],
    owners: Mapping[Partition, str],
) -> dict[str, frozenset[Partition]]:
    """The partitions that each member should own, decided topic by topic.

    `members` maps a member to its topics, `partitions` a topic to its partition count, `owners`
    what is owned now. Members of a topic end within one partition of each other; an owner keeps
    what it has up to its share, so that a change moves as little as possible.
    """
    result: dict[str, set[Partition]] = {member: set() for member in members}
    for topic, count in sorted(partitions.items()):
        subscribed = sorted(member for member, topics in members.items() if topic in topics)
        if subscribed:
            _assign_topic(topic, count, subscribed, owners, result)
    return {member: frozenset(owned) for member, owned in result.items()}


def _assign_topic(
    topic: str,
    count: int,
    subscribed: list[str],
    owners: Mapping[Partition, str],
    result: dict[str, set[Partition]],
) -> None:
    owned: dict[str, list[Partition]] = {member: [] for member in subscribed}
    free: list[Partition] = []
    for partition in ((topic, number) for number in range(count)):
        owned.get(owners.get(partition, ""), free).append(partition)
    share, extra = divmod(count, len(subscribed))
    by_most = sorted(subscribed, key=lambda member: (-len(owned[member]), member))
    quotas = {member: share + (rank < extra) for rank, member in enumerate(by_most)}
    for member in subscribed:
        free += owned[member][quotas[member] :]
        result[member].update(owned[member][: quotas[member]])
    free.sort()
    for member in subscribed:
        want = quotas[member] - min(len(owned[member]), quotas[member])
        result[member].update(free[:want])
        del free[:want]
