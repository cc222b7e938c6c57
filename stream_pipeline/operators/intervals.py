"""Sets of watched [from, to) intervals: sorted, apart from one another, few."""

from __future__ import annotations

from collections.abc import Iterable

Interval = tuple[int, int]
Intervals = tuple[Interval, ...]

LIMIT = 200


def add(intervals: Intervals, start: int, end: int) -> Intervals:
    """The union with [start, end); empty intervals add nothing."""
    if end <= start:
        return intervals
    if not intervals or start > intervals[-1][1]:
        return bounded((*intervals, (start, end)))
    last_start, last_end = intervals[-1]
    if start >= last_start:
        return intervals if end <= last_end else (*intervals[:-1], (last_start, end))
    return _insert(intervals, start, end)


def _insert(intervals: Intervals, start: int, end: int) -> Intervals:
    before, after = [], []
    for low, high in intervals:
        if high < start:
            before.append((low, high))
        elif low > end:
            after.append((low, high))
        else:
            start, end = min(start, low), max(end, high)
    return bounded((*before, (start, end), *after))


def union(intervals: Intervals, others: Iterable[Interval]) -> Intervals:
    for start, end in others:
        intervals = add(intervals, start, end)
    return intervals


def bounded(intervals: Intervals) -> Intervals:
    """At most `LIMIT` intervals: the two with the smallest gap become one."""
    if len(intervals) <= LIMIT:
        return intervals
    at = min(range(1, len(intervals)), key=lambda n: intervals[n][0] - intervals[n - 1][1])
    joined = (intervals[at - 1][0], intervals[at][1])
    return (*intervals[: at - 1], joined, *intervals[at + 1 :])


def length(intervals: Intervals) -> int:
    return sum(end - start for start, end in intervals)
