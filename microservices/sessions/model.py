"""Stream leases of one account: who plays, who may start, what ended and why.

Everything is a transition of `Slots`, the whole state of one account, so that one compare-and-set
decides a race: two devices that want the last stream can never both get it.

A lease is live until its `expires_at`; from that instant it counts for nothing, whether or not a
sweep has told of its end yet. What ended is remembered for a while, so that its player hears why.
Changes wait in `untold` until somebody has told of them: they are stored with the change itself,
so a crash between the two loses none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Literal, TypeVar

import msgspec
from msgspec.structs import replace

from chassis.contracts.events import LeaseChanged
from chassis.contracts.streams import AcquireRequest, Lease
from chassis.errors import BadRequest, Conflict, Gone, NotFound, Unprocessable

T = TypeVar("T")
How = Literal["released", "expired", "evicted"]

_WHY: dict[How, str] = {
    "released": "it was stopped, or this device started another stream",
    "expired": "no heartbeat came in time",
    "evicted": "another device of this account took its place",
}
_MAXIMUM_NAME = 200
_MAXIMUM_STREAMS = 100


class LeasePolicy(msgspec.Struct, frozen=True, kw_only=True):
    """`unknown_streams` bounds an account whose plan a reconciled lease does not tell."""

    ttl_s: int = 60
    heartbeat_s: int = 20
    remember_s: float = 3600.0
    remember: int = 16
    unknown_streams: int = 5
    untold: int = 64


class Held(msgspec.Struct, frozen=True):
    """A lease that has not been ended yet; it may have expired. `attempt` asked for it last."""

    lease: Lease
    idempotency_key: str = ""
    attempt: str = ""


class Ended(msgspec.Struct, frozen=True):
    session_id: str
    how: How
    at: float


class Slots(msgspec.Struct, frozen=True):
    """All that is known of one account's streams."""

    held: tuple[Held, ...] = ()
    ended: tuple[Ended, ...] = ()
    untold: tuple[LeaseChanged, ...] = ()

    def live(self, now: float) -> tuple[Lease, ...]:
        return tuple(held.lease for held in self.held if now < held.lease.expires_at)

    def find(self, session_id: str) -> Lease | None:
        """The lease that has not been ended; it may have expired."""
        for held in self.held:
            if held.lease.session_id == session_id:
                return held.lease
        return None

    def ending(self, session_id: str) -> Ended | None:
        for ended in self.ended:
            if ended.session_id == session_id:
                return ended
        return None


def check(request: AcquireRequest) -> None:
    """Refuses what no caller of ours should send."""
    _check_names(request, "account_id", "profile_id", "device_id", "title_id", "play_id")
    if len(request.idempotency_key) > _MAXIMUM_NAME:
        raise BadRequest(f"idempotency_key has more than {_MAXIMUM_NAME} characters")
    if not 1 <= request.max_streams <= _MAXIMUM_STREAMS:
        raise BadRequest(f"max_streams must be 1 to {_MAXIMUM_STREAMS}")


def check_lease(lease: Lease) -> None:
    """Refuses a provisional lease that nobody of ours could have granted."""
    names = ("session_id", "account_id", "profile_id", "device_id", "title_id", "play_id")
    _check_names(lease, *names)


def _check_names(value: AcquireRequest | Lease, *names: str) -> None:
    for name in names:
        if not 0 < len(getattr(value, name)) <= _MAXIMUM_NAME:
            raise BadRequest(f"{name} must have 1 to {_MAXIMUM_NAME} characters")


def acquire(
    slots: Slots, request: AcquireRequest, session_id: str, now: float, policy: LeasePolicy
) -> tuple[Slots, Lease]:
    """A lease under `session_id`, or the one that this idempotency key already has.

    The device's own older lease and the one to evict make room first. `Conflict` changes nothing.
    """
    known = _by_key(slots, request, now)
    if known is not None:
        return _asked_again(slots, known, request.attempt), known
    live = slots.live(now)
    slots = _expire(slots, now, policy)
    if request.evict is not None:
        slots = _end(slots, lambda lease: lease.session_id == request.evict, "evicted", now, policy)
    slots = _end(slots, lambda lease: lease.device_id == request.device_id, "released", now, policy)
    if len(slots.held) >= request.max_streams:
        raise _too_many(live, request.max_streams)
    lease = _new(request, session_id, now, policy)
    held = Held(lease, request.idempotency_key, request.attempt)
    return _begin(slots, held, now, policy), lease


