from __future__ import annotations

from chassis.contracts.common import Maturity
from microservices.catalog.model import Catalogued, Film, titles_from


def film(line: int, title: str, released: str = "1995-05-01", **values: str) -> Film:
    return Film(line=line, title=title, released=released, **values)


def notes_of(made: Catalogued, action: str) -> list[str]:
    return [f"{n.line} {n.what}: {n.why}" for n in made.notes if n.action == action]


def test_a_plain_row_becomes_a_title_without_a_note() -> None:
    made = titles_from(
        [
            film(
                2,
                "Heat",
                "1995-12-15",
                rating="R",
                minutes="170",
                genre="Action",
                director="Michael Mann",
                audience_score="8.2",
                audience_votes="200000",
            )
        ]
    )
    (title,) = made.titles
    assert made.notes == []
    assert title.title_id == "heat-1995"
    assert (title.maturity, title.minutes, title.minutes_filled) == (Maturity.ADULTS, 170, False)
    assert (title.score, title.votes, title.director) == (8.2, 200_000, "Michael Mann")


def test_a_missing_running_time_is_the_median_of_genre_and_decade() -> None:
    known = [film(n, f"f{n}", genre="Drama", minutes=str(90 + n)) for n in (2, 3, 4)]
    made = titles_from([*known, film(9, "unknown", genre="Drama")])
    assert made.titles[-1].minutes == 93
    assert made.titles[-1].minutes_filled
    assert "9 93 minutes: median of Drama, 1990s" in notes_of(made, "filled")


def test_too_few_films_of_the_decade_fall_back_to_the_genre_and_then_to_all() -> None:
    known = [film(n, f"f{n}", f"19{n}5-01-01", genre="Drama", minutes="100") for n in (5, 6, 7)]
    made = titles_from([*known, film(8, "a", genre="Drama"), film(9, "b", genre="Horror")])
    assert "8 100 minutes: median of Drama" in notes_of(made, "filled")
    assert "9 100 minutes: median of all films" in notes_of(made, "filled")


def test_a_list_without_any_running_time_says_so() -> None:
    made = titles_from([film(2, "a", genre="Drama")])
    assert made.titles[0].minutes == 100
    assert notes_of(made, "filled") == ["2 100 minutes: no film of the source has a running time"]


def test_what_nobody_has_rated_is_for_adults() -> None:
    made = titles_from([film(n, f"f{n}", rating=r) for n, r in enumerate(("", "Open", "PG"))])
    assert [t.maturity for t in made.titles] == [Maturity.ADULTS, Maturity.ADULTS, Maturity.KIDS]
    assert len(notes_of(made, "assumed")) == 2


def test_a_remake_is_kept_and_told_apart_by_its_year() -> None:
    made = titles_from([film(2, "Crash", "1996-10-04"), film(3, "crash", "2005-05-06")])
    assert [title.title_id for title in made.titles] == ["crash-1996", "crash-2005"]
    assert notes_of(made, "remake") == ["3 of 2005: also from 1996 (line 2)"]


def test_a_remake_of_the_same_year_carries_its_whole_date() -> None:
    made = titles_from([film(2, "Crash", "1996-10-04"), film(3, "Crash", "1996-12-01")])
    assert [title.title_id for title in made.titles] == ["crash-1996", "crash-1996-12-01"]


def test_names_that_make_the_same_slug_get_ids_of_their_own() -> None:
    made = titles_from([film(2, "Up!", "2009-05-01"), film(3, "U.P.", "2009-06-01")])
    assert len({title.title_id for title in made.titles}) == 2


def test_the_same_title_on_the_same_day_is_refused() -> None:
    made = titles_from([film(2, "Crash"), film(3, "CRASH ")])
    assert len(made.titles) == 1
    assert notes_of(made, "refused") == ["3 row: line 2 has the same title and date"]


def test_rows_without_a_title_or_a_real_date_are_refused() -> None:
    made = titles_from(
        [
            film(2, "  "),
            film(3, "a", "1995-02-30"),
            film(4, "b", "19950201"),
            film(5, "c", "1700-01-01"),
            film(6, "d", ""),
        ]
    )
    assert made.titles == []
    assert [note.line for note in made.notes if note.action == "refused"] == [2, 3, 4, 5, 6]


def test_numbers_that_cannot_be_meant_are_dropped_and_said() -> None:
    values = {"minutes": "-4", "audience_score": "11", "audience_votes": "many"}
    made = titles_from([film(2, "a", **values), film(3, "b", minutes="nan")])
    assert made.titles[0].score is None
    assert made.titles[0].votes == 0
    assert made.titles[0].minutes_filled
    assert len(notes_of(made, "dropped")) == 4


def test_names_are_repaired_step_by_step() -> None:
    made = titles_from([film(2, "MÙme,  The")])
    assert made.titles[0].name == "The Môme"
    assert [note.action for note in made.notes].count("repaired") == 3


def test_an_epoch_date_is_doubtful_but_kept() -> None:
    made = titles_from([film(2, "Drei", "1969-12-31")])
    assert made.titles[0].released == "1969-12-31"
    assert len(notes_of(made, "doubtful")) == 1


def test_what_the_source_does_not_say_follows_from_the_year_and_the_votes() -> None:
    made = titles_from(
        [
            film(2, "old", "1925-01-01", minutes="100"),
            film(3, "mid", "1970-01-01"),
            film(4, "new", "2008-01-01", audience_votes="60000"),
        ]
    )
    old, mid, new = made.titles
    assert [t.protected for t in (old, mid, new)] == [False, True, True]
    assert [t.max_height for t in (old, mid, new)] == [720, 1080, 2160]
    assert [t.hdr for t in (old, mid, new)] == [(), (), ("hdr10",)]
    assert [t.audio[0].channels for t in (old, mid, new)] == [1, 2, 6]
    assert [track.language for track in old.audio] == ["en"]
    assert {track.language for track in new.audio} >= {"en", "es", "de", "ja"}
    assert old.captions[-1].role == "sdh"
    assert old.markers.credits_ms == 95 * 60_000
