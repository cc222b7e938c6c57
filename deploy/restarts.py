"""When a process that ended is started again: back-off, and quarantine for a crash loop. Pure."""

from __future__ import annotations

from collections import deque

import msgspec


class RestartPolicy(msgspec.Struct, frozen=True):
    """Seconds and counts. A process that ran for `calm_s` starts again with the first delay.

    `quarantine_s` is also how long a process may sleep on after the server that it missed is back:
    with its start it has to stay below half a minute.
    """

    first_s: float = 1.0
    factor: float = 2.0
    most_s: float = 15.0
    calm_s: float = 30.0
    loop_crashes: int = 6
    loop_s: float = 60.0
    quarantine_s: float = 20.0


class RestartState:
    """The crashes of one process. Once in quarantine it is again, until it has run calmly."""

    def __init__(self, policy: RestartPolicy) -> None:
        self._policy = policy
        self._crashes: deque[float] = deque(maxlen=policy.loop_crashes)
        self._streak = 0
        self.quarantined = False

    def crashed(self, started: float, now: float) -> float:
        """Seconds until the next start of a process that ran from `started` to `now`."""
        policy = self._policy
        if now - started >= policy.calm_s:
            self._streak, self.quarantined = 0, False
        self._streak += 1
        self._crashes.append(now)
        full = len(self._crashes) == policy.loop_crashes
        if full and now - self._crashes[0] <= policy.loop_s:
            self.quarantined = True
        if self.quarantined:
            return policy.quarantine_s
        return min(policy.most_s, policy.first_s * policy.factor ** (self._streak - 1))
