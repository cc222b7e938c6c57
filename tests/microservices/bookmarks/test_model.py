"""Resume positions as members see them."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chassis.contracts.viewing import BookmarkChange, ContinueWatching
from chassis.errors import BadRequest, Unprocessable
from chassis.identity import Passport
from microservices.bookmarks.model import bookmark, moved, open_mark, page, page_size, seal_mark

PASSPORT = Passport(account_id="a1", profile_id="p1", device_id="tv1", country="FR")


def row(title: str = "t1", position: int = 60_000, at: int = 1_000, **more: Any) -> Any:
    return ContinueWatching(
        profile_id="p1",
        title_id=title,
        position_ms=position,
        duration_ms=5_400_000,
        last_watched_ms=at,
        session_id="s1",
        session_started_ms=0,
        seq=1,
        **more,
    )


def test_a_title_never_watched_has_no_bookmark() -> None:
    assert not bookmark(None).found


def test_a_title_watched_to_its_end_begins_anew() -> None:
    assert bookmark(row(position=5_390_000, done=True)).position_ms == 0
    assert bookmark(row(position=60_000)).position_ms == 60_000


def test_only_what_is_worth_going_on_with_is_listed() -> None:
    shown = page([row("a"), row("b", done=True), row("c", position=0)], 10, None)
    assert [one.title_id for one in shown.bookmarks] == ["a"]
    assert shown.next is None


@given(
    st.lists(st.tuples(st.integers(0, 5), st.integers(0, 30)), unique_by=lambda one: one[1]),
    st.integers(1, 7),
)
def test_the_pages_together_hold_every_title_once_newest_first(
    drawn: list[tuple[int, int]], size: int
) -> None:
    rows = [row(f"t{title:02}", at=at) for at, title in drawn]
    shown, mark = [], None
    for _ in range(len(rows) + 1):
        one = page(rows, size, mark)
        shown += [(item.updated_ms, item.title_id) for item in one.bookmarks]
        mark = open_mark(one.next)
        if mark is None:
            break
    assert shown == sorted(((at, f"t{title:02}") for at, title in drawn), reverse=True)


@given(st.integers(0, 1 << 50), st.text(max_size=20))
def test_a_mark_comes_back_as_it_was(at: int, title: str) -> None:
    assert open_mark(seal_mark((at, title))) == (at, title)


@pytest.mark.parametrize("text", ["", "x", "!!!!", "e30", "Zm9v", "\u0661"])
def test_a_mark_of_nobodys_is_refused(text: str) -> None:
    with pytest.raises(BadRequest):
        open_mark(text)


@pytest.mark.parametrize("text", ["0", "-1", "101", "ten", "", "\u0661"])
def test_a_page_has_one_to_a_hundred(text: str) -> None:
    with pytest.raises(BadRequest):
        page_size(text)


def test_a_change_is_a_seek_in_a_session_of_its_own() -> None:
    event = moved(row(), BookmarkChange(position_ms=9_000), PASSPORT, "t1", "b-1", 50_000)
    assert (event.kind, event.id, event.position_ms) == ("seek", "b-1:1", 9_000)
    assert (event.duration_ms, event.session_started_ms) == (5_400_000, 50_000)


@pytest.mark.parametrize(
    ("known", "change"),
    [
        (None, BookmarkChange(position_ms=1)),
        (None, BookmarkChange(position_ms=1, duration_ms=1 << 40)),
        (row(), BookmarkChange(position_ms=-1)),
        (row(), BookmarkChange(position_ms=5_400_001)),
    ],
)
def test_a_change_that_makes_no_sense_is_refused(known: Any, change: BookmarkChange) -> None:
    with pytest.raises(Unprocessable):
        moved(known, change, PASSPORT, "t1", "b-1", 50_000)
