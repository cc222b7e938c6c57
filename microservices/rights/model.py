"""Licence windows: where, when, on which plan and device a title may be shown, and how well.

`decide` asks in this order, and the first "no" is the answer: most final first, so that nobody is
told to change plans for a title that is gone.

1. no window at all: `not_entitled` (nothing is shown without a licence);
2. neither a window for the country nor one for everywhere (`*`): `region`;
3. the window has not begun: `region` as well, since the title is not shown there yet;
4. the window has ended: `window_ended`;
5. the plan is not among the window's: `not_entitled`;
6. the device type is blocked: `device_blocked`;
7. watching offline is asked and not licensed: `not_entitled`.

A decision holds 300 s, and never past the instant at which the window begins or ends.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime

import msgspec

from chassis.contracts.common import Plan
from chassis.contracts.titles import Denial, RightsDecision, RightsQuery, Window
from chassis.errors import BadRequest

EVERYWHERE = "*"
DECISION_HOLDS_S = 300.0
GROUPS: Mapping[str, tuple[str, ...]] = {
    "europe": ("GB", "IE", "FR", "DE", "ES", "IT", "NL", "SE", "PL", "AT", "CH", "BE"),
    "americas": ("US", "CA", "MX", "BR", "AR", "CL"),
    "asia": ("JP", "KR", "IN", "AU", "NZ", "SG"),
}
MUCH_WATCHED = 90_000  # votes; about the two hundred best known films have so many

Windows = Mapping[str, Window]
"""The windows of one title by territory."""


def decide(windows: Windows, query: RightsQuery, now: float) -> RightsDecision:
    """Allow or deny, and until when that is true."""
    window = windows.get(query.country.upper()) or windows.get(EVERYWHERE)
    if window is None:
        return _deny("region" if windows else "not_entitled", now + DECISION_HOLDS_S)
    denial = _denial(window, query, now)
    until = min(now + DECISION_HOLDS_S, _next_change(window, now))
    if denial is not None:
        return _deny(denial, until)
    return RightsDecision(
        allowed=True,
        valid_until=until,
        max_height=window.max_height,
        hdr=window.hdr,
        offline=window.offline,
        window_ends=window.ends,
    )


def _denial(window: Window, query: RightsQuery, now: float) -> Denial | None:
    if now < window.starts:
        return "region"
    if now >= window.ends:
        return "window_ended"
    if query.plan not in window.plans:
        return "not_entitled"
    if query.device_type in window.blocked_devices:
        return "device_blocked"
    return "not_entitled" if query.offline and not window.offline else None


def _deny(denial: Denial, until: float) -> RightsDecision:
    return RightsDecision(
        allowed=False, denial=denial, valid_until=until, max_height=0, hdr=False, offline=False
    )


def _next_change(window: Window, now: float) -> float:
    return min((at for at in (window.starts, window.ends) if at > now), default=float("inf"))


def check_window(window: Window) -> None:
    """`BadRequest` when a window cannot be meant."""
    if not window.title_id:
        raise BadRequest("title_id must not be empty")
    territory = window.territory
    if territory != EVERYWHERE and not (len(territory) == 2 and territory.isupper()):
        raise BadRequest("territory must be a two-letter country in capitals, or *")
    if not window.starts < window.ends:
        raise BadRequest("starts must be before ends")
    if not window.plans:
        raise BadRequest("plans must name at least one plan")
    if window.max_height < 1:
        raise BadRequest("max_height must be a number of lines, at least 1")


def default_windows(title_id: str, votes: int) -> tuple[Window, ...]:
    """The licences that an ingest gives a title, drawn by a hash of its id: always the same.

    Of all films about 79 in 100 are open everywhere; 5 are licensed for one group of countries
    only; 5 have ended in the Americas, 2 everywhere; 4 are for the premium plan; 2 have not begun;
    2 are not for browsers; 1 is in standard definition only. Of much-watched films 95 are open, 3
    premium, 2 ended everywhere. Watching offline is licensed for 7 of 10. Windows begin in 2012,
    open ones end in 2040 to 2049.
    """
    digest = hashlib.sha256(title_id.encode()).digest()
    chance, group = digest[0] * 256 + digest[1], digest[2] % len(GROUPS)
    percent = chance * 100 // 65_536
    open_window = Window(
        title_id=title_id,
        territory=EVERYWHERE,
        starts=_year(2012),
        ends=_year(2040 + digest[3] % 10),
        offline=digest[4] % 10 < 7,
    )
    kind = _kind(percent, votes)
    return _windows_of(kind, open_window, ended=_year(2015 + digest[3] % 8), group=group)


def _kind(percent: int, votes: int) -> str:
    shares = _MUCH_WATCHED_SHARES if votes >= MUCH_WATCHED else _SHARES
    for kind, below in shares:
        if percent < below:
            return kind
    return "open"


_MUCH_WATCHED_SHARES = (("premium", 3), ("ended", 5))
_SHARES = (
    ("group", 5),
    ("ended_americas", 10),
    ("ended", 12),
    ("premium", 16),
    ("future", 18),
    ("no_browser", 20),
    ("sd", 21),
)


def _windows_of(kind: str, window: Window, *, ended: float, group: int) -> tuple[Window, ...]:
    premium: tuple[Plan, ...] = ("premium",)
    match kind:
        case "group":
            places = GROUPS[sorted(GROUPS)[group]]
            return tuple(_with(window, territory=place) for place in places)
        case "ended_americas":
            americas = (_with(window, territory=p, ends=ended) for p in GROUPS["americas"])
            return (window, *americas)
        case "ended":
            return (_with(window, ends=ended),)
        case "premium":
            return (_with(window, plans=premium),)
        case "future":
            return (_with(window, starts=_year(2038)),)
        case "no_browser":
            return (_with(window, blocked_devices=("browser",)),)
        case "sd":
            return (_with(window, max_height=480, hdr=False),)
    return (window,)


def _with(window: Window, **changes: object) -> Window:
    return msgspec.structs.replace(window, **changes)


def _year(year: int) -> float:
    return datetime(year, 1, 1, tzinfo=UTC).timestamp()