def renew(slots: Slots, session_id: str, now: float, policy: LeasePolicy) -> tuple[Slots, Lease]:
    """A full term from now; `Gone` says how the lease ended, `NotFound` that there was none."""
    lease = slots.find(session_id)
    if lease is None:
        raise _ended(slots.ending(session_id))
    if now >= lease.expires_at:
        raise _ended(Ended(session_id, "expired", lease.expires_at))
    renewed = replace(
        lease,
        expires_at=now + policy.ttl_s,
        lease_ttl_s=policy.ttl_s,
        heartbeat_s=policy.heartbeat_s,
        provisional=False,
    )
    held = tuple(replace(one, lease=renewed) if one.lease is lease else one for one in slots.held)
    return replace(slots, held=held), renewed


def release(slots: Slots, session_id: str, now: float, policy: LeasePolicy) -> tuple[Slots, bool]:
    """Ends the lease; whether this account ever had it. Repeating it is harmless."""
    known = slots.find(session_id) is not None or slots.ending(session_id) is not None
    slots = _expire(slots, now, policy)
    slots = _end(slots, lambda lease: lease.session_id == session_id, "released", now, policy)
    return slots, known


def give_back(
    slots: Slots, play_id: str, attempt: str, now: float, policy: LeasePolicy
) -> tuple[Slots, None]:
    """Ends the lease of a play that failed, unless another attempt has asked for it since."""
    given = [
        held.lease
        for held in slots.held
        if (held.lease.play_id, held.attempt) == (play_id, attempt)
    ]
    slots = _expire(slots, now, policy)
    return _end(slots, lambda lease: lease in given, "released", now, policy), None


def reconcile(slots: Slots, lease: Lease, now: float, policy: LeasePolicy) -> tuple[Slots, None]:
    """Takes in a provisional lease that was granted while nobody could ask us.

    It counts from now on. Where the account has no stream left, or its device has begun another
    one since, it ends at once, and its player hears so at the next heartbeat. A lease of the same
    play is one that was granted after all, too late for anybody to hear of it: it makes way.
    """
    if slots.find(lease.session_id) or slots.ending(lease.session_id):
        return slots, None
    slots = _expire(slots, now, policy)
    admitted = replace(
        lease, provisional=True, expires_at=min(lease.expires_at, now + policy.ttl_s)
    )
    earlier, later = _same_device(slots, lease)
    if not later:
        slots = _end(slots, lambda other: other in earlier, "released", now, policy)
    limit = lease.max_streams or policy.unknown_streams
    fits = len(slots.held) < limit
    slots = _begin(slots, Held(admitted), now, policy)
    if now < admitted.expires_at and (later or not fits):
        how: How = "released" if later else "evicted"
        slots = _end(slots, lambda other: other is admitted, how, now, policy)
    return slots, None


def sweep(slots: Slots, now: float, policy: LeasePolicy) -> tuple[Slots, None]:
    """Ends what has expired and forgets what ended long ago."""
    slots = _expire(slots, now, policy)
    ended = tuple(one for one in slots.ended if now - one.at < policy.remember_s)
    return replace(slots, ended=ended), None


def without_told(slots: Slots, told: Callable[[LeaseChanged], bool]) -> Slots:
    """Forgets the changes that have been told."""
    return replace(slots, untold=tuple(change for change in slots.untold if not told(change)))


