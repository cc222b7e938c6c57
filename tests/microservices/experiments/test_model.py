from __future__ import annotations

from collections import Counter
from itertools import product
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chassis.contracts.profiles import Cell, EndTest, NewTest
from chassis.errors import BadRequest, Conflict, NotFound
from microservices.experiments import model
from microservices.experiments.model import Allocator, Split, StoredTest

NOW = 1_700_000_000.0
ACCOUNTS = [f"a-{number}".encode() for number in range(20_000)]


def split_test(*weights: int, salt: str = "salt", name: str = "row-order") -> StoredTest:
    cells = tuple(Cell(name=f"c{at}", weight=weight) for at, weight in enumerate(weights))
    return model.start(NewTest(name=name, cells=cells, salt=salt), "", NOW)


def chi_square(counts: Counter[Any], expected: dict[Any, float]) -> float:
    return sum((counts[name] - want) ** 2 / want for name, want in expected.items())


def bound(freedom: int) -> float:
    """About the 1 - 1e-6 quantile of chi-square (Wilson and Hilferty)."""
    part = 2 / (9 * freedom)
    return float(freedom * (1 - part + 4.75 * part**0.5) ** 3)


@pytest.mark.slow
@settings(derandomize=True)
@given(
    weights=st.lists(st.integers(1, 20), min_size=2, max_size=8),
    salt=st.text(min_size=1, max_size=20),
)
def test_cells_fill_by_their_weights(weights: list[int], salt: str) -> None:
    split = Split(split_test(*weights, salt=salt))
    counts = Counter(map(split.cell, ACCOUNTS[:4000]))
    total = sum(weights)
    expected = {f"c{at}": 4000 * weight / total for at, weight in enumerate(weights)}
    assert chi_square(counts, expected) < bound(len(weights) - 1)


def test_two_tests_split_independently() -> None:
    first, second = Split(split_test(1, 1, salt="one")), Split(split_test(1, 1, salt="two"))
    counts = Counter((first.cell(account), second.cell(account)) for account in ACCOUNTS)
    expected = {pair: len(ACCOUNTS) / 4 for pair in product(["c0", "c1"], repeat=2)}
    assert chi_square(counts, expected) < bound(3)


def test_an_account_keeps_its_cell() -> None:
    """These are what released versions answered: accounts must never move."""
    split = Split(split_test(1, 1, 2))
    again = Split(split_test(1, 1, 2))
    assert [split.cell(one) for one in ACCOUNTS[:500]] == [
        again.cell(one) for one in ACCOUNTS[:500]
    ]
    assert [split.cell(b"a-%d" % number) for number in range(6)] == PINNED


PINNED = ["c1", "c1", "c0", "c0", "c2", "c1"]


def test_a_cell_of_weight_zero_stays_empty() -> None:
    split = Split(split_test(0, 1, 0, 1, 0))
    assert {split.cell(account) for account in ACCOUNTS[:2000]} == {"c1", "c3"}


def test_another_test_moves_nobody() -> None:
    first = split_test(1, 1)
    alone = Allocator([first])
    both = Allocator([first, split_test(1, 3, salt="b", name="artwork")])
    for number in range(200):
        account = f"a{number}"
        assert both.cells(account)["row-order"] == alone.cells(account)["row-order"]


def test_an_ended_test_gives_its_winner_to_all_or_nothing_to_anybody() -> None:
    running = split_test(1, 1)
    decided = model.end(running, EndTest(name="row-order", winner="c1"), NOW + 1)
    dropped = model.end(running, EndTest(name="row-order"), NOW + 1)
    assert {Allocator([decided]).cells(f"a{n}")["row-order"] for n in range(50)} == {"c1"}
    assert Allocator([dropped]).cells("a1") == {}


def test_ending_twice_is_harmless_and_changing_the_winner_is_not() -> None:
    ended = model.end(split_test(1, 1), EndTest(name="row-order", winner="c1"), NOW)
    assert model.end(ended, EndTest(name="row-order", winner="c1"), NOW + 9) == ended
    with pytest.raises(Conflict):
        model.end(ended, EndTest(name="row-order"), NOW + 9)
    with pytest.raises(NotFound):
        model.end(None, EndTest(name="row-order"), NOW)
    with pytest.raises(BadRequest):
        model.end(split_test(1, 1), EndTest(name="row-order", winner="c9"), NOW)


def test_a_test_is_never_changed() -> None:
    test = split_test(1, 1)
    assert model.same(test, NewTest(name="row-order", cells=test.cells)) is test
    with pytest.raises(Conflict):
        model.same(test, NewTest(name="row-order", cells=test.cells, salt="other"))
    with pytest.raises(Conflict):
        model.same(test, NewTest(name="row-order", cells=test.cells[::-1]))


@pytest.mark.parametrize(
    ("name", "cells", "reason"),
    [
        ("Bad Name", [("a", 1), ("b", 1)], "lower-case"),
        ("t", [("a", 1)], "2 to 50 cells"),
        ("t", [("a", 1), ("a", 1)], "same name"),
        ("t", [("a", 0), ("b", 0)], "above 0"),
        ("t", [("a", -1), ("b", 1)], "weight must be"),
        ("t", [("a\n", 1), ("b", 1)], "lower-case"),
    ],
)
def test_a_senseless_test_is_refused(name: str, cells: list[tuple[str, int]], reason: str) -> None:
    asked = NewTest(name=name, cells=tuple(Cell(name=n, weight=w) for n, w in cells))
    with pytest.raises(BadRequest, match=reason):
        model.start(asked, "salt", NOW)
