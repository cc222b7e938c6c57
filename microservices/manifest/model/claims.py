"""What the tokens in manifest paths say: all that a document needs, with nothing to look up."""

from __future__ import annotations

import hmac
import re
from collections.abc import Iterable
from urllib.parse import quote

import msgspec

from chassis.contracts.common import DrmSystem
from chassis.contracts.protection import key_id
from chassis.contracts.streams import ManifestClaims, ManifestRequest, steering_path
from chassis.errors import BadRequest, Unprocessable
from microservices.manifest.model.ladder import renditions
from microservices.manifest.model.protection import SYSTEMS
from microservices.manifest.model.tracks import named

SIGNED_FOR_S = 6 * 3600.0
_SAFE = re.compile(r"[A-Za-z0-9._-]{1,120}\Z")
_LANGUAGE = re.compile(r"[A-Za-z]{2,8}(-[A-Za-z0-9]{1,8})*\Z")


class MediaClaims(msgspec.Struct, frozen=True, array_like=True):
    """What the token in a media playlist's path seals (purpose `media`): short, as it is repeated.

    `files` are the renditions and tracks that it opens.
    """

    title_id: str
    duration_ms: int
    expires_at: float
    drm_system: DrmSystem
    files: tuple[str, ...]


def claims_of(request: ManifestRequest, now: float) -> ManifestClaims:
    """What a manifest for this play will say, for six hours at most and within its rights."""
    _check(request)
    until = now + SIGNED_FOR_S
    return ManifestClaims(
        play_id=request.play_id,
        title_id=request.title_id,
        duration_ms=request.duration_ms,
        max_height=request.max_height,
        max_kbps=request.max_kbps,
        protected=request.protected,
        expires_at=until if request.valid_until is None else min(until, request.valid_until),
        hdr=request.hdr,
        codecs=request.codecs,
        audio=request.audio,
        captions=request.captions,
        drm_system=request.drm_system if request.protected else "none",
        key_id=key_id(request.title_id, "sd") if request.protected else None,
        steering=request.steering,
        steering_url=steering_path(request.session_id, request.country, request.network)
        if request.steering
        else "",
    )


def _check(request: ManifestRequest) -> None:
    if not _SAFE.match(request.title_id):
        raise BadRequest("title_id may hold letters, digits, dots, dashes and underscores")
    if request.duration_ms <= 0:
        raise BadRequest("duration_ms must be positive")
    for language, role in {(one.language, one.role) for one in request.audio + request.captions}:
        if not _LANGUAGE.match(language) or not _SAFE.match(role):
            raise BadRequest(f"track {language!r} {role!r} is no language and role")
    if request.protected and request.drm_system not in SYSTEMS:
        raise Unprocessable(
            "this title is protected and the device has no DRM system", code="device_unsupported"
        )


def media_claims(claims: ManifestClaims) -> MediaClaims:
    videos = (rendition.name for rendition in renditions(claims))
    tracks = (*named("audio", claims.audio), *named("text", claims.captions))
    files = (*videos, *(one.name for one in tracks))
    return MediaClaims(
        claims.title_id, claims.duration_ms, claims.expires_at, claims.drm_system, files
    )


def segment_bases(
    pathways: Iterable[str], secret: bytes, title_id: str, expires_at: float
) -> dict[str, str]:
    """Pathway to the URL below which a title's files lie; the CDN checks the MAC and its end."""
    ends = f"{int(expires_at):x}"
    mac = hmac.digest(secret, f"{ends}/{title_id}".encode(), "sha256")[:16].hex()
    return {
        pathway: f"https://{pathway}.stagedoor.example/{ends}-{mac}/{quote(title_id)}"
        for pathway in pathways
    }
