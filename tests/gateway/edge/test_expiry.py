from hypothesis import given
from hypothesis import strategies as st

from gateway.edge.expiry import Expiry


def test_what_stays_too_long_is_due_once() -> None:
    expiry: Expiry[str] = Expiry(5.0)
    expiry.enter("a", 0.0)
    expiry.enter("b", 1.0)
    assert expiry.due(4.9) == []
    assert expiry.due(5.0) == ["a"]
    assert expiry.due(5.5) == []
    assert expiry.due(9.0) == ["b"]


def test_what_left_is_never_due() -> None:
    expiry: Expiry[str] = Expiry(5.0)
    expiry.enter("a", 0.0)
    expiry.leave("a")
    expiry.leave("a")
    assert expiry.due(100.0) == []


def test_entering_again_starts_the_time_anew() -> None:
    expiry: Expiry[str] = Expiry(5.0)
    expiry.enter("a", 0.0)
    expiry.enter("b", 1.0)
    expiry.enter("a", 3.0)
    assert expiry.due(6.0) == ["b"]
    assert "a" in expiry
    assert len(expiry) == 1


@given(st.lists(st.tuples(st.sampled_from(["enter", "leave", "due"]), st.integers(0, 4))))
def test_it_agrees_with_a_plain_model(steps: list[tuple[str, int]]) -> None:
    expiry: Expiry[int] = Expiry(3.0)
    model: dict[int, float] = {}
    for now, (what, item) in enumerate(steps):
        if what == "enter":
            expiry.enter(item, now)
            model[item] = now
        elif what == "leave":
            expiry.leave(item)
            model.pop(item, None)
        else:
            late = {known for known, since in model.items() if now - since >= 3.0}
            assert set(expiry.due(now)) == late
            model = {known: since for known, since in model.items() if known not in late}
