"""DASH media presentation descriptions per ISO 23009-1: static, with segment templates."""

from __future__ import annotations

import base64
import re
import uuid
import xml.etree.ElementTree as ET
from collections.abc import Iterable, Mapping, Sequence

from chassis.contracts.common import Track
from chassis.contracts.protection import key_id
from chassis.contracts.streams import ManifestClaims
from microservices.manifest.model.ladder import SEGMENT_S, Rendition, renditions
from microservices.manifest.model.protection import LICENCE_URL, SYSTEMS, pssh
from microservices.manifest.model.tracks import audio_codec, audio_kbps, named

_CENC = "urn:mpeg:cenc:2013"
_MP4_PROTECTION = "urn:mpeg:dash:mp4protection:2011"
_DASH_ROLES = {
    "main": "main",
    "sdh": "caption",
    "description": "description",
    "forced": "forced-subtitle",
}
_HDR_PROPERTIES = (("ColourPrimaries", 9), ("TransferCharacteristics", 16))


def mpd(claims: ManifestClaims, bases: Mapping[str, str]) -> bytes:
    """The DASH media presentation description; `bases` by pathway, best first."""
    root = ET.Element(
        "MPD",
        {
            "xmlns": "urn:mpeg:dash:schema:mpd:2011",
            "xmlns:cenc": _CENC,
            "xmlns:dashif": "https://dashif.org/CPS",
            "profiles": "urn:mpeg:dash:profile:isoff-live:2011",
            "type": "static",
            "mediaPresentationDuration": f"PT{claims.duration_ms / 1000:.3f}S",
            "minBufferTime": f"PT{SEGMENT_S}S",
        },
    )
    for pathway, base in bases.items():
        _add(root, "BaseURL", f"{base}/", serviceLocation=pathway)
    if claims.steering:
        service = _add(root, "ServiceDescription", id=0)
        _add(
            service,
            "ContentSteering",
            claims.steering_url,
            defaultServiceLocation=next(iter(bases)),
            queryBeforeStart="false",
        )
    period = _add(root, "Period", id="1", start="PT0S")
    sets = [*_video_sets(claims), *_audio_sets(claims), *_text_sets(claims)]
    for number, adaptation in enumerate(sets, 1):
        adaptation.set("id", str(number))
        period.append(adaptation)
    _link_switching(sets)
    return b'<?xml version="1.0" encoding="UTF-8"?>\n' + ET.tostring(root)


def _add(parent: ET.Element, tag: str, text: str | None = None, **attributes: object) -> ET.Element:
    named = {name.replace("__", ":"): str(value) for name, value in attributes.items()}
    element = ET.SubElement(parent, tag, named)
    element.text = text
    return element


def _set(content: str, mime: str, **attributes: object) -> ET.Element:
    given = {name: str(value) for name, value in attributes.items()}
    return ET.Element("AdaptationSet", {"contentType": content, "mimeType": mime, **given})


def _video_sets(claims: ManifestClaims) -> Iterable[ET.Element]:
    """One set a codec, range and key, as a set may have one key only."""
    groups: dict[tuple[str, bool, str], list[Rendition]] = {}
    for video in renditions(claims):
        tier = video.tier if claims.protected else ""
        groups.setdefault((video.codec, video.hdr, tier), []).append(video)
    for (_, hdr, tier), videos in groups.items():
        top = videos[-1]
        adaptation = _set(
            "video",
            "video/mp4",
            par="16:9",
            maxWidth=top.width,
            maxHeight=top.height,
            segmentAlignment="true",
            startWithSAP="1",
        )
        _protect(adaptation, claims, tier)
        if hdr:
            for name, value in _HDR_PROPERTIES:
                uri = f"urn:mpeg:mpegB:cicp:{name}"
                _add(adaptation, "EssentialProperty", schemeIdUri=uri, value=value)
        _add(adaptation, "Role", schemeIdUri="urn:mpeg:dash:role:2011", value="main")
        _template(adaptation)
        for video in videos:
            _add(
                adaptation,
                "Representation",
                id=video.name,
                codecs=video.codecs,
                width=video.width,
                height=video.height,
                frameRate="24",
                bandwidth=video.kbps * 1000,
            )
        yield adaptation


def _audio_sets(claims: ManifestClaims) -> Iterable[ET.Element]:
    for name, track, label in named("audio", claims.audio):
        adaptation = _set(
            "audio", "audio/mp4", lang=track.language, segmentAlignment="true", startWithSAP="1"
        )
        _add(
            adaptation,
            "AudioChannelConfiguration",
            schemeIdUri="urn:mpeg:mpegB:cicp:ChannelConfiguration",
            value=track.channels or 2,
        )
        _protect(adaptation, claims, "sd")
        _describe(adaptation, track, label)
        _template(adaptation)
        _add(
            adaptation,
            "Representation",
            id=name,
            codecs=audio_codec(track),
            audioSamplingRate=48_000,
            bandwidth=audio_kbps(track) * 1000,
        )
        yield adaptation


def _text_sets(claims: ManifestClaims) -> Iterable[ET.Element]:
    for name, track, label in named("text", claims.captions):
        adaptation = _set("text", "text/vtt", lang=track.language)
        _describe(adaptation, track, label)
        representation = _add(adaptation, "Representation", id=name, bandwidth=2_000)
        _add(representation, "BaseURL", f"{name}/full.vtt")
        yield adaptation


def _describe(adaptation: ET.Element, track: Track, label: str) -> None:
    _add(adaptation, "Label", label)
    role = _DASH_ROLES.get(track.role, "alternate")
    _add(adaptation, "Role", schemeIdUri="urn:mpeg:dash:role:2011", value=role)


def _template(adaptation: ET.Element) -> None:
    _add(
        adaptation,
        "SegmentTemplate",
        timescale=1,
        duration=SEGMENT_S,
        startNumber=1,
        initialization="$RepresentationID$/init.mp4",
        media="$RepresentationID$/$Number$.m4s",
    )


def _protect(adaptation: ET.Element, claims: ManifestClaims, tier: str) -> None:
    if claims.drm_system == "none":
        return
    kid = uuid.UUID(key_id(claims.title_id, tier))
    system = SYSTEMS[claims.drm_system]
    _add(
        adaptation,
        "ContentProtection",
        schemeIdUri=_MP4_PROTECTION,
        value="cenc",
        cenc__default_KID=kid,
    )
    its = _add(
        adaptation, "ContentProtection", schemeIdUri=f"urn:uuid:{system.id}", value=system.name
    )
    if claims.drm_system != "clearkey":
        _add(its, "cenc:pssh", base64.b64encode(pssh(claims.drm_system, kid)).decode())
    _add(its, "dashif:Laurl", LICENCE_URL)


def _link_switching(sets: Sequence[ET.Element]) -> None:
    """Says which video sets a player may move between: those of one codec and range."""
    videos = [one for one in sets if one.get("contentType") == "video"]
    for one in videos:
        family = _family(one)
        others = [str(o.get("id")) for o in videos if o is not one and _family(o) == family]
        if others:
            switching = ET.Element(
                "SupplementalProperty",
                schemeIdUri="urn:mpeg:dash:adaptation-set-switching:2016",
                value=",".join(others),
            )
            at = [child.tag for child in one].index("Role")
            one.insert(at, switching)


def _family(adaptation: ET.Element) -> str:
    """The codec and range of a set, as in `hevc-hdr`."""
    representation = adaptation.find("Representation")
    assert representation is not None
    return re.sub(r"-\d+", "", representation.get("id", ""))
