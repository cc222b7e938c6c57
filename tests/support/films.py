"""A small catalogue and what somebody watched of it."""

from __future__ import annotations

from typing import Any

from chassis.contracts.common import Maturity
from chassis.contracts.titles import Summaries, Summary
from chassis.contracts.viewing import ContinueWatching


def title(name: str, **more: Any) -> Summary:
    values: dict[str, Any] = {
        "year": 1990,
        "genre": "Drama",
        "maturity": Maturity.KIDS,
        "score": 7.0,
        "votes": 100_000,
        "director": "",
    }
    return Summary(title_id=name, name=name.upper(), **{**values, **more})


ALIEN = title("alien", genre="Horror", director="Scott", year=1979, maturity=Maturity.ADULTS)
SUMMARIES = Summaries(
    generation=3,
    titles=(
        ALIEN,
        title("blade", genre="Action", director="Scott", year=1982, maturity=Maturity.TEENS),
        title("thing", genre="Horror", year=1982, maturity=Maturity.ADULTS),
        title("hit", score=9.0, votes=2_000_000),
        title("obscure", score=10.0, votes=3),
        title("plain", score=5.0),
    ),
)


def row(name: str, at: int, **more: Any) -> ContinueWatching:
    values: dict[str, Any] = {"position_ms": 60_000, **more}
    return ContinueWatching(
        profile_id="p1",
        title_id=name,
        duration_ms=600_000,
        last_watched_ms=at,
        session_id="s1",
        session_started_ms=at,
        seq=1,
        **values,
    )
