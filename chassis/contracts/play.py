"""`POST /v1/play`: the request and the answer."""

from __future__ import annotations

from typing import Any, Literal

from chassis.contracts.common import Device, DrmSystem, Instant, Markers, Track
from chassis.contracts.viewing import Suggestion
from chassis.contracts.wire import Wire

LimitedBy = Literal["plan", "device", "rights", "drm_level", "title", "shed"]


class Network(Wire, frozen=True):
    type: str = "unknown"
    downlink_kbps: int = 0


class Prefs(Wire, frozen=True):
    audio: tuple[str, ...] = ()
    captions: tuple[str, ...] = ()
    autoplay: bool = True


class Supports(Wire, frozen=True):
    hls: bool = True
    dash: bool = True
    steering: bool = True


class PlayRequest(Wire, frozen=True):
    """Exactly one of `title_id` and `episode_id`. `start_at` is in milliseconds."""

    profile_id: str
    device: Device
    title_id: str | None = None
    episode_id: str | None = None
    network: Network = Network()
    prefs: Prefs = Prefs()
    pin_token: str | None = None
    start_at: int | None = None
    supports: Supports = Supports()
    evict: str | None = None


class SessionPart(Wire, frozen=True):
    id: str
    lease_ttl_s: int
    heartbeat_s: int
    heartbeat_url: str
    policy: Literal["leased", "provisional"]


class ManifestPart(Wire, frozen=True):
    hls: str | None
    dash: str | None
    steering_url: str | None
    signed_until: Instant


class QualityPart(Wire, frozen=True):
    max_height: int
    max_kbps: int
    hdr: tuple[str, ...]
    codecs: tuple[str, ...]
    limited_by: LimitedBy | None


class DrmPart(Wire, frozen=True):
    system: DrmSystem
    licence_url: str | None
    licence_token: str | None
    key_ids: tuple[str, ...]


class ResumePart(Wire, frozen=True):
    position_ms: int
    source: Literal["server", "client", "none"]


class Degraded(Wire, frozen=True):
    """A part that could not be served as designed, and what stands in its place."""

    part: str
    reason: str
    fallback: str
    retry_after_s: float | None = None


class PlayAnswer(Wire, frozen=True):
    """Every optional part is present, or null and named in `degraded`."""

    play_id: str
    title_id: str
    name: str
    duration_ms: int
    session: SessionPart
    manifest: ManifestPart
    quality: QualityPart
    drm: DrmPart
    audio: tuple[Track, ...]
    captions: tuple[Track, ...]
    resume: ResumePart
    markers: Markers
    up_next: Suggestion | None
    experiments: dict[str, str]
    telemetry: dict[str, Any]
    degraded: tuple[Degraded, ...] = ()
