from __future__ import annotations

from pathlib import Path
from urllib.parse import urljoin

import m3u8
import msgspec
from mpegdash.parser import MPEGDASHParser

from chassis.clock import ManualClock
from chassis.contracts.common import Track
from chassis.contracts.streams import BUILD_MANIFEST, ManifestClaims, ManifestRequest
from microservices.manifest.app import build
from tests.support.playlists import check_mpd, check_multivariant
from tests.support.services import InProcess, in_process

REQUEST = ManifestRequest(
    play_id="p1",
    session_id="s1",
    account_id="a1",
    title_id="heat-1995",
    duration_ms=600_000,
    max_height=1080,
    max_kbps=8_000,
    protected=True,
    codecs=("avc", "hevc"),
    audio=(Track(language="en", codec="aac", channels=6),),
    captions=(Track(language="en"),),
)


async def get(client: InProcess, path: str) -> tuple[int, str, str]:
    """Status, media type and body or problem code, asked without a passport as players do."""
    answer = await client.rest("GET", path, passport=None)
    body = answer.text if answer.status_code == 200 else answer.json()["code"]
    return answer.status_code, answer.headers["content-type"], body


async def test_a_player_finds_its_way_from_the_manifest_to_every_segment(tmp_path: Path) -> None:
    async with in_process("manifest", build, tmp_path) as client:
        manifest = await client.call(BUILD_MANIFEST, REQUEST)
        status, kind, text = await get(client, manifest.hls)
        assert (status, kind) == (200, "application/vnd.apple.mpegurl")
        check_multivariant(text)
        parsed = m3u8.loads(text)
        uris = [one.uri for one in parsed.playlists] + [one.uri for one in parsed.media]
        for uri in uris:
            status, kind, text = await get(client, urljoin(manifest.hls, uri))
            assert (status, kind) == (200, "application/vnd.apple.mpegurl")
            pathway = uri.split("/")[-1].split(".")[0]
            segments = m3u8.loads(text).segments
            assert segments
            assert segments[0].uri.startswith(f"https://{pathway}.stagedoor.example/")


async def test_the_mpd_parses_and_names_the_same_files(tmp_path: Path) -> None:
    async with in_process("manifest", build, tmp_path) as client:
        manifest = await client.call(BUILD_MANIFEST, REQUEST)
        status, kind, text = await get(client, manifest.dash)
        assert (status, kind) == (200, "application/dash+xml")
        check_mpd(text.encode())
        assert len(MPEGDASHParser.parse(text).base_urls) == 3


async def test_the_answer_tells_what_is_really_offered(tmp_path: Path) -> None:
    async with in_process("manifest", build, tmp_path) as client:
        wide = msgspec.structs.replace(REQUEST, max_height=2160, codecs=("avc",))
        manifest = await client.call(BUILD_MANIFEST, wide)
        assert (manifest.max_height, manifest.max_kbps) == (1080, 5_800)
        assert manifest.steering_url == "/v1/steering/s1"
        plain = msgspec.structs.replace(REQUEST, steering=False)
        assert (await client.call(BUILD_MANIFEST, plain)).steering_url is None


async def test_a_manifest_stops_answering_when_it_says(tmp_path: Path) -> None:
    clock = ManualClock()
    async with in_process("manifest", build, tmp_path, clock=clock) as client:
        brief = msgspec.structs.replace(REQUEST, valid_until=clock.now() + 60)
        manifest = await client.call(BUILD_MANIFEST, brief)
        assert manifest.signed_until == clock.now() + 60
        _, _, text = await get(client, manifest.hls)
        media = urljoin(manifest.hls, m3u8.loads(text).playlists[0].uri)
        clock.tick(59)
        assert (await get(client, media))[0] == 200
        clock.tick(1)
        for path in (manifest.hls, manifest.dash, media):
            assert (await get(client, path))[::2] == (403, "manifest_expired")


async def test_an_altered_or_foreign_token_is_refused(tmp_path: Path) -> None:
    async with in_process("manifest", build, tmp_path) as client:
        manifest = await client.call(BUILD_MANIFEST, REQUEST)
        token = manifest.hls.removeprefix("/v1/manifests/").removesuffix(".m3u8")
        claims = client.chassis.seal.open("manifest", token, ManifestClaims)
        foreign = client.chassis.seal.seal("licence", claims, ttl_s=60)
        middle = len(token) // 2
        swapped = "A" if token[middle] != "A" else "B"
        for bad in (token[:middle] + swapped + token[middle + 1 :], foreign, "x", token + "x"):
            for path in (f"{bad}.m3u8", f"{bad}.mpd", f"{bad}/cdn-a.avc-240.m3u8"):
                answer = await get(client, f"/v1/manifests/{path}")
                assert answer[::2] == (403, "manifest_invalid"), path


async def test_ended_rights_build_nothing(tmp_path: Path) -> None:
    clock = ManualClock()
    async with in_process("manifest", build, tmp_path, clock=clock) as client:
        ended = msgspec.structs.replace(REQUEST, valid_until=clock.now())
        answer = await client.raw_call(BUILD_MANIFEST, ended)
        assert (answer.status_code, answer.json()["code"]) == (422, "window_ended")


async def test_unknown_pathways_and_renditions_are_404(tmp_path: Path) -> None:
    async with in_process("manifest", build, tmp_path) as client:
        manifest = await client.call(BUILD_MANIFEST, REQUEST)
        _, _, text = await get(client, manifest.hls)
        media = urljoin(manifest.hls, m3u8.loads(text).playlists[0].uri)
        folder = media.rpartition("/")[0]
        for name in ("cdn-z.avc-240", "cdn-a.hevc-2160", "avc-240"):
            assert (await get(client, f"{folder}/{name}.m3u8"))[0] == 404


async def test_every_instance_signs_segments_alike(tmp_path: Path) -> None:
    texts = set()
    for seed in (1, 2):
        clock = ManualClock(seed=seed)
        async with in_process("manifest", build, tmp_path, clock=clock) as client:
            manifest = await client.call(BUILD_MANIFEST, REQUEST)
            texts.add((await get(client, manifest.dash))[2])
    assert len(texts) == 1
