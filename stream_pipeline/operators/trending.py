"""Trending by forward decay: a start weighs 2^((its time - landmark) / half-life), for good.

Weights never have to be touched again as time passes; a reader divides by what `now` weighs
(Cormode, Shkapenyuk, Srivastava, Xu: Forward Decay, ICDE 2009). One row a country and source
partition; readers sum the rows.
"""

from __future__ import annotations

from collections.abc import Mapping

from chassis.contracts.events import PlayStarted
from chassis.contracts.viewing import TrendingPartial

HALF_LIFE_S = 6 * 3600.0
REBASE_HALF_LIVES = 32
TITLES_LIMIT = 200


def trending(
    row: TrendingPartial | None,
    event: PlayStarted,
    source: str,
    version: int,
    half_life_s: float = HALF_LIFE_S,
) -> TrendingPartial:
    """The partial after one more start."""
    if row is None:
        landmark = event.at_ms
        scores: Mapping[str, float] = {}
        count, updated = 0, event.at_ms
    else:
        landmark, scores = _rebased(row, event.at_ms)
        half_life_s, count, updated = row.half_life_s, row.count, row.updated_ms
    weight = 2.0 ** ((event.at_ms - landmark) / (half_life_s * 1000))
    return TrendingPartial(
        scope=event.country,
        source=source,
        landmark_ms=landmark,
        half_life_s=half_life_s,
        scores=_pruned({**scores, event.title_id: scores.get(event.title_id, 0.0) + weight}),
        updated_ms=max(updated, event.at_ms),
        count=count + 1,
        src_version=version,
    )


def _rebased(row: TrendingPartial, at_ms: int) -> tuple[int, Mapping[str, float]]:
    """Moves the landmark before weights grow out of a float; the ratios stay the same."""
    ahead = (at_ms - row.landmark_ms) / (row.half_life_s * 1000)
    if ahead < REBASE_HALF_LIVES:
        return row.landmark_ms, row.scores
    factor = 2.0**-ahead
    return at_ms, {title: score * factor for title, score in row.scores.items()}


def _pruned(scores: dict[str, float]) -> dict[str, float]:
    if len(scores) <= 2 * TITLES_LIMIT:
        return scores
    best = sorted(scores.items(), key=lambda item: (-item[1], item[0]))[:TITLES_LIMIT]
    return dict(best)