def _by_key(slots: Slots, request: AcquireRequest, now: float) -> Lease | None:
    """The live lease that this key has, or that was granted provisionally for its play."""
    if not request.idempotency_key:
        return None
    for held in slots.held:
        lease = held.lease
        reconciled = lease.provisional and lease.play_id == request.play_id
        known = reconciled or held.idempotency_key == request.idempotency_key
        if not known or now >= lease.expires_at:
            continue
        asked = (request.profile_id, request.device_id, request.title_id)
        if asked != (lease.profile_id, lease.device_id, lease.title_id):
            raise Unprocessable(
                "this Idempotency-Key was used for another play; use a new one for each",
                code="idempotency_key_reused",
            )
        return lease
    return None


def _asked_again(slots: Slots, lease: Lease, attempt: str) -> Slots:
    held = tuple(replace(one, attempt=attempt) if one.lease is lease else one for one in slots.held)
    return replace(slots, held=held)


def _new(request: AcquireRequest, session_id: str, now: float, policy: LeasePolicy) -> Lease:
    return Lease(
        session_id=session_id,
        account_id=request.account_id,
        profile_id=request.profile_id,
        device_id=request.device_id,
        title_id=request.title_id,
        play_id=request.play_id,
        lease_ttl_s=policy.ttl_s,
        heartbeat_s=policy.heartbeat_s,
        acquired_at=now,
        expires_at=now + policy.ttl_s,
        max_streams=request.max_streams,
    )


def _begin(slots: Slots, held: Held, now: float, policy: LeasePolicy) -> Slots:
    change = _change(held.lease, "acquired", held.lease.acquired_at)
    return replace(
        slots, held=(*slots.held, held), untold=_bounded((*slots.untold, change), policy.untold)
    )


def _end(
    slots: Slots, which: Callable[[Lease], bool], how: How, now: float, policy: LeasePolicy
) -> Slots:
    gone = [held.lease for held in slots.held if which(held.lease)]
    if not gone:
        return slots
    ended = [Ended(lease.session_id, how, _end_of(lease, how, now)) for lease in gone]
    changes = [_change(lease, how, one.at) for lease, one in zip(gone, ended, strict=True)]
    return Slots(
        tuple(held for held in slots.held if held.lease not in gone),
        _bounded((*slots.ended, *ended), policy.remember),
        _bounded((*slots.untold, *changes), policy.untold),
    )


def _expire(slots: Slots, now: float, policy: LeasePolicy) -> Slots:
    return _end(slots, lambda lease: now >= lease.expires_at, "expired", now, policy)


def _end_of(lease: Lease, how: How, now: float) -> float:
    return lease.expires_at if how == "expired" else now


def _change(
    lease: Lease, what: Literal["acquired", "released", "expired", "evicted"], at: float
) -> LeaseChanged:
    return LeaseChanged(
        session_id=lease.session_id,
        account_id=lease.account_id,
        profile_id=lease.profile_id,
        what=what,
        at_ms=int(at * 1000),
        title_id=lease.title_id,
        device_id=lease.device_id,
        provisional=lease.provisional,
    )


def _same_device(slots: Slots, lease: Lease) -> tuple[list[Lease], list[Lease]]:
    """The device's other leases: those that began before `lease`, and those after."""
    others = [held.lease for held in slots.held if held.lease.device_id == lease.device_id]
    earlier = [
        other
        for other in others
        if other.acquired_at <= lease.acquired_at or other.play_id == lease.play_id
    ]
    return earlier, [other for other in others if other not in earlier]


def _bounded(values: Iterable[T], limit: int) -> tuple[T, ...]:
    return tuple(values)[-limit:]


def _too_many(live: Iterable[Lease], limit: int) -> Conflict:
    sessions = [
        {
            "session_id": lease.session_id,
            "device_id": lease.device_id,
            "title_id": lease.title_id,
            "since": lease.acquired_at,
        }
        for lease in live
    ]
    return Conflict(
        f"this plan plays on {limit} device{'s' if limit > 1 else ''} at a time; all are in use",
        code="too_many_streams",
        members={"sessions": sessions, "evict": "send `evict` with a session id"},
    )


def _ended(ended: Ended | None) -> Gone | NotFound:
    if ended is None:
        return NotFound("this account has no such session", code="session_unknown")
    return Gone(f"the session has ended: {_WHY[ended.how]}", code=f"lease_{ended.how}")
