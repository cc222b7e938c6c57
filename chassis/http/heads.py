"""Heads of answers that were read before: a look-up instead of reading the same bytes again.

The busier an instance, the more often it sends the very same head: its Date changes once a second,
and its lengths are few. What a head means depends on nothing but its bytes (and on whether the
request was HEAD, which is never remembered), so what the strict parser accepted once, whole and
without any doubt, it need not be asked again. Nothing is read here that it has not read before.
"""

from __future__ import annotations

from typing import Final

from chassis.http.framing import Headers

KEPT: Final = 512
SIZE_LIMIT: Final = 2_048
"""Longer heads than this carry something of their own, and are not worth the memory."""


class Head:
    """The final head of an answer, and how long the body behind it is.

    `headers` must not be changed: the next answer may have the same head. `form` is whatever the
    receiver made of it, for the next time; `utilisation` what the instance says of its load.
    """

    __slots__ = ("form", "headers", "length", "reason", "status", "utilisation")

    def __init__(
        self,
        status: int,
        reason: bytes,
        headers: Headers,
        length: int,
        utilisation: float | None = None,
    ) -> None:
        self.status = status
        self.reason = reason
        self.headers = headers
        self.length = length
        self.utilisation = utilisation
        self.form: bytes | None = None

    def __repr__(self) -> str:
        return f"Head({self.status}, {len(self.headers)} fields, {self.length} bytes)"


class Heads(dict[bytes, Head]):
    """What was read of one instance's heads, by their bytes with the final empty line."""

    def keep(self, raw: bytes, head: Head) -> None:
        """Remembers; when there are too many, they have changed with the time, and all go."""
        if len(raw) > SIZE_LIMIT:
            return
        if len(self) >= KEPT:
            self.clear()
        self[raw] = head
