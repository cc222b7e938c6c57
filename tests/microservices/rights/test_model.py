from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chassis.contracts.titles import RightsQuery, Window
from chassis.errors import BadRequest
from microservices.rights.model import check_window, decide, default_windows

NOW = 1_700_000_000.0
QUERY = RightsQuery(title_id="t", country="US", plan="standard", device_type="tv")


def window(territory: str = "*", **values: Any) -> Window:
    return Window(
        **{
            "title_id": "t",
            "territory": territory,
            "starts": NOW - 1000,
            "ends": NOW + 10_000,
            **values,
        }
    )


def asked(**values: Any) -> RightsQuery:
    return RightsQuery(**{"title_id": "t", "country": "US", "plan": "standard", **values})


def denial(query: RightsQuery, *windows: Window, now: float = NOW) -> str | None:
    decision = decide({one.territory: one for one in windows}, query, now)
    assert decision.allowed == (decision.denial is None)
    return decision.denial


def test_an_open_window_allows_for_five_minutes() -> None:
    decision = decide({"*": window(max_height=1080, hdr=False)}, QUERY, NOW)
    assert decision.allowed
    assert (decision.max_height, decision.hdr) == (1080, False)
    assert decision.valid_until == NOW + 300
    assert decision.window_ends == NOW + 10_000


def test_a_title_without_any_window_is_denied() -> None:
    assert denial(QUERY) == "not_entitled"


def test_a_country_without_a_window_is_the_wrong_region() -> None:
    assert denial(QUERY, window("FR")) == "region"


def test_a_country_of_its_own_goes_before_everywhere() -> None:
    assert denial(QUERY, window("*"), window("US", ends=NOW - 1)) == "window_ended"
    assert denial(asked(country="us"), window("US")) is None


def test_a_window_really_begins_and_really_ends() -> None:
    one = window(starts=NOW, ends=NOW + 10)
    assert denial(QUERY, one, now=NOW - 0.001) == "region"
    assert denial(QUERY, one, now=NOW) is None
    assert denial(QUERY, one, now=NOW + 9.999) is None
    assert denial(QUERY, one, now=NOW + 10) == "window_ended"


def test_a_decision_never_outlives_the_next_change() -> None:
    ending = decide({"*": window(ends=NOW + 7)}, QUERY, NOW)
    assert (ending.allowed, ending.valid_until) == (True, NOW + 7)
    coming = decide({"*": window(starts=NOW + 7)}, QUERY, NOW)
    assert (coming.allowed, coming.valid_until) == (False, NOW + 7)


def test_a_plan_outside_the_licence_is_not_entitled() -> None:
    assert denial(QUERY, window(plans=("premium",))) == "not_entitled"
    assert denial(asked(plan="premium"), window(plans=("premium",))) is None


def test_a_blocked_device_is_refused() -> None:
    assert denial(asked(device_type="browser"), window(blocked_devices=("browser",))) == (
        "device_blocked"
    )


def test_offline_needs_its_own_right() -> None:
    assert denial(asked(offline=True), window(offline=False)) == "not_entitled"
    assert denial(asked(offline=True), window(offline=True)) is None


def test_the_most_final_reason_is_told() -> None:
    everything = window(ends=NOW - 1, plans=("premium",), blocked_devices=("tv",))
    assert denial(QUERY, everything) == "window_ended"


@given(st.floats(0, 4e9), st.floats(0, 4e9), st.floats(0, 4e9))
def test_nothing_is_allowed_outside_its_window(starts: float, length: float, now: float) -> None:
    one = window(starts=starts, ends=starts + length)
    decision = decide({"*": one}, QUERY, now)
    assert decision.allowed == (one.starts <= now < one.ends)
    assert now < decision.valid_until <= now + 300
    if decision.allowed:
        assert decision.valid_until <= one.ends


@pytest.mark.parametrize(
    "values",
    [
        {"title_id": ""},
        {"territory": "usa"},
        {"territory": "us"},
        {"ends": NOW - 2000},
        {"plans": ()},
        {"max_height": 0},
    ],
)
def test_a_window_that_cannot_be_meant_is_refused(values: dict[str, Any]) -> None:
    with pytest.raises(BadRequest):
        check_window(window(**values))


@given(st.text(min_size=1), st.integers(0, 1_000_000))
def test_the_windows_of_an_ingest_are_usable_and_always_the_same(title_id: str, votes: int) -> None:
    windows = default_windows(title_id, votes)
    assert windows == default_windows(title_id, votes)
    for one in windows:
        check_window(one)


def test_the_windows_of_an_ingest_keep_their_proportions() -> None:
    """The shares that the docstring promises, over many titles."""
    counts: dict[str | None, int] = {}
    for number in range(4_000):
        windows = {one.territory: one for one in default_windows(f"title-{number}", 0)}
        decision = decide(windows, RightsQuery(title_id="", country="US", plan="standard"), NOW)
        counts[decision.denial] = counts.get(decision.denial, 0) + 1
    shares = {reason: round(100 * count / 4_000) for reason, count in counts.items()}
    assert 82 <= shares[None] <= 87
    assert 5 <= shares["window_ended"] <= 9
    assert 3 <= shares["region"] <= 8
    assert 2 <= shares["not_entitled"] <= 6
