"""HLS playlists per RFC 8216 (version 7), with the content steering of its second edition."""

from __future__ import annotations

import math
import uuid
from collections.abc import Iterable, Sequence

from chassis.contracts.common import DrmSystem, Track
from chassis.contracts.protection import key_id, tier_of
from chassis.contracts.streams import ManifestClaims
from chassis.errors import NotFound
from microservices.manifest.model.claims import MediaClaims
from microservices.manifest.model.ladder import SEGMENT_S, Rendition, renditions
from microservices.manifest.model.protection import SYSTEMS, key_uri
from microservices.manifest.model.tracks import audio_codec, audio_kbps, named

_CHARACTERISTICS = {
    "description": "public.accessibility.describes-video",
    "sdh": "public.accessibility.transcribes-spoken-dialog,"
    "public.accessibility.describes-music-and-sound",
}


def multivariant(claims: ManifestClaims, media_token: str, pathways: Sequence[str]) -> str:
    """The multivariant playlist; media playlists are relative to it. Best pathway first."""
    videos = renditions(claims)
    lines = ["#EXTM3U", "#EXT-X-VERSION:7", "#EXT-X-INDEPENDENT-SEGMENTS"]
    if claims.steering:
        lines.append(
            f'#EXT-X-CONTENT-STEERING:SERVER-URI="{claims.steering_url}",PATHWAY-ID="{pathways[0]}"'
        )
    if claims.drm_system != "none":
        tiers = dict.fromkeys(["sd", *(video.tier for video in videos)])
        lines += [
            _key_tag("EXT-X-SESSION-KEY", claims.drm_system, claims.title_id, tier)
            for tier in tiers
        ]
    for pathway in pathways if claims.steering else pathways[:1]:
        lines += _hls_tracks(claims, media_token, pathway)
        lines += _hls_variants(claims, videos, media_token, pathway)
    return "\n".join(lines) + "\n"


def _hls_tracks(claims: ManifestClaims, token: str, pathway: str) -> Iterable[str]:
    for at, (name, track, label) in enumerate(named("audio", claims.audio)):
        chosen = "YES" if at == 0 else "NO"
        yield (
            f'#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID="{pathway}.audio",NAME="{label}"'
            f',LANGUAGE="{track.language}",DEFAULT={chosen},AUTOSELECT=YES'
            f',CHANNELS="{track.channels or 2}"{_hls_accessibility(track)}'
            f',URI="{token}/{pathway}.{name}.m3u8"'
        )
    for name, track, label in named("text", claims.captions):
        forced = ",FORCED=YES" if track.role == "forced" else ""
        yield (
            f'#EXT-X-MEDIA:TYPE=SUBTITLES,GROUP-ID="{pathway}.text",NAME="{label}"'
            f',LANGUAGE="{track.language}",DEFAULT=NO,AUTOSELECT=YES{forced}'
            f'{_hls_accessibility(track)},URI="{token}/{pathway}.{name}.m3u8"'
        )


def _hls_accessibility(track: Track) -> str:
    known = _CHARACTERISTICS.get(track.role)
    return f',CHARACTERISTICS="{known}"' if known else ""


def _hls_variants(
    claims: ManifestClaims, videos: Sequence[Rendition], token: str, pathway: str
) -> Iterable[str]:
    audio = max((audio_kbps(track) for track in claims.audio), default=0)
    codecs = dict.fromkeys(audio_codec(track) for track in claims.audio)
    groups = f',AUDIO="{pathway}.audio"' if claims.audio else ""
    groups += f',SUBTITLES="{pathway}.text"' if claims.captions else ""
    steered = f',PATHWAY-ID="{pathway}"' if claims.steering else ""
    for video in videos:
        hdcp = f",HDCP-LEVEL={_HDCP[video.tier]}" if claims.protected else ""
        yield (
            f"#EXT-X-STREAM-INF:BANDWIDTH={(video.kbps + audio) * 1000}"
            f",AVERAGE-BANDWIDTH={(video.average_kbps + audio) * 1000}"
            f',CODECS="{",".join((video.codecs, *codecs))}"'
            f",RESOLUTION={video.width}x{video.height},FRAME-RATE=24.000"
            f",VIDEO-RANGE={'PQ' if video.hdr else 'SDR'}{hdcp}{groups}"
            f",CLOSED-CAPTIONS=NONE{steered}"
        )
        yield f"{token}/{pathway}.{video.name}.m3u8"


_HDCP = {"sd": "NONE", "hd": "TYPE-0", "fhd": "TYPE-0", "uhd": "TYPE-1"}


def media_playlist(claims: MediaClaims, pathway: str, name: str, base: str) -> str:
    """The playlist of one rendition or track on one pathway; `NotFound` when it is not opened."""
    if name not in claims.files:
        raise NotFound(f"this manifest has no rendition {name[:60]!r}", code="no_such_rendition")
    if name.startswith("text-"):
        return _text_playlist(claims, f"{base}/{name}/full.vtt")
    lines = _playlist_head(SEGMENT_S)
    if claims.drm_system != "none":
        tier = "sd" if name.startswith("audio-") else tier_of(int(name.split("-")[1]))
        lines.append(_key_tag("EXT-X-KEY", claims.drm_system, claims.title_id, tier))
    lines.append(f'#EXT-X-MAP:URI="{base}/{name}/init.mp4"')
    full, rest = divmod(claims.duration_ms, SEGMENT_S * 1000)
    for number in range(1, full + 1):
        lines.append(f"#EXTINF:{SEGMENT_S}.000,\n{base}/{name}/{number}.m4s")
    if rest:
        lines.append(f"#EXTINF:{rest / 1000:.3f},\n{base}/{name}/{full + 1}.m4s")
    lines.append("#EXT-X-ENDLIST")
    return "\n".join(lines) + "\n"


def _playlist_head(longest_s: int) -> list[str]:
    return [
        "#EXTM3U",
        "#EXT-X-VERSION:7",
        f"#EXT-X-TARGETDURATION:{longest_s}",
        "#EXT-X-MEDIA-SEQUENCE:1",
        "#EXT-X-PLAYLIST-TYPE:VOD",
        "#EXT-X-INDEPENDENT-SEGMENTS",
    ]


def _text_playlist(claims: MediaClaims, url: str) -> str:
    """Captions are one WebVTT file; RFC 8216 lets them have a target duration of their own."""
    seconds = claims.duration_ms / 1000
    lines = _playlist_head(math.ceil(seconds))
    lines += [f"#EXTINF:{seconds:.3f},", url, "#EXT-X-ENDLIST"]
    return "\n".join(lines) + "\n"


def _key_tag(tag: str, system: DrmSystem, title_id: str, tier: str) -> str:
    kid = uuid.UUID(key_id(title_id, tier))
    return (
        f'#{tag}:METHOD=SAMPLE-AES-CTR,URI="{key_uri(system, kid)}",KEYID=0x{kid.hex}'
        f',KEYFORMAT="{SYSTEMS[system].key_format}",KEYFORMATVERSIONS="1"'
    )
