"""sessions, manifest, licence and steering: what a running stream needs."""

from __future__ import annotations

import re
from typing import Literal

from chassis.contracts.common import Device, Drm, DrmSystem, Instant, Track
from chassis.contracts.wire import Call, Nothing, Wire


class AcquireRequest(Wire, frozen=True):
    """The same `idempotency_key` of one account acquires the same lease and play again.

    `attempt` names who asks, so that a play that fails cannot end what was asked for again since.
    """

    account_id: str
    profile_id: str
    device_id: str
    title_id: str
    play_id: str
    max_streams: int
    idempotency_key: str
    evict: str | None = None
    attempt: str = ""


class Lease(Wire, frozen=True):
    """The right to one stream, until `expires_at` (UNIX seconds) unless renewed.

    `max_streams` is what the account's plan allowed when it was granted; 0 when unknown.
    """

    session_id: str
    account_id: str
    profile_id: str
    device_id: str
    title_id: str
    play_id: str
    lease_ttl_s: int
    heartbeat_s: int
    acquired_at: Instant
    expires_at: Instant
    provisional: bool = False
    max_streams: int = 0


class SessionQuery(Wire, frozen=True):
    account_id: str
    session_id: str


class GiveBack(Wire, frozen=True):
    """Ends the lease of a play that failed, if there is one; not one that a later attempt holds.

    It is named by the play, because whoever asked for it may not have heard the answer.
    """

    account_id: str
    play_id: str
    attempt: str


class AccountSessions(Wire, frozen=True):
    account_id: str


class Leases(Wire, frozen=True):
    leases: tuple[Lease, ...] = ()


class Heartbeat(Wire, frozen=True):
    """`POST /v1/play/sessions/{id}/heartbeat`."""

    position_ms: int = 0


class Reconcile(Wire, frozen=True):
    """Tell sessions about provisional leases that were granted while it was away."""

    leases: tuple[Lease, ...]


ACQUIRE = Call("sessions", "acquire", AcquireRequest, Lease, idempotent=True)
RENEW = Call("sessions", "renew", SessionQuery, Lease)
GIVE_BACK = Call("sessions", "give_back", GiveBack, Nothing)
SESSIONS = Call("sessions", "list", AccountSessions, Leases)
RECONCILE = Call("sessions", "reconcile", Reconcile, Nothing)


class ManifestRequest(Wire, frozen=True):
    """Caps are already the smallest of plan, device, rights and drm level.

    `country` and `network` only go into the steering URL.
    """

    play_id: str
    session_id: str
    account_id: str
    title_id: str
    duration_ms: int
    max_height: int
    max_kbps: int
    protected: bool
    hdr: tuple[str, ...] = ()
    codecs: tuple[str, ...] = ("avc",)
    audio: tuple[Track, ...] = ()
    captions: tuple[Track, ...] = ()
    drm_system: DrmSystem = "clearkey"
    steering: bool = True
    valid_until: Instant | None = None
    country: str = ""
    network: str = ""


class ManifestClaims(Wire, frozen=True):
    """What a manifest token seals (purpose `manifest`)."""

    play_id: str
    title_id: str
    duration_ms: int
    max_height: int
    max_kbps: int
    protected: bool
    expires_at: Instant
    hdr: tuple[str, ...] = ()
    codecs: tuple[str, ...] = ("avc",)
    audio: tuple[Track, ...] = ()
    captions: tuple[Track, ...] = ()
    drm_system: DrmSystem = "clearkey"
    key_id: str | None = None
    steering: bool = True
    steering_url: str = ""


class Manifest(Wire, frozen=True):
    """`hls` and `dash` are paths below the gateway; they stop answering at `signed_until`."""

    hls: str
    dash: str
    steering_url: str | None
    signed_until: Instant
    max_height: int
    max_kbps: int


BUILD_MANIFEST = Call("manifest", "build", ManifestRequest, Manifest)


class LicenceRequest(Wire, frozen=True):
    account_id: str
    play_id: str
    session_id: str
    title_id: str
    device: Device
    drm: Drm
    max_height: int
    valid_until: Instant
    offline: bool = False


class LicenceClaims(Wire, frozen=True):
    """What a licence token seals (purpose `licence`)."""

    account_id: str
    play_id: str
    title_id: str
    device_id: str
    key_ids: tuple[str, ...]
    system: DrmSystem
    expires_at: Instant
    offline: bool = False


class LicenceGrant(Wire, frozen=True):
    """`key_ids` are 32 hex digits each, one a quality tier that the device may decrypt.

    `POST /v1/licence` (`licence_url`) with the token in header `x-licence-token` gives the keys.
    """

    system: DrmSystem
    licence_url: str
    licence_token: str
    key_ids: tuple[str, ...]
    max_height: int
    expires_at: Instant


LICENCE_TOKEN = Call("licence", "token", LicenceRequest, LicenceGrant)


class RankRequest(Wire, frozen=True):
    country: str
    session_id: str
    network: str = "unknown"
    downlink_kbps: int = 0


class Ranking(Wire, frozen=True):
    """CDN pathways, best first. `steering_url` is a path below the gateway."""

    pathways: tuple[str, ...]
    ttl_s: int
    steering_url: str | None


RANK = Call("steering", "rank", RankRequest, Ranking)


PathwayHealth = Literal["healthy", "degraded", "down"]


class PathwayState(Wire, frozen=True):
    """Admin: the health of a CDN pathway, and its share of sessions when `weight` is given."""

    pathway: str
    health: PathwayHealth = "healthy"
    weight: int | None = None


SET_PATHWAY = Call("steering", "set_pathway", PathwayState, Nothing)

PATHWAYS = ("cdn-a", "cdn-b", "cdn-c")
"""Every CDN pathway, in the order to use when steering cannot be asked."""


def steering_path(session_id: str, country: str = "", network: str = "") -> str:
    """Where the steering manifest of one session is served.

    Everything that ranking needs stands in the path, so that no instance has to remember it; what
    cannot be a word of a path is left out.
    """
    words = (_NOT_A_WORD.sub("", part)[:64] for part in (session_id, country, network))
    return "/v1/steering/" + "~".join(words).rstrip("~")


_NOT_A_WORD = re.compile(r"[^A-Za-z0-9._-]")
