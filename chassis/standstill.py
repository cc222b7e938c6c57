"""Sees that the event loop has stood still: a process held up, a machine with too much to do.

A loop may run its timers before it reads what came meanwhile. Who looks then for whoever has been
silent for too long finds everybody silent, those too whose words wait in the kernel.
"""

from __future__ import annotations

from chassis.clock import Clock


class Standstill:
    """For a timer that runs again and again, and at most `longest_s` after its last run."""

    __slots__ = ("_clock", "_last", "_longest_s", "_told")

    def __init__(self, clock: Clock, longest_s: float) -> None:
        self._clock = clock
        self._longest_s = longest_s
        self._last = clock.monotonic()
        self._told = False

    def __repr__(self) -> str:
        return f"Standstill(over {self._longest_s} s, {'seen' if self._told else 'not seen'})"

    def seen(self) -> bool:
        """Asked once a run: whether to leave it to the next one, before which the loop reads. Never
        twice in a row, so a loop that always stands still is held up by one run each time."""
        now = self._clock.monotonic()
        late = now - self._last > self._longest_s
        self._last = now
        self._told = late and not self._told
        return self._told
