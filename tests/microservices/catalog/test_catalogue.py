from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chassis.contracts.common import Maturity
from chassis.contracts.titles import PlayableQuery
from chassis.errors import BadRequest, NotFound
from microservices.catalog.model import Catalogue, Episode, Title


def title(title_id: str, name: str = "", **values: object) -> Title:
    return Title(
        **{  # type: ignore[arg-type]
            "title_id": title_id,
            "name": name or title_id,
            "released": "2001-01-01",
            "maturity": Maturity.TEENS,
            "minutes": 100,
            **values,
        }
    )


def episode(season: int, number: int) -> Episode:
    return Episode(
        title_id="show",
        season=season,
        number=number,
        episode_id=f"show-s{season}e{number}",
        name=f"Part {number}",
        released="2002-02-02",
        minutes=45,
    )


FILMS = [
    title("leon", "Léon", votes=50, genre="Action"),
    title("napoleon", "Napoleon", votes=90),
    title("show", "A Show", kind="series", votes=10),
    title("adult", "Leon for adults", maturity=Maturity.ADULTS, votes=99),
]
EPISODES = [episode(2, 1), episode(1, 2), episode(1, 1)]
CATALOGUE = Catalogue(7, FILMS, EPISODES)


def ids(words: str = "", **asked: object) -> list[str]:
    return [one.title_id for one in CATALOGUE.page(words=words, **asked).titles]  # type: ignore[arg-type]


def test_the_most_watched_come_first() -> None:
    assert ids() == ["adult", "napoleon", "leon", "show"]


def test_search_ignores_case_and_accents_and_prefers_beginnings() -> None:
    assert ids("LÉON") == ["adult", "leon", "napoleon"]
    assert ids("leon for") == ["adult"]
    assert ids("nothing") == []


def test_a_profile_sees_what_fits_it() -> None:
    assert "adult" not in ids(maturity=Maturity.TEENS)


def test_a_genre_narrows_the_list() -> None:
    assert ids(genre="action") == ["leon"]


def test_pages_join_into_the_whole_list() -> None:
    seen: list[str] = []
    cursor = None
    while True:
        page = CATALOGUE.page(limit=3, after=cursor)
        seen += [one.title_id for one in page.titles]
        cursor = page.next
        if cursor is None:
            break
    assert seen == ids()
    assert page.total == 4


def test_a_cursor_of_another_list_is_refused() -> None:
    with pytest.raises(BadRequest, match="begin again"):
        CATALOGUE.page(words="show", after="leon")


def test_a_film_is_playable_by_its_id() -> None:
    found = CATALOGUE.playable(PlayableQuery(title_id="leon"))
    assert (found.name, found.duration_ms, found.episode_id) == ("Léon", 6_000_000, None)


def test_an_episode_is_playable_by_its_id() -> None:
    found = CATALOGUE.playable(PlayableQuery(episode_id="show-s1e2"))
    assert (found.title_id, found.episode_id) == ("show", "show-s1e2")
    assert (found.name, found.duration_ms) == ("A Show: Part 2", 45 * 60_000)


def test_a_series_plays_its_first_episode() -> None:
    assert CATALOGUE.playable(PlayableQuery(title_id="show")).episode_id == "show-s1e1"


def test_exactly_one_id_is_needed() -> None:
    for query in (PlayableQuery(), PlayableQuery(title_id="leon", episode_id="show-s1e1")):
        with pytest.raises(BadRequest, match="exactly one"):
            CATALOGUE.playable(query)


def test_unknown_titles_and_episodes_are_title_unknown() -> None:
    for query in (PlayableQuery(title_id="x"), PlayableQuery(episode_id="x")):
        with pytest.raises(NotFound) as caught:
            CATALOGUE.playable(query)
        assert caught.value.code == "title_unknown"


def test_the_next_episode_goes_on_in_the_next_season_and_ends() -> None:
    chain: list[str] = []
    current = CATALOGUE.next_episode("show", None)
    while current is not None:
        chain.append(current)
        current = CATALOGUE.next_episode("show", current)
    assert chain == ["show-s1e1", "show-s1e2", "show-s2e1"]
    assert CATALOGUE.next_episode("leon", None) is None


def test_an_episode_of_another_series_is_unknown_here() -> None:
    with pytest.raises(NotFound):
        CATALOGUE.next_episode("leon", "show-s1e1")


def test_episodes_are_listed_in_order() -> None:
    listed = CATALOGUE.episodes("show").episodes
    assert [(one.season, one.number) for one in listed] == [(1, 1), (1, 2), (2, 1)]
    assert CATALOGUE.episodes("leon").episodes == ()


@given(st.text(), st.integers(1, 5))
def test_any_search_answers_a_page(words: str, limit: int) -> None:
    page = CATALOGUE.page(words=words, limit=limit)
    assert len(page.titles) == min(limit, page.total)
