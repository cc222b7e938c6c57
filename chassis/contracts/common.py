"""Words that several contracts share."""

from __future__ import annotations

import enum
from typing import Annotated, Literal

import msgspec

from chassis.contracts.wire import Wire

Instant = Annotated[float, msgspec.Meta(ge=0, le=253_402_300_799)]
"""UNIX seconds, UTC, no later than the year 9999."""


class Maturity(enum.IntEnum):
    """How grown-up a viewer must be; a title fits a profile when title <= profile."""

    LITTLE_KIDS = 0  # G
    KIDS = 1  # PG
    TEENS = 2  # PG-13
    ADULTS = 3  # R, NC-17, and whatever nobody has rated


Plan = Literal["basic", "standard", "premium"]
MemberStatus = Literal["active", "grace", "paused", "cancelled"]
DeviceType = Literal["tv", "phone", "tablet", "browser", "console", "unknown"]
DrmSystem = Literal["clearkey", "widevine", "playready", "none"]


class Limits(Wire, frozen=True):
    """What a plan allows. Heights in lines, rates in kilobits a second."""

    streams: int
    max_height: int
    max_kbps: int
    hdr: bool = False
    offline: bool = False


class Track(Wire, frozen=True):
    """An audio or caption track. `role` is main, commentary, description, sdh or forced."""

    language: str
    role: str = "main"
    codec: str = ""
    channels: int = 0


class Markers(Wire, frozen=True):
    """Instants in a title, in milliseconds from its start."""

    intro_start_ms: int | None = None
    intro_end_ms: int | None = None
    credits_ms: int | None = None


class Drm(Wire, frozen=True):
    system: DrmSystem = "clearkey"
    level: str = "L3"


class Device(Wire, frozen=True):
    """The device as it describes itself in a Play request."""

    id: str
    type: DeviceType = "unknown"
    os: str = ""
    max_height: int = 1080
    hdr: tuple[str, ...] = ()
    codecs: tuple[str, ...] = ("avc",)
    drm: Drm = Drm()
    hdcp: str = "1.4"
