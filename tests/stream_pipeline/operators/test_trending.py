"""Forward decay against decay worked out from every start."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chassis.contracts.viewing import TrendingPartial
from stream_pipeline.operators.trending import TITLES_LIMIT, trending
from tests.support.watching import BEGAN_MS, start

HALF_LIFE_S = 3600.0
starts = st.lists(
    st.tuples(st.sampled_from(["t1", "t2", "t3"]), st.integers(0, 100 * 3_600_000)),
    min_size=1,
    max_size=40,
)


def folded(told: list[tuple[str, int]]) -> TrendingPartial:
    row = None
    for version, (title, after_ms) in enumerate(told, start=1):
        event = start(title=title, at_ms=BEGAN_MS + after_ms)
        row = trending(row, event, "play.lifecycle/0", version, HALF_LIFE_S)
    assert row is not None
    return row


@given(starts)
def test_the_decayed_sum_is_that_of_all_starts(told: list[tuple[str, int]]) -> None:
    now = max(after for _, after in told)
    row = folded(told)
    factor = 2.0 ** -((BEGAN_MS + now - row.landmark_ms) / (HALF_LIFE_S * 1000))
    for title in ("t1", "t2", "t3"):
        expected = sum(
            2.0 ** -((now - after) / (HALF_LIFE_S * 1000)) for name, after in told if name == title
        )
        assert row.scores.get(title, 0.0) * factor == pytest.approx(expected, rel=1e-6, abs=1e-9)
    assert row.count == len(told)


def test_a_partial_stays_small_and_keeps_the_best() -> None:
    told = [(f"t{n}", 0) for n in range(2 * TITLES_LIMIT)] + [("hit", 0)] * 3 + [("new", 0)]
    row = folded(told)
    assert len(row.scores) <= 2 * TITLES_LIMIT
    assert row.scores["hit"] >= 2


def test_years_of_starts_stay_within_a_float() -> None:
    row = folded([("t1", year * 365 * 86_400_000) for year in range(30)])
    assert 0 < row.scores["t1"] < 3
    assert row.landmark_ms > BEGAN_MS
