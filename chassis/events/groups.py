"""Group membership of the embedded log: members, owners, committed positions. Pure SQL steps.

Each step is one transaction on a file of its own, so that commits never wait for producers. The
group's generation grows with every change of members or owners; an owner row carries the
generation under which it was claimed, and that pair is what a commit must show. A partition that
should move is first released by its owner (cooperative rebalancing), or freed when the owner has
not been heard of for the session time.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from chassis.errors import Fenced
from chassis.events.assignor import assign
from chassis.events.log import Partition

SCHEMA = """
CREATE TABLE IF NOT EXISTS members (
  "group" TEXT, member TEXT, topics TEXT NOT NULL, heard REAL NOT NULL,
  PRIMARY KEY ("group", member)) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS owners (
  "group" TEXT, topic TEXT, partition INTEGER, member TEXT NOT NULL, generation INTEGER NOT NULL,
  PRIMARY KEY ("group", topic, partition)) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS positions (
  "group" TEXT, topic TEXT, partition INTEGER, position INTEGER NOT NULL,
  PRIMARY KEY ("group", topic, partition)) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS generations (
  "group" TEXT PRIMARY KEY, generation INTEGER NOT NULL) STRICT, WITHOUT ROWID;
"""

Owned = Mapping[Partition, int]  # partition -> generation under which it was claimed


@dataclass(frozen=True, slots=True)
class Standing:
    """A member's place after a sync: what it owns, what of it must go, and the generation."""

    owned: Owned
    surplus: frozenset[Partition]
    generation: int


def generation(connection: sqlite3.Connection, group: str) -> int:
    row = connection.execute(
        'SELECT generation FROM generations WHERE "group" = ?', (group,)
    ).fetchone()
    return row[0] if row else 0


def beat(connection: sqlite3.Connection, group: str, member: str, now: float) -> None:
    """A sign of life of a member that is still known."""
    connection.execute(
        'UPDATE members SET heard = ? WHERE "group" = ? AND member = ?', (now, group, member)
    )


def sync(
    connection: sqlite3.Connection,
    group: str,
    member: str,
    topics: frozenset[str],
    partitions: Mapping[str, int],
    now: float,
    session_s: float,
) -> Standing:
    """Joins or stays, buries the silent, claims what is due and free."""
    changed = _hear(connection, group, member, topics, now)
    changed |= _bury(connection, group, now - session_s)
    members = _members(connection, group)
    owners = {p: owner for p, (owner, _) in _owners(connection, group).items()}
    target = assign(members, _counts(members, partitions), owners)[member]
    claims = [partition for partition in target if partition not in owners]
    current = _bump(connection, group) if changed or claims else generation(connection, group)
    _claim(connection, group, member, claims, current)
    owned = {p: g for p, (owner, g) in _owners(connection, group).items() if owner == member}
    return Standing(owned, frozenset(owned.keys() - target), current)


def release(connection: sqlite3.Connection, group: str, member: str, owned: Owned) -> None:
    """Gives up what is still owned under these generations."""
    connection.executemany(
        'DELETE FROM owners WHERE "group" = ? AND topic = ? AND partition = ?'
        " AND member = ? AND generation = ?",
        [(group, *partition, member, claimed) for partition, claimed in owned.items()],
    )
    _bump(connection, group)


def leave(connection: sqlite3.Connection, group: str, member: str) -> None:
    for table in ("members", "owners"):
        connection.execute(f'DELETE FROM {table} WHERE "group" = ? AND member = ?', (group, member))
    _bump(connection, group)


def commit(
    connection: sqlite3.Connection,
    group: str,
    member: str,
    owned: Owned,
    positions: Mapping[Partition, int],
) -> None:
    """Stores positions, or raises `Fenced` when one is not owned under the generation shown."""
    owners = _owners(connection, group)
    for partition in positions:
        claim = owned.get(partition)
        if claim is None or owners.get(partition) != (member, claim):
            raise Fenced(f"{partition[0]}/{partition[1]} is no longer this member's in {group!r}")
    connection.executemany(
        'INSERT INTO positions VALUES (?, ?, ?, ?) ON CONFLICT ("group", topic, partition)'
        " DO UPDATE SET position = excluded.position",
        [(group, *partition, position) for partition, position in positions.items()],
    )


def committed(connection: sqlite3.Connection, group: str) -> dict[Partition, int]:
    rows = connection.execute(
        'SELECT topic, partition, position FROM positions WHERE "group" = ?', (group,)
    )
    return {(topic, partition): position for topic, partition, position in rows}


def _hear(
    connection: sqlite3.Connection, group: str, member: str, topics: frozenset[str], now: float
) -> bool:
    known = connection.execute(
        'SELECT 1 FROM members WHERE "group" = ? AND member = ?', (group, member)
    ).fetchone()
    connection.execute(
        'INSERT INTO members VALUES (?, ?, ?, ?) ON CONFLICT ("group", member)'
        " DO UPDATE SET heard = excluded.heard, topics = excluded.topics",
        (group, member, json.dumps(sorted(topics)), now),
    )
    return known is None


def _bury(connection: sqlite3.Connection, group: str, silent_since: float) -> bool:
    buried = connection.execute(
        'DELETE FROM members WHERE "group" = ? AND heard < ?', (group, silent_since)
    ).rowcount
    freed = connection.execute(
        'DELETE FROM owners WHERE "group" = ?1'
        ' AND member NOT IN (SELECT member FROM members WHERE "group" = ?1)',
        (group,),
    ).rowcount
    return buried + freed > 0


def _members(connection: sqlite3.Connection, group: str) -> dict[str, frozenset[str]]:
    rows = connection.execute('SELECT member, topics FROM members WHERE "group" = ?', (group,))
    return {member: frozenset(json.loads(topics)) for member, topics in rows}


def _counts(members: Mapping[str, frozenset[str]], partitions: Mapping[str, int]) -> dict[str, int]:
    wanted = frozenset[str]().union(*members.values())
    return {topic: count for topic, count in partitions.items() if topic in wanted}


def _owners(connection: sqlite3.Connection, group: str) -> dict[Partition, tuple[str, int]]:
    rows = connection.execute(
        'SELECT topic, partition, member, generation FROM owners WHERE "group" = ?', (group,)
    )
    return {(topic, number): (member, claimed) for topic, number, member, claimed in rows}


def _claim(
    connection: sqlite3.Connection,
    group: str,
    member: str,
    claims: Iterable[Partition],
    current: int,
) -> None:
    connection.executemany(
        "INSERT INTO owners VALUES (?, ?, ?, ?, ?)",
        [(group, *partition, member, current) for partition in claims],
    )


def _bump(connection: sqlite3.Connection, group: str) -> int:
    row = connection.execute(
        'INSERT INTO generations VALUES (?, 1) ON CONFLICT ("group")'
        " DO UPDATE SET generation = generation + 1 RETURNING generation",
        (group,),
    ).fetchone()
    current: int = row[0]
    return current
