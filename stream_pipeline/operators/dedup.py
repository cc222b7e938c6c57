"""Deduplication: the highest sequence number and 64 bits below it (RFC 4303, section 3.4.3)."""

from __future__ import annotations

import enum

WIDTH = 64
_ALL = (1 << WIDTH) - 1
_SIGN = 1 << (WIDTH - 1)


class Verdict(enum.Enum):
    """Whether an event counts.

    `LATE` is so far behind that it can no longer be told; `COVERED` is in the sink already.
    """

    FRESH = "fresh"
    DUPLICATE = "duplicate"
    LATE = "late"
    COVERED = "covered"


def observe(last: int, window: int, seq: int) -> tuple[Verdict, int, int]:
    """The verdict on `seq`, and the state after it. Bit n of `window` is `last - n`.

    Begin with `last` -1 and an empty window.
    """
    ahead = seq - last
    if ahead > 0:
        kept = (window << ahead) & _ALL if ahead < WIDTH else 0
        return Verdict.FRESH, seq, kept | 1
    if ahead <= -WIDTH:
        return Verdict.LATE, last, window
    bit = 1 << -ahead
    if window & bit:
        return Verdict.DUPLICATE, last, window
    return Verdict.FRESH, last, window | bit


def signed(window: int) -> int:
    """As stores keep it: 64 bits with a sign."""
    return window - (1 << WIDTH) if window & _SIGN else window


def unsigned(window: int) -> int:
    return window & _ALL
