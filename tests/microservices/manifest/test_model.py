from __future__ import annotations

import base64
import uuid
import xml.etree.ElementTree as ET
from typing import Any

import m3u8
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mpegdash.parser import MPEGDASHParser

from chassis.contracts.common import Track
from chassis.contracts.protection import key_id
from chassis.contracts.streams import PATHWAYS, ManifestClaims, ManifestRequest
from chassis.errors import BadRequest, NotFound, Unprocessable
from microservices.manifest.model import (
    CODECS,
    LADDER,
    claims_of,
    media_claims,
    media_playlist,
    mpd,
    multivariant,
    renditions,
    segment_bases,
)
from microservices.manifest.model.protection import SYSTEMS, pssh
from tests.support.playlists import attributes, check_mpd, check_multivariant

NOW = 1_700_000_000.0
AUDIO = (
    Track(language="en", codec="aac", channels=6),
    Track(language="pt-BR", codec="aac", channels=2),
    Track(language="en", role="description", codec="ec-3", channels=2),
)
CAPTIONS = (
    Track(language="en"),
    Track(language="en", role="sdh"),
    Track(language="fr", role="forced"),
)
REQUEST = ManifestRequest(
    play_id="p1",
    session_id="s1",
    account_id="a1",
    title_id="heat-1995",
    duration_ms=6_605_000,
    max_height=2160,
    max_kbps=25_000,
    protected=True,
    hdr=("hdr10",),
    codecs=("avc", "hevc", "av1"),
    audio=AUDIO,
    captions=CAPTIONS,
    country="US",
    network="wifi",
)
BASES = segment_bases(PATHWAYS, b"s" * 32, "heat-1995", NOW + 3600)


def claims(**values: Any) -> ManifestClaims:
    return claims_of(msgspec.structs.replace(REQUEST, **values), NOW)


def hls(made: ManifestClaims) -> str:
    return multivariant(made, "TOKEN", PATHWAYS)


requests = st.builds(
    lambda **values: msgspec.structs.replace(REQUEST, **values),
    max_height=st.integers(240, 4320),
    max_kbps=st.integers(0, 40_000),
    duration_ms=st.integers(1, 20_000_000),
    protected=st.booleans(),
    hdr=st.sampled_from([(), ("hdr10",), ("hlg",)]),
    codecs=st.lists(st.sampled_from(["avc", "hevc", "av1", "vp9"]), min_size=1, unique=True)
    .map(tuple)
    .filter(lambda names: names != ("vp9",)),
    audio=st.sampled_from([(), AUDIO[:1], AUDIO, AUDIO + AUDIO]),
    captions=st.sampled_from([(), CAPTIONS, CAPTIONS + CAPTIONS]),
    drm_system=st.sampled_from(["clearkey", "widevine", "playready"]),
    steering=st.booleans(),
)


# ---- the ladder ----


@given(requests)
def test_no_rendition_exceeds_a_cap_but_the_lowest_always_stays(request: ManifestRequest) -> None:
    made = claims_of(request, NOW)
    offered = renditions(made)
    assert offered
    for one in offered:
        assert one.height <= request.max_height
        assert one.codec in request.codecs
        assert not one.hdr or "hdr10" in request.hdr
        assert one.kbps <= request.max_kbps or len(offered) == 1


def test_avc_ends_at_full_hd_and_hdr_needs_a_newer_codec() -> None:
    offered = renditions(claims())
    assert max(one.height for one in offered if one.codec == "avc") == 1080
    assert {one.codec for one in offered if one.hdr} == {"hevc", "av1"}
    assert max(one.height for one in offered) == 2160


def test_a_rate_cap_counts_the_audio_too() -> None:
    top = max(one.kbps for one in renditions(claims(codecs=("avc",), max_kbps=5_800)))
    assert top == 3_000


