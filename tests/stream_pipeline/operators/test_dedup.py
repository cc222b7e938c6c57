"""The window against a model that remembers everything."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from stream_pipeline.operators.dedup import WIDTH, Verdict, observe, signed, unsigned


@given(st.lists(st.integers(0, 200), max_size=120))
def test_a_number_is_fresh_once_and_a_duplicate_ever_after(seqs: list[int]) -> None:
    last, window, seen = -1, 0, set[int]()
    for seq in seqs:
        highest = max(seen, default=-1)
        verdict, last, window = observe(last, window, seq)
        if seq <= highest - WIDTH:
            assert verdict is Verdict.LATE
        elif seq in seen:
            assert verdict is Verdict.DUPLICATE
        else:
            assert verdict is Verdict.FRESH
            seen.add(seq)
        assert last == max(seen)


@given(st.integers(0, (1 << 64) - 1))
def test_every_window_survives_a_signed_column(window: int) -> None:
    assert -(1 << 63) <= signed(window) < 1 << 63
    assert unsigned(signed(window)) == window


def test_the_window_holds_sixty_four_numbers_and_not_one_more() -> None:
    _, last, window = observe(-1, 0, 100)
    assert observe(last, window, 100 - WIDTH + 1)[0] is Verdict.FRESH
    assert observe(last, window, 100 - WIDTH)[0] is Verdict.LATE
