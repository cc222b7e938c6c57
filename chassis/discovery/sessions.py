"""The embedded registry's sessions: leases that hold keys.

A session that is not renewed within its TTL ends, and so does one that is destroyed. They are
durable, as the keys they hold are; after a restart each has its whole TTL before it.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable

import msgspec

from chassis.clock import Clock, Timer
from chassis.discovery.durable import Folder
from chassis.discovery.durations import seconds
from chassis.errors import BadRequest

SUFFIX = ".session"
SHORTEST_TTL_S, LONGEST_TTL_S = 10.0, 86_400.0
_LOCK_DELAY = "15s"
_LONGEST_LOCK_DELAY_S = 60.0
_AGAIN_S = 1.0
_BEHAVIORS = ("release", "delete")


class SessionBody(msgspec.Struct):
    """A session as a client asks for it, keys in lower case."""

    name: str = ""
    ttl: str = ""
    lockdelay: str = _LOCK_DELAY
    behavior: str = "release"
    checks: list[str] | None = None


class Session(msgspec.Struct, frozen=True):
    """A live session. A TTL of 0: it lives until it is destroyed."""

    id: str
    name: str
    ttl_s: float
    lock_delay_s: float
    behavior: str
    index: int


class Sessions:
    """All sessions. `ended` hears of each that ends, before it is forgotten."""

    def __init__(
        self,
        clock: Clock,
        sessions: Iterable[Session],
        folder: Folder[Session],
        ended: Callable[[Session], None],
    ) -> None:
        self._clock = clock
        self._folder = folder
        self._ended = ended
        self._timers: dict[str, Timer] = {}
        self._sessions = {session.id: session for session in sessions}
        for session in self._sessions.values():
            self._arm(session)

    def get(self, session_id: str) -> Session | None:
        return self._sessions.get(session_id)

    def all(self) -> list[Session]:
        """By age."""
        return sorted(self._sessions.values(), key=lambda session: session.index)

    def create(self, wanted: SessionBody, index: int) -> Session:
        """`BadRequest` says what is wrong with what is asked for."""
        session = Session(
            id=str(uuid.UUID(bytes=self._clock.entropy(16), version=4)),
            name=wanted.name,
            ttl_s=_ttl_s(wanted.ttl),
            lock_delay_s=_lock_delay_s(wanted.lockdelay),
            behavior=wanted.behavior,
            index=index,
        )
        if wanted.behavior not in _BEHAVIORS:
            raise BadRequest(f"a session's behavior is release or delete, not {wanted.behavior!r}")
        if set(wanted.checks or ()) - {"serfHealth"}:
            raise BadRequest("a session here hangs on no check: give it a ttl, for example 10s")
        self._folder.write(session.id, session)
        self._sessions[session.id] = session
        self._arm(session)
        return session

    def renew(self, session_id: str) -> Session | None:
        """None when there is no such session any more."""
        session = self._sessions.get(session_id)
        if session is not None:
            self._arm(session)
        return session

    def destroy(self, session_id: str) -> None:
        """Ends it; does nothing when it has ended already. What it held goes first: a crash in
        between leaves a session without keys, never keys without their session."""
        session = self._sessions.get(session_id)
        if session is None:
            return
        self._disarm(session_id)
        self._ended(session)
        self._folder.remove([session_id])
        del self._sessions[session_id]

    def close(self) -> None:
        for session_id in (*self._timers,):
            self._disarm(session_id)

    def _arm(self, session: Session) -> None:
        self._disarm(session.id)
        if session.ttl_s:
            self._after(session.ttl_s, session.id)

    def _after(self, ttl_s: float, session_id: str) -> None:
        self._timers[session_id] = self._clock.call_later(ttl_s, self._expire, session_id)

    def _expire(self, session_id: str) -> None:
        try:
            self.destroy(session_id)
        except OSError:  # the disk: the session lives on until it can be ended
            self._after(_AGAIN_S, session_id)

    def _disarm(self, session_id: str) -> None:
        timer = self._timers.pop(session_id, None)
        if timer is not None:
            timer.cancel()


def _ttl_s(ttl: str) -> float:
    ttl_s = seconds(ttl) if ttl else 0.0
    if ttl and not SHORTEST_TTL_S <= ttl_s <= LONGEST_TTL_S:
        raise BadRequest(f"a session's ttl is from 10s to 86400s, not {ttl}")
    return ttl_s


def _lock_delay_s(delay: str) -> float:
    delay_s = seconds(delay)
    if delay_s > _LONGEST_LOCK_DELAY_S:
        raise BadRequest(f"a session's lockdelay is 60s at most, not {delay}")
    return delay_s