def test_a_device_without_any_of_our_codecs_is_unsupported() -> None:
    for values in ({"codecs": ("vp9",)}, {"codecs": ()}, {"max_height": 100}):
        with pytest.raises(Unprocessable) as caught:
            renditions(claims(**values))
        assert caught.value.code == "device_unsupported"


def test_every_rung_has_its_codec_strings() -> None:
    for codec in CODECS.values():
        rungs = [rung for rung in LADDER if rung.height <= codec.highest]
        assert len(codec.strings) == len(rungs)
        assert len(codec.hdr) in (0, len(rungs))


# ---- claims ----


def test_claims_end_with_the_rights_or_after_six_hours() -> None:
    assert claims().expires_at == NOW + 6 * 3600
    assert claims(valid_until=NOW + 60).expires_at == NOW + 60


@pytest.mark.parametrize(
    "values",
    [
        {"title_id": "a/b"},
        {"title_id": 'a"b'},
        {"duration_ms": 0},
        {"audio": (Track(language='e"n'),)},
        {"captions": (Track(language="en", role="a b"),)},
    ],
)
def test_what_would_break_a_document_is_refused(values: dict[str, Any]) -> None:
    with pytest.raises(BadRequest):
        claims(**values)


def test_a_protected_title_needs_a_drm_system() -> None:
    with pytest.raises(Unprocessable):
        claims(drm_system="none")
    assert claims(drm_system="none", protected=False).key_id is None


def test_segments_lie_under_a_signed_path_of_each_cdn() -> None:
    assert set(BASES) == set(PATHWAYS)
    assert len({base.split("/", 3)[3] for base in BASES.values()}) == 1
    others = segment_bases(PATHWAYS, b"t" * 32, "heat-1995", NOW + 3600)
    assert others["cdn-a"] != BASES["cdn-a"]


# ---- HLS ----


@given(requests)
def test_every_multivariant_playlist_keeps_the_specification(request: ManifestRequest) -> None:
    made = claims_of(request, NOW)
    text = hls(made)
    check_multivariant(text)
    parsed = m3u8.loads(text)
    pathways = len(PATHWAYS) if request.steering else 1
    assert len(parsed.playlists) == len(renditions(made)) * pathways


def test_a_multivariant_playlist_says_what_players_choose_by() -> None:
    parsed = m3u8.loads(hls(claims(codecs=("avc",), hdr=(), max_height=1080)))
    assert parsed.version == 7
    assert parsed.is_independent_segments
    top = parsed.playlists[4]
    assert top.stream_info.resolution == (1920, 1080)
    assert top.stream_info.bandwidth == (5_800 + 384) * 1000
    assert top.stream_info.frame_rate == 24.0
    assert top.stream_info.codecs == "avc1.640028,mp4a.40.2,ec-3"
    assert top.stream_info.hdcp_level == "TYPE-0"
    assert top.uri == "TOKEN/cdn-a.avc-1080.m3u8"
    audio = [m for m in parsed.media if m.type == "AUDIO" and m.group_id == "cdn-a.audio"]
    assert [m.language for m in audio] == ["en", "pt-BR", "en"]
    assert [m.default for m in audio] == ["YES", "NO", "NO"]
    assert audio[2].characteristics == "public.accessibility.describes-video"
    text = [m for m in parsed.media if m.type == "SUBTITLES" and m.group_id == "cdn-a.text"]
    assert [m.name for m in text] == ["English", "English (SDH)", "Français (forced)"]
    assert text[2].forced == "YES"


def test_steering_names_the_session_and_every_pathway() -> None:
    parsed = m3u8.loads(hls(claims()))
    assert parsed.content_steering.uri == "/v1/steering/s1~US~wifi"
    assert parsed.content_steering.pathway_id == PATHWAYS[0]
    assert {p.stream_info.pathway_id for p in parsed.playlists} == set(PATHWAYS)


