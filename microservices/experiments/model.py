"""Tests, their cells, and which cell an account is in.

Allocation is a pure function of salt and account: 64 bits of BLAKE2b, scaled to the total weight.
So it is stable for the life of a test, uniform, and independent between tests with other salts;
nothing is stored for an account.
"""

from __future__ import annotations

import hashlib
import re
from bisect import bisect_right
from collections.abc import Iterable, Mapping
from itertools import accumulate
from typing import ClassVar

import msgspec
from msgspec.structs import replace

from chassis.contracts.keys import Key
from chassis.contracts.profiles import Cell, EndTest, KnownTest, NewTest
from chassis.errors import BadRequest, Conflict, NotFound

_NAME = re.compile(r"[a-z][a-z0-9_-]{0,63}\Z")
_MAXIMUM_CELLS = 50
_MAXIMUM_WEIGHT = 1_000_000
_MAXIMUM_SALT = 100
_SPAN = 1 << 64


class StoredTest(msgspec.Struct, frozen=True):
    """A test. Its salt and cells never change: that would move accounts between cells."""

    key: ClassVar[Key] = Key("ab_test", ("name",))

    name: str
    salt: str
    cells: tuple[Cell, ...]
    started_at: float
    ended_at: float | None = None
    winner: str | None = None


class Split:
    """A test prepared for allocation."""

    __slots__ = ("_bounds", "_cells", "_key", "_total")

    def __init__(self, test: StoredTest) -> None:
        self._cells = [cell.name for cell in test.cells]
        self._bounds = list(accumulate(cell.weight for cell in test.cells))
        self._total = self._bounds[-1]
        self._key = hashlib.blake2b(test.salt.encode(), digest_size=32).digest()

    def cell(self, account: bytes) -> str:
        digest = hashlib.blake2b(account, digest_size=8, key=self._key).digest()
        point = int.from_bytes(digest, "big") * self._total // _SPAN
        return self._cells[bisect_right(self._bounds, point)]


class Allocator:
    """All tests that give accounts a cell, prepared once and asked for every Play."""

    def __init__(self, tests: Iterable[StoredTest]) -> None:
        listed = list(tests)
        self._splits = {test.name: Split(test) for test in listed if test.ended_at is None}
        self._winners = {test.name: test.winner for test in listed if test.winner is not None}

    def __repr__(self) -> str:
        return f"Allocator(running={sorted(self._splits)}, decided={sorted(self._winners)})"

    def cells(self, account_id: str) -> Mapping[str, str]:
        """Test name to cell name."""
        account = account_id.encode()
        cells = {name: split.cell(account) for name, split in self._splits.items()}
        cells.update(self._winners)
        return cells


def start(asked: NewTest, salt: str, now: float) -> StoredTest:
    """A new test; `salt` is for one that brings none."""
    faults = [*_faults(asked)]
    if faults:
        raise BadRequest("; ".join(faults), code="test_invalid")
    return StoredTest(asked.name, asked.salt or salt, asked.cells, now)


def same(test: StoredTest, asked: NewTest) -> StoredTest:
    """The test that stands, when it is what was asked for; else `Conflict`."""
    if test.cells != asked.cells or (asked.salt or test.salt) != test.salt or test.ended_at:
        raise Conflict(
            f"there is a test {test.name!r} already, and it is another one:"
            " a test is never changed; end it and start one with a new name",
            code="test_exists",
        )
    return test


def end(test: StoredTest | None, asked: EndTest, now: float) -> StoredTest:
    if test is None:
        raise NotFound(f"there is no test {asked.name[:64]!r}", code="test_unknown")
    if asked.winner is not None and asked.winner not in [cell.name for cell in test.cells]:
        raise BadRequest(f"{asked.winner[:64]!r} is no cell of this test", code="test_invalid")
    if test.ended_at is None:
        return replace(test, ended_at=now, winner=asked.winner)
    if test.winner != asked.winner:
        raise Conflict("this test has ended with another winner", code="test_ended")
    return test


def known(test: StoredTest) -> KnownTest:
    return KnownTest(
        name=test.name,
        salt=test.salt,
        cells=test.cells,
        started_at=test.started_at,
        ended_at=test.ended_at,
        winner=test.winner,
    )


def _faults(asked: NewTest) -> Iterable[str]:
    names = [cell.name for cell in asked.cells]
    for name in (asked.name, *names):
        if not _NAME.match(name):
            yield f"{name[:64]!r} must be lower-case letters, digits, - or _, 64 at most"
    if len(set(names)) < len(names):
        yield "two cells have the same name"
    if not 2 <= len(names) <= _MAXIMUM_CELLS:
        yield f"a test needs 2 to {_MAXIMUM_CELLS} cells"
    if any(not 0 <= cell.weight <= _MAXIMUM_WEIGHT for cell in asked.cells):
        yield f"a weight must be 0 to {_MAXIMUM_WEIGHT}"
    elif not any(cell.weight for cell in asked.cells):
        yield "some cell needs a weight above 0"
    if asked.salt is not None and not 0 < len(asked.salt) <= _MAXIMUM_SALT:
        yield f"a salt has 1 to {_MAXIMUM_SALT} characters"
