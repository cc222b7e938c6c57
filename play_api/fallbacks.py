"""What stands in for a step that failed, and for how long that stays true.

Most steps are stood in for by what their service last said, while that still holds; the rest by
a value that claims nothing. Nothing is guessed.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import msgspec

from chassis.clock import Clock
from chassis.contracts.accounts import Entitlement, EntitlementQuery
from chassis.contracts.profiles import Allocation
from chassis.contracts.streams import (
    PATHWAYS,
    AcquireRequest,
    Lease,
    Manifest,
    ManifestRequest,
    Ranking,
)
from chassis.contracts.titles import Playable, PlayableQuery, RightsDecision, RightsQuery
from chassis.contracts.viewing import Bookmark, UpNext, UpNextQuery
from play_api.play import Play, unknown_profile

Q = TypeVar("Q")
A = TypeVar("A")

PROVISIONAL_TTL_S = 30
PROVISIONAL_HEARTBEAT_S = 10
STATIC_RANKING = Ranking(pathways=PATHWAYS, ttl_s=10, steering_url=None)


def _build_key(request: ManifestRequest) -> tuple[object, ...]:
    return (
        request.account_id,
        request.title_id,
        request.max_height,
        request.max_kbps,
        request.hdr,
        request.codecs,
        request.drm_system,
        request.steering,
    )


@dataclass(frozen=True)
class Memory(Generic[Q, A]):
    """What to remember of a step: under which key, how long it holds, and what to call it.

    `limit` answers are kept, as MessagePack: decoded, one takes up to three times the room.
    """

    answer: type[A]
    key: Callable[[Q], Hashable]
    holds: Callable[[Q, A, float], bool]
    said: str = "cached"
    limit: int = 20_000


MEMORIES: Mapping[str, Memory[Any, Any]] = {
    "membership": Memory[EntitlementQuery, Entitlement](
        answer=Entitlement,
        key=lambda query: query.account_id,
        holds=lambda query, kept, now: now < kept.expires_at,
    ),
    "catalog": Memory[PlayableQuery, Playable](
        answer=Playable,
        key=lambda query: query,
        holds=lambda query, kept, now: True,
        limit=5_000,
    ),
    "rights": Memory[RightsQuery, RightsDecision](
        answer=RightsDecision,
        key=lambda query: query,
        holds=lambda query, kept, now: now < kept.valid_until,
    ),
    "manifest": Memory[ManifestRequest, Manifest](
        answer=Manifest,
        key=_build_key,
        holds=lambda request, kept, now: now + request.duration_ms / 1000 < kept.signed_until,
        limit=1_000,
    ),
    "recommendations": Memory[UpNextQuery, UpNext](
        answer=UpNext,
        key=lambda query: (query.country, query.maturity),
        holds=lambda query, kept, now: _is_other(query, kept),
        said="last_suggested",
        limit=2_000,
    ),
}


class Fallbacks:
    """The memory of one Play API process; of each step the answers unused for longest make room."""

    def __init__(self, clock: Clock, *, provisional_limit: int = 1_000) -> None:
        self._clock = clock
        self._kept: dict[str, OrderedDict[Hashable, bytes]] = {
            step: OrderedDict() for step in MEMORIES
        }
        self.provisional = ProvisionalLeases(clock, provisional_limit)

    def keep(self, step: str, question: Any, answer: Any) -> None:
        """Remembers what the step's service said itself."""
        memory = MEMORIES.get(step)
        if memory is None:
            return
        kept, key = self._kept[step], memory.key(question)
        kept[key] = msgspec.msgpack.encode(answer)
        kept.move_to_end(key)
        if len(kept) > memory.limit:
            kept.popitem(last=False)

    def stand_in(self, step: str, play: Play, question: Any) -> tuple[Any, str] | None:
        """What takes the place of the step's answer, and its name; None when nothing may."""
        remembered = self._remembered(step, question)
        if remembered is not None:
            return remembered
        match step:
            case "profiles":
                profile = unknown_profile(play)
                play.vouched = play.passport.profile_id == play.request.profile_id
                return profile, "passport" if profile.maturity else "children_only"
            case "sessions":
                lease = self.provisional.grant(question)
                return None if lease is None else (lease, "provisional")
            case "recommendations":
                return UpNext(), "omitted"
            case "bookmarks":
                given = play.request.start_at is not None
                return Bookmark(found=False), "client_position" if given else "beginning"
            case "experiments":
                return Allocation(), "control"
            case "steering":
                return STATIC_RANKING, "static_order"
        return None

    def _remembered(self, step: str, question: Any) -> tuple[Any, str] | None:
        memory = MEMORIES.get(step)
        if memory is None:
            return None
        kept, key = self._kept[step], memory.key(question)
        encoded = kept.get(key)
        if encoded is None:
            return None
        answer = msgspec.msgpack.decode(encoded, type=memory.answer)
        if not memory.holds(question, answer, self._clock.now()):
            return None
        kept.move_to_end(key)
        return answer, memory.said


class ProvisionalLeases:
    """Leases granted while sessions is away: short, one a device, never above the plan's streams
    as far as this process knows, never more than `limit` in all; kept until sessions was told."""

    def __init__(self, clock: Clock, limit: int) -> None:
        self._clock = clock
        self._limit = limit
        self._leases: dict[tuple[str, str], Lease] = {}
        self._untold: dict[str, Lease] = {}
        self.granted = 0
        self.refused = 0

    def grant(self, request: AcquireRequest) -> Lease | None:
        """The lease, or None when the bounds are reached."""
        now = self._clock.now()
        self._leases = {key: one for key, one in self._leases.items() if one.expires_at > now}
        device = (request.account_id, request.device_id)
        others = [key for key in self._leases if key != device]
        of_account = [key for key in others if key[0] == request.account_id]
        if len(others) >= self._limit or len(of_account) >= request.max_streams:
            self.refused += 1
            return None
        if device in self._leases:
            self.withdraw(self._leases[device])
        lease = self._lease(request, now)
        self._leases[device] = self._untold[lease.session_id] = lease
        self.granted += 1
        return lease

    def _lease(self, request: AcquireRequest, now: float) -> Lease:
        return Lease(
            session_id=f"prov-{request.play_id}",
            account_id=request.account_id,
            profile_id=request.profile_id,
            device_id=request.device_id,
            title_id=request.title_id,
            play_id=request.play_id,
            lease_ttl_s=PROVISIONAL_TTL_S,
            heartbeat_s=PROVISIONAL_HEARTBEAT_S,
            acquired_at=now,
            expires_at=now + PROVISIONAL_TTL_S,
            provisional=True,
            max_streams=request.max_streams,
        )

    def withdraw(self, lease: Lease) -> None:
        """The play that it was for did not happen. A later lease of the device stays."""
        device = (lease.account_id, lease.device_id)
        if self._leases.get(device) is lease:
            del self._leases[device]
        if self._untold.get(lease.session_id) is lease:
            del self._untold[lease.session_id]

    def untold(self) -> tuple[Lease, ...]:
        """Live leases that sessions has not heard of."""
        now = self._clock.now()
        self._untold = {key: one for key, one in self._untold.items() if one.expires_at > now}
        return tuple(self._untold.values())

    def told(self, leases: tuple[Lease, ...]) -> None:
        for lease in leases:
            self._untold.pop(lease.session_id, None)

    def __len__(self) -> int:
        return len(self._leases)


def _is_other(query: UpNextQuery, kept: UpNext) -> bool:
    return kept.suggestion is not None and kept.suggestion.title_id != query.title_id