def test_without_steering_there_is_one_pathway_and_no_mention() -> None:
    text = hls(claims(steering=False))
    assert "STEERING" not in text
    assert "PATHWAY-ID" not in text
    assert "cdn-b" not in text


@pytest.mark.parametrize("system", SYSTEMS)
def test_session_keys_name_each_tier_in_use(system: str) -> None:
    tags = [
        attributes(line)
        for line in hls(claims(drm_system=system, max_height=720)).splitlines()
        if line.startswith("#EXT-X-SESSION-KEY")
    ]
    wanted = [f"0x{key_id('heat-1995', tier)}" for tier in ("sd", "hd")]
    assert [tag["KEYID"] for tag in tags] == wanted
    assert {tag["KEYFORMAT"] for tag in tags} == {SYSTEMS[system].key_format}
    assert {tag["METHOD"] for tag in tags} == {"SAMPLE-AES-CTR"}


def test_a_clear_title_has_no_keys_at_all() -> None:
    made = claims(protected=False)
    assert "KEY" not in hls(made)
    assert "HDCP" not in hls(made)
    assert "#EXT-X-KEY" not in media_playlist(media_claims(made), "cdn-a", "avc-240", "https://x")


@pytest.mark.slow
@given(st.integers(1, 20_000_000))
def test_segments_fill_the_whole_title_exactly(duration_ms: int) -> None:
    made = media_claims(claims(duration_ms=duration_ms, codecs=("avc",)))
    parsed = m3u8.loads(media_playlist(made, "cdn-a", "avc-720", BASES["cdn-a"]))
    assert round(sum(segment.duration for segment in parsed.segments) * 1000) == duration_ms
    assert all(0 < segment.duration <= parsed.target_duration for segment in parsed.segments)
    assert parsed.is_endlist
    assert parsed.playlist_type == "vod"


def test_a_media_playlist_points_at_its_own_pathway_and_key() -> None:
    text = media_playlist(media_claims(claims()), "cdn-b", "hevc-1080-hdr", BASES["cdn-b"])
    parsed = m3u8.loads(text)
    prefix = f"{BASES['cdn-b']}/hevc-1080-hdr/"
    assert parsed.segment_map[0].uri == f"{prefix}init.mp4"
    assert parsed.segments[0].uri == f"{prefix}1.m4s"
    assert parsed.segments[-1].uri == f"{prefix}1101.m4s"
    tag = next(line for line in text.splitlines() if line.startswith("#EXT-X-KEY"))
    assert attributes(tag)["KEYID"] == f"0x{key_id('heat-1995', 'fhd')}"


def test_captions_are_one_clear_file_of_the_whole_length() -> None:
    text = media_playlist(media_claims(claims()), "cdn-a", "text-en-sdh", BASES["cdn-a"])
    (segment,) = m3u8.loads(text).segments
    assert segment.duration == 6605.0
    assert segment.uri.endswith("/text-en-sdh/full.vtt")
    assert "#EXT-X-KEY" not in text


def test_a_rendition_above_the_cap_is_not_opened_by_the_token() -> None:
    made = media_claims(claims(max_height=720))
    for name in ("hevc-1080", "audio-de", "../x", ""):
        with pytest.raises(NotFound):
            media_playlist(made, "cdn-a", name, "https://x")


# ---- DASH ----


@pytest.mark.slow
@given(requests)
def test_every_mpd_keeps_the_schema_and_offers_what_hls_offers(request: ManifestRequest) -> None:
    made = claims_of(request, NOW)
    document = mpd(made, BASES)
    check_mpd(document)
    parsed = MPEGDASHParser.parse(document.decode())
    shown = [r.id for p in parsed.periods for a in p.adaptation_sets for r in a.representations]
    assert sorted(shown) == sorted(media_claims(made).files)


