"""The operations on manifests. A document's token is its credential: players send no other."""

from __future__ import annotations

from typing import TypeVar

from chassis.clock import Clock
from chassis.contracts.streams import (
    BUILD_MANIFEST,
    PATHWAYS,
    Manifest,
    ManifestClaims,
    ManifestRequest,
)
from chassis.errors import Forbidden, NotFound, Unauthenticated, Unprocessable
from chassis.http.api import Api, Reply, Request
from chassis.identity import Seal
from microservices.manifest.model import (
    MediaClaims,
    claims_of,
    media_claims,
    media_playlist,
    mpd,
    multivariant,
    renditions,
    segment_bases,
)

PURPOSE = "manifest"
MEDIA_PURPOSE = "media"
_HLS = b"application/vnd.apple.mpegurl"
_DASH = b"application/dash+xml"

C = TypeVar("C", ManifestClaims, MediaClaims)


class ManifestApi:
    """Tokens that hold everything a document says, and the documents."""

    def __init__(self, seal: Seal, clock: Clock, cdn_secret: bytes) -> None:
        self._seal = seal
        self._clock = clock
        self._cdn_secret = cdn_secret

    def mount(self, api: Api) -> None:
        api.call(BUILD_MANIFEST, self.build, at_once=True)
        api.route("GET", "/v1/manifests/{token}.m3u8", self.hls, auth=False)
        api.route("GET", "/v1/manifests/{token}.mpd", self.dash, auth=False)
        api.route("GET", "/v1/manifests/{token}/{name}.m3u8", self.media, auth=False)

    async def build(self, request: Request, wanted: ManifestRequest) -> Manifest:
        """Paths of the documents for one play, under its caps."""
        now = self._clock.now()
        claims = claims_of(wanted, now)
        if claims.expires_at <= now:
            raise Unprocessable("the rights to this title have ended", code="window_ended")
        offered = renditions(claims)
        token = self._seal.seal(PURPOSE, claims, ttl_s=claims.expires_at - now)
        return Manifest(
            hls=f"/v1/manifests/{token}.m3u8",
            dash=f"/v1/manifests/{token}.mpd",
            steering_url=claims.steering_url or None,
            signed_until=claims.expires_at,
            max_height=max(one.height for one in offered),
            max_kbps=max(one.kbps for one in offered),
        )

    async def hls(self, request: Request) -> Reply:
        """The HLS multivariant playlist."""
        claims = self._open(PURPOSE, request.params["token"], ManifestClaims)
        left = claims.expires_at - self._clock.now()
        token = self._seal.seal(MEDIA_PURPOSE, media_claims(claims), ttl_s=left)
        return self._document(multivariant(claims, token, PATHWAYS).encode(), _HLS, left)

    async def media(self, request: Request) -> Reply:
        """The HLS playlist of one rendition on one pathway."""
        claims = self._open(MEDIA_PURPOSE, request.params["token"], MediaClaims)
        pathway, _, name = request.params["name"].partition(".")
        if pathway not in PATHWAYS:
            raise NotFound(f"there is no pathway {pathway[:40]!r}", code="no_such_rendition")
        base = self._bases(claims.title_id, claims.expires_at)[pathway]
        left = claims.expires_at - self._clock.now()
        return self._document(media_playlist(claims, pathway, name, base).encode(), _HLS, left)

    async def dash(self, request: Request) -> Reply:
        """The DASH media presentation description."""
        claims = self._open(PURPOSE, request.params["token"], ManifestClaims)
        bases = self._bases(claims.title_id, claims.expires_at)
        return self._document(mpd(claims, bases), _DASH, claims.expires_at - self._clock.now())

    def _bases(self, title_id: str, expires_at: float) -> dict[str, str]:
        return segment_bases(PATHWAYS, self._cdn_secret, title_id, expires_at)

    def _open(self, purpose: str, token: str, type_: type[C]) -> C:
        try:
            return self._seal.open(purpose, token, type_)
        except Unauthenticated as fault:
            if fault.code == "expired":
                raise Forbidden(
                    "this manifest has expired; play again", code="manifest_expired"
                ) from None
            raise Forbidden(
                "this is no manifest of ours, or it was altered", code="manifest_invalid"
            ) from None

    def _document(self, body: bytes, kind: bytes, left_s: float) -> Reply:
        cached = b"private, max-age=%d" % min(left_s, 300)
        return Reply(body, content_type=kind, headers=[(b"cache-control", cached)])
