"""What to watch next, on a small catalogue."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from chassis.contracts.common import Maturity
from chassis.contracts.viewing import TrendingPartial
from microservices.recommendations.model import Catalogue, shelves, trending, up_next
from tests.support.films import SUMMARIES, row

CATALOGUE = Catalogue(SUMMARIES)


def test_ten_votes_make_no_classic() -> None:
    assert CATALOGUE.popular[0] == "hit"
    assert CATALOGUE.popular.index("obscure") > CATALOGUE.popular.index("hit")


def test_the_same_director_and_genre_are_alike() -> None:
    assert CATALOGUE.similar("alien")[:2] == ("blade", "thing")
    assert "alien" not in CATALOGUE.similar("alien")
    assert CATALOGUE.similar("unheard of") == ()


def test_up_next_is_similar_and_says_to_what() -> None:
    found = up_next(CATALOGUE, "alien", (), (), Maturity.ADULTS)
    assert found is not None
    assert (found.title_id, found.because, found.source) == ("blade", ("alien",), "similar")


def test_up_next_is_new_to_the_viewer() -> None:
    found = up_next(CATALOGUE, "alien", {"blade"}, (), Maturity.ADULTS)
    assert found is not None
    assert found.title_id == "thing"


def test_without_anything_similar_others_decide() -> None:
    seen = {"blade", "thing"}
    trend = up_next(CATALOGUE, "alien", seen, ["gone", "plain"], Maturity.ADULTS)
    popular = up_next(CATALOGUE, "alien", seen, [], Maturity.ADULTS)
    assert trend is not None and popular is not None
    assert (trend.title_id, trend.source) == ("plain", "trending")
    assert (popular.title_id, popular.source) == ("hit", "popular")


@given(
    st.sampled_from(list(CATALOGUE.titles)),
    st.sets(st.sampled_from(list(CATALOGUE.titles))),
    st.lists(st.sampled_from(list(CATALOGUE.titles))),
    st.sampled_from(list(Maturity)),
)
def test_nothing_unfit_and_nothing_seen_is_ever_offered(
    name: str, watched: set[str], trends: list[str], maturity: Maturity
) -> None:
    found = up_next(CATALOGUE, name, watched, trends, maturity)
    if found is not None:
        assert found.title_id not in {*watched, name}
        assert CATALOGUE.titles[found.title_id].maturity <= maturity
    rows = [row(one, at) for at, one in enumerate(sorted(watched))]
    for shelf in shelves(CATALOGUE, rows, trends, "US", maturity):
        for card in shelf.titles:
            assert CATALOGUE.titles[card.title_id].maturity <= maturity


def test_the_shelves_of_somebody_who_watched_something() -> None:
    rows = [row("alien", 9), row("hit", 5, done=True)]
    found = {one.kind: one for one in shelves(CATALOGUE, rows, ["plain"], "FR", Maturity.ADULTS)}
    assert [one.title_id for one in found["continue"].titles] == ["alien"]
    assert found["continue"].titles[0].position_ms == 60_000
    assert (found["trending"].name, found["trending"].titles[0].title_id) == (
        "Trending in FR",
        "plain",
    )
    assert found["because"].because == ("hit",)
    assert {"alien", "hit"}.isdisjoint(one.title_id for one in found["popular"].titles)


def test_a_stranger_sees_what_is_popular() -> None:
    assert [one.kind for one in shelves(CATALOGUE, [], [], "US", Maturity.KIDS)] == ["popular"]


def partial(source: str, landmark_ms: int, **scores: float) -> TrendingPartial:
    return TrendingPartial(
        scope="US",
        source=source,
        landmark_ms=landmark_ms,
        half_life_s=3600.0,
        scores=scores,
        updated_ms=landmark_ms,
    )


def test_partials_of_different_landmarks_are_summed_at_one_time() -> None:
    hour = 3_600_000
    partials = [partial("a/0", 0, old=4.0, both=4.0), partial("a/1", 2 * hour, new=2.0, both=0.5)]
    assert trending(partials) == ["new", "both", "old"]
    long_ago = partial("a/2", -100_000 * hour, old=1e300)
    assert trending([*partials, long_ago])[:2] == ["new", "both"]


def test_nothing_trends_where_nobody_watches() -> None:
    assert trending([]) == []