def test_an_mpd_says_what_players_choose_by() -> None:
    parsed = MPEGDASHParser.parse(mpd(claims(codecs=("hevc",)), BASES).decode())
    assert parsed.type == "static"
    assert parsed.media_presentation_duration == "PT6605.000S"
    assert [one.base_url_value.rstrip("/") for one in parsed.base_urls] == list(BASES.values())
    sets = parsed.periods[0].adaptation_sets
    template = sets[0].segment_templates[0]
    assert (template.media, template.duration) == ("$RepresentationID$/$Number$.m4s", 6)
    audio = [one for one in sets if one.content_type == "audio"]
    assert [one.lang for one in audio] == ["en", "pt-BR", "en"]


def test_dash_tracks_say_their_role_and_label() -> None:
    root = check_mpd(mpd(claims(), BASES))
    told = [
        (one.get("contentType"), one.findtext("{*}Label"), role.get("value"))
        for one in root.findall(".//{*}AdaptationSet")
        if one.get("contentType") != "video" and (role := one.find("{*}Role")) is not None
    ]
    assert told == [
        ("audio", "English", "main"),
        ("audio", "pt-BR", "main"),
        ("audio", "English (audio description)", "description"),
        ("text", "English", "main"),
        ("text", "English (SDH)", "caption"),
        ("text", "Français (forced)", "forced-subtitle"),
    ]


def test_dash_steering_stands_in_the_service_description() -> None:
    root = check_mpd(mpd(claims(), BASES))
    steering = root.find("{*}ServiceDescription/{*}ContentSteering")
    assert steering is not None
    assert steering.text == "/v1/steering/s1~US~wifi"
    assert steering.get("defaultServiceLocation") == PATHWAYS[0]
    plain = check_mpd(mpd(claims(steering=False), BASES))
    assert plain.find("{*}ServiceDescription") is None


def test_each_set_has_the_key_of_its_tier_and_names_the_sets_to_switch_to() -> None:
    root = check_mpd(mpd(claims(codecs=("hevc",), hdr=()), BASES))
    videos = [
        one for one in root.findall(".//{*}AdaptationSet") if one.get("contentType") == "video"
    ]
    kids = [_default_kid(one) for one in videos]
    wanted = [key_id("heat-1995", tier) for tier in ("sd", "hd", "fhd", "uhd")]
    assert [kid.hex for kid in kids] == wanted
    switching = videos[0].find("{*}SupplementalProperty")
    assert switching is not None
    assert switching.get("value") == ",".join(str(one.get("id")) for one in videos[1:])


def _default_kid(adaptation: ET.Element) -> uuid.UUID:
    common = adaptation.find("{*}ContentProtection")
    assert common is not None
    return uuid.UUID(common.get("{urn:mpeg:cenc:2013}default_KID"))


def test_clear_key_says_where_licences_are_and_the_others_carry_their_pssh() -> None:
    clear = check_mpd(mpd(claims(), BASES))
    laurl = clear.find(".//{https://dashif.org/CPS}Laurl")
    assert laurl is not None
    assert laurl.text == "/v1/licence"
    assert clear.find(".//{urn:mpeg:cenc:2013}pssh") is None
    widevine = check_mpd(mpd(claims(drm_system="widevine"), BASES))
    box = widevine.find(".//{urn:mpeg:cenc:2013}pssh")
    assert box is not None
    assert base64.b64decode(box.text or "")[4:8] == b"pssh"


@pytest.mark.parametrize("system", ["widevine", "playready"])
def test_a_pssh_box_states_its_size_and_its_system(system: str) -> None:
    kid = uuid.UUID(key_id("heat-1995", "sd"))
    box = pssh(system, kid)
    assert int.from_bytes(box[:4], "big") == len(box)
    assert box[8:12] == bytes(4)
    assert box[12:28] == SYSTEMS[system].id.bytes
    assert int.from_bytes(box[28:32], "big") == len(box) - 32
    carried = kid.bytes if system == "widevine" else base64.b64encode(kid.bytes_le)
    assert carried in (box if system == "widevine" else box.replace(b"\0", b""))
