"""The rules of manifests: the ladder under its caps, tokens, and the HLS and DASH documents.

Both kinds of document name every CDN pathway, and the same files on each.
"""

from __future__ import annotations

from microservices.manifest.model.claims import MediaClaims, claims_of, media_claims, segment_bases
from microservices.manifest.model.dash import mpd
from microservices.manifest.model.hls import media_playlist, multivariant
from microservices.manifest.model.ladder import CODECS, LADDER, Rendition, renditions

__all__ = [
    "CODECS",
    "LADDER",
    "MediaClaims",
    "Rendition",
    "claims_of",
    "media_claims",
    "media_playlist",
    "mpd",
    "multivariant",
    "renditions",
    "segment_bases",
]
