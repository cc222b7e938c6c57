"""A quantile that moves with what is observed, in constant space. Pure."""

from __future__ import annotations

_STEP = 0.1
LEAST = 20


class Quantile:
    """Follows the value that `share` of the observations stay under.

    Each observation above moves it up by a part of itself, each below moves it down by the lesser
    part that balances the two; so it forgets, and needs some twenty observations to mean anything.
    """

    __slots__ = ("_down", "_up", "seen", "value")

    def __init__(self, share: float) -> None:
        self._up = 1 + _STEP * share
        self._down = 1 - _STEP * (1 - share)
        self.value = 0.0
        self.seen = 0

    def observe(self, value: float) -> None:
        self.seen += 1
        if not self.value:
            self.value = value
        elif value > self.value:
            self.value = min(value, self.value * self._up)
        else:
            self.value *= self._down

    @property
    def is_known(self) -> bool:
        return self.seen >= LEAST

    def __repr__(self) -> str:
        return f"Quantile({self.value:g} of {self.seen})"
