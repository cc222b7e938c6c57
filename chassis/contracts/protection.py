"""What protection means to every service: the keys of a title, and what a device may decrypt.

A protected title has one content key a quality tier, so that a licence for modest quality opens
nothing more. Key ids are no secret: manifest and licence compute them alike, without a call.
"""

from __future__ import annotations

import hashlib
import uuid

from chassis.contracts.common import Drm

_KEYS = uuid.uuid5(uuid.NAMESPACE_URL, "https://stagedoor.example/keys").bytes
_TIERS = (("sd", 0), ("hd", 576), ("fhd", 720), ("uhd", 1080))  # each begins above so many lines
TIERS = tuple(name for name, _ in _TIERS)

_HEIGHTS = {
    ("clearkey", "*"): 1080,
    ("widevine", "L1"): 2160,
    ("widevine", "*"): 720,
    ("playready", "SL3000"): 2160,
    ("playready", "SL2000"): 1080,
    ("playready", "*"): 720,
}
_HDCP_FOR_UHD = 2.2


def key_id(title_id: str, tier: str) -> str:
    """The id of a title's content key of one tier: 32 hex digits, the same for ever.

    A UUID of version 5 (RFC 9562), made without the `UUID` object around it, which costs five
    times as much.
    """
    raw = bytearray(hashlib.sha1(_KEYS + f"{title_id}/{tier}".encode()).digest()[:16])
    raw[6] = raw[6] & 0x0F | 0x50
    raw[8] = raw[8] & 0x3F | 0x80
    return raw.hex()


def tier_of(height: int) -> str:
    """The tier whose key protects a rendition of so many lines."""
    return tiers_up_to(height)[-1]


def tiers_up_to(height: int) -> tuple[str, ...]:
    """The tiers that a cap of so many lines reaches into; `sd`, which audio uses, always."""
    return tuple(name for name, above in _TIERS if height > above) or TIERS[:1]


def protected_height(drm: Drm, hdcp: str) -> int:
    """The most lines that a device may be given of a protected title; 0 when none.

    Software decryption (Widevine L2 and L3, PlayReady SL150) stays at 720, as studios ask; Clear
    Key and PlayReady SL2000 at 1080; more needs hardware (L1, SL3000) and HDCP 2.2. An output
    without HDCP shows 540.
    """
    known = _HEIGHTS.get((drm.system, drm.level.upper()), _HEIGHTS.get((drm.system, "*"), 0))
    return min(known, _output_height(hdcp))


def _output_height(hdcp: str) -> int:
    try:
        version = float(hdcp)
    except ValueError:
        version = 0.0
    if version >= _HDCP_FOR_UHD:
        return 2160
    return 1080 if version >= 1 else 540
