from __future__ import annotations

from collections import Counter

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chassis.contracts.streams import PATHWAYS, PathwayState, steering_path
from chassis.errors import BadRequest, NotFound
from microservices.steering.model import (
    DEFAULTS,
    Pathway,
    Viewer,
    changed,
    rank,
    ttl_s,
    viewer_of,
)

ALL = tuple(DEFAULTS.values())
PLAIN = (Pathway("a", 50), Pathway("b", 30), Pathway("c", 20))


def with_health(name: str, health: str) -> tuple[Pathway, ...]:
    return tuple(
        msgspec.structs.replace(one, health=health) if one.name == name else one for one in PLAIN
    )


def firsts(pathways: tuple[Pathway, ...], country: str = "", network: str = "") -> Counter[str]:
    viewers = (Viewer(f"s{number}", country, network) for number in range(4_000))
    return Counter(rank(pathways, viewer)[0] for viewer in viewers)


def test_the_pathways_are_those_that_everybody_knows() -> None:
    assert tuple(DEFAULTS) == PATHWAYS


def test_sessions_are_shared_by_weight() -> None:
    counts = firsts(PLAIN)
    assert abs(counts["a"] / 4_000 - 0.5) < 0.03
    assert abs(counts["b"] / 4_000 - 0.3) < 0.03
    assert abs(counts["c"] / 4_000 - 0.2) < 0.03


@given(st.text())
def test_a_session_keeps_its_order(session: str) -> None:
    assert rank(PLAIN, Viewer(session)) == rank(tuple(reversed(PLAIN)), Viewer(session))


@given(st.text(), st.sampled_from("abc"))
def test_a_pathway_that_goes_down_moves_only_its_own_sessions(session: str, down: str) -> None:
    before = rank(PLAIN, Viewer(session))
    after = rank(with_health(down, "down"), Viewer(session))
    assert after == tuple(name for name in before if name != down)


def test_a_degraded_pathway_keeps_a_few_sessions() -> None:
    counts = firsts(with_health("a", "degraded"))
    assert 0 < counts["a"] < 4_000 * 0.15


def test_when_everything_is_down_everything_is_still_tried() -> None:
    down = tuple(msgspec.structs.replace(one, health="down") for one in PLAIN)
    assert sorted(rank(down, Viewer("s"))) == ["a", "b", "c"]
    nothing = tuple(msgspec.structs.replace(one, weight=0) for one in PLAIN)
    assert sorted(rank(nothing, Viewer("s"))) == ["a", "b", "c"]


def test_a_country_prefers_the_cdn_at_home_there() -> None:
    assert firsts(ALL)["cdn-a"] > firsts(ALL)["cdn-b"]
    assert firsts(ALL, "DE")["cdn-b"] > firsts(ALL, "DE")["cdn-a"]
    assert firsts(ALL, "JP")["cdn-c"] > firsts(ALL, "JP")["cdn-a"]
    assert firsts(ALL, "JP", "cellular")["cdn-c"] < firsts(ALL, "JP")["cdn-c"]


def test_an_order_is_kept_shorter_while_something_is_wrong() -> None:
    assert ttl_s(PLAIN) == 300
    assert ttl_s(with_health("c", "degraded")) == 30


@given(st.text(), st.text(), st.text())
def test_a_steering_path_says_who_asks(session: str, country: str, network: str) -> None:
    sid = steering_path(f"s{session}", country, network).removeprefix("/v1/steering/")
    assert "/" not in sid
    viewer = viewer_of(sid)
    assert viewer.session_id.startswith("s")
    assert steering_path(viewer.session_id, viewer.country, viewer.network).endswith(sid)


def test_a_steering_path_carries_country_and_network() -> None:
    sid = steering_path("s1", "US", "wifi").removeprefix("/v1/steering/")
    assert viewer_of(sid) == Viewer("s1", "US", "wifi")


@pytest.mark.parametrize("sid", ["~US", "a~b~c~d", "x" * 201])
def test_anything_else_is_no_session(sid: str) -> None:
    with pytest.raises(NotFound):
        viewer_of(sid)


def test_a_new_state_keeps_the_weight_unless_one_is_given() -> None:
    down = changed(PLAIN[0], PathwayState(pathway="a", health="down"))
    assert (down.health, down.weight) == ("down", 50)
    assert changed(PLAIN[0], PathwayState(pathway="a", weight=0)).weight == 0
    for weight in (-1, 1001):
        with pytest.raises(BadRequest):
            changed(PLAIN[0], PathwayState(pathway="a", weight=weight))
