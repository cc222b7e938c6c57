"""The bitrate ladder, and what of it is left under the caps.

16:9 at 24 frames a second in CMAF segments of six seconds. Rates are peaks with AVC; HEVC needs
three fifths of them, AV1 half, HDR a fifth more. AVC ends at 1080 lines, and HDR10 comes in HEVC
and AV1 only. Whatever exceeds a cap is left out; the lowest rung stays under any rate cap, since a
slow line is no reason to play nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import NamedTuple

from chassis.contracts.protection import tier_of
from chassis.contracts.streams import ManifestClaims
from chassis.errors import Unprocessable
from microservices.manifest.model.tracks import audio_kbps

SEGMENT_S = 6


class Rung(NamedTuple):
    height: int
    width: int
    kbps: int


LADDER = (
    Rung(240, 426, 300),
    Rung(360, 640, 700),
    Rung(480, 854, 1_200),
    Rung(720, 1280, 3_000),
    Rung(1080, 1920, 5_800),
    Rung(1440, 2560, 10_000),
    Rung(2160, 3840, 16_800),
)


class Codec(NamedTuple):
    """`strings` are RFC 6381 names by rung, `hdr` those of its HDR10 form."""

    share: float
    highest: int
    strings: tuple[str, ...]
    hdr: tuple[str, ...] = ()


CODECS: Mapping[str, Codec] = {
    "avc": Codec(
        1.0,
        1080,
        ("avc1.42c015", "avc1.4d401e", "avc1.4d401f", "avc1.64001f", "avc1.640028"),
    ),
    "hevc": Codec(
        0.6,
        2160,
        tuple(f"hvc1.1.6.L{level}.B0" for level in (60, 63, 90, 93, 120, 150, 150)),
        tuple(f"hvc1.2.4.L{level}.B0" for level in (60, 63, 90, 93, 120, 150, 150)),
    ),
    "av1": Codec(
        0.5,
        2160,
        tuple(f"av01.0.{level}M.08" for level in ("00", "01", "04", "05", "08", "12", "12")),
        tuple(
            f"av01.0.{level}M.10.0.110.09.16.09.0"
            for level in ("00", "01", "04", "05", "08", "12", "12")
        ),
    ),
}
_HDR_SHARE = 1.2
_AVERAGE_SHARE = 0.75


class Rendition(NamedTuple):
    """One coded form of the video. `kbps` is its peak."""

    name: str
    codec: str
    codecs: str
    height: int
    width: int
    kbps: int
    hdr: bool

    @property
    def tier(self) -> str:
        return tier_of(self.height)

    @property
    def average_kbps(self) -> int:
        return round(self.kbps * _AVERAGE_SHARE)


def renditions(claims: ManifestClaims) -> tuple[Rendition, ...]:
    """The video renditions under all caps, lowest first; `Unprocessable` when there is none."""
    audio = max(map(audio_kbps, claims.audio), default=0)
    coded = _all_coded(claims.codecs, claims.max_height, "hdr10" in claims.hdr)
    if not coded:
        raise Unprocessable(
            f"no rendition has {claims.max_height} lines or fewer in"
            f" {', '.join(claims.codecs) or 'no codec'}; there are {', '.join(CODECS)}",
            code="device_unsupported",
        )
    fitting = tuple([one for one in coded if one.kbps + audio <= claims.max_kbps])
    return fitting or coded[:1]


@lru_cache(maxsize=256)  # few devices differ in these three, and every Play asks
def _all_coded(codecs: tuple[str, ...], max_height: int, hdr10: bool) -> tuple[Rendition, ...]:
    known = [name for name in codecs if name in CODECS]
    coded = [one for name in known for one in _coded(name, max_height, hdr10)]
    return tuple(sorted(coded, key=lambda one: (one.height, one.kbps)))


def _coded(name: str, max_height: int, hdr10: bool) -> Iterable[Rendition]:
    codec = CODECS[name]
    height = min(max_height, codec.highest)
    for at, rung in enumerate(LADDER):
        if rung.height > height:
            return
        kbps = round(rung.kbps * codec.share)
        shown = f"{name}-{rung.height}"
        yield Rendition(shown, name, codec.strings[at], rung.height, rung.width, kbps, False)
        if codec.hdr and hdr10:
            kbps = round(kbps * _HDR_SHARE)
            shown, codecs = f"{shown}-hdr", codec.hdr[at]
            yield Rendition(shown, name, codecs, rung.height, rung.width, kbps, True)
