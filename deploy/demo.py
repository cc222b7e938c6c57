"""`stagedoor demo`: one member, one film, and everything that comes of it, shown as it happens."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from chassis.clock import Clock
from chassis.contracts.viewing import ViewingHistory
from chassis.errors import PeerRefusal, StagedoorError
from chassis.storage import Objects, Tables, open_objects, open_tables
from deploy.backing import settings_of
from deploy.explain import gather, waterfall
from deploy.member import Member, player_event, watching

Say = Callable[[str], None]
T = TypeVar("T")

BEATS = 6
BEAT_MS = 30_000
ARRIVES_S = 15.0


class DemoReport(msgspec.Struct, kw_only=True):
    """What the demo saw, for `--json`."""

    title: str
    play: dict[str, Any]
    bookmark: dict[str, Any]
    history: dict[str, Any]
    trending: dict[str, Any]
    archive: list[str]
    trace: list[dict[str, Any]]


async def demo(
    url: str, home: Path, words: str, country: str, clock: Clock, say: Say
) -> DemoReport:
    """Signs up, plays, watches three minutes in event time, stops, and waits for each effect.

    `StagedoorError` names the effect that did not arrive in time.
    """
    member = Member(url, clock)
    device = f"demo-{clock.entropy(3).hex()}"
    try:
        await member.sign_up(country=country)
        say(f"signed up {member.email} in {country} on the premium plan")
        await member.sign_in(device_id=device)
        title = await member.find(words)
        say(f"found {title['name']} ({title['year']}), {title['title_id']}")
        answer = await _play(member, title["title_id"], device, say)
        await _watch(member, answer, device, country, clock, say)
        async with _stores(home) as stores:
            return await _effects(member, stores, title, answer, country, clock, say)
    finally:
        await member.close()


@dataclass(frozen=True, slots=True)
class _Stores:
    """Where the stream pipeline writes, and the state directory of who does."""

    home: Path
    views: Tables
    archive: Objects


@asynccontextmanager
async def _stores(home: Path) -> AsyncIterator[_Stores]:
    settings = settings_of(home)
    views, archive = open_tables(settings.views_url), open_objects(settings.objects_url)
    try:
        await views.prepare(ViewingHistory)
        yield _Stores(home, views, archive)
    finally:
        await views.close()
        await archive.close()


async def _play(member: Member, title_id: str, device: str, say: Say) -> dict[str, Any]:
    response = await member.play(title_id, device)
    if response.status_code != 200:
        raise StagedoorError(f"POST /v1/play answered {response.status_code}: {response.text}")
    answer: dict[str, Any] = response.json()
    quality = answer["quality"]
    say(
        f"POST /v1/play: 200, session {answer['session']['id']}, up to {quality['max_height']}p"
        f" (limited by {quality['limited_by'] or 'nothing'}),"
        f" degraded: {[one['part'] for one in answer['degraded']] or 'nothing'}"
    )
    playlist = await member.send("GET", answer["manifest"]["hls"])
    renditions = playlist.text.count("#EXT-X-STREAM-INF")
    say(f"GET manifest: {playlist.status_code}, HLS with {renditions} renditions")
    return answer


async def _watch(
    member: Member, answer: dict[str, Any], device: str, country: str, clock: Clock, say: Say
) -> None:
    """Reports a start, heartbeats 30 s of film apart, and a stop; renews and ends the lease."""
    session = watching(answer, member.profile_id, device, country)
    begin = clock.now() - BEATS * BEAT_MS / 1000
    kinds = ["start", *["heartbeat"] * (BEATS - 1), "stop"]
    events = [
        player_event(session, seq, kind, (seq - 1) * BEAT_MS, begin + (seq - 1) * BEAT_MS / 1000)
        for seq, kind in enumerate(kinds, start=1)
    ]
    await member.ask("POST", answer["session"]["heartbeat_url"], {"position_ms": BEAT_MS})
    receipt = await member.ask("POST", "/v1/events", {"events": events})
    say(f"sent {len(events)} player events: {receipt['accepted']} accepted, now durable")
    await member.ask("DELETE", f"/v1/play/sessions/{answer['session']['id']}")
    say("stopped: the stream lease is released")


async def _effects(
    member: Member,
    stores: _Stores,
    title: dict[str, Any],
    answer: dict[str, Any],
    country: str,
    clock: Clock,
    say: Say,
) -> DemoReport:
    title_id, session_id = title["title_id"], answer["session"]["id"]
    bookmark = await _arrives("the bookmark", lambda: _bookmark(member, title_id), clock)
    say(f"bookmark: {bookmark['position_ms'] / 1000:.0f} s into the film")
    history = await _arrives(
        "the viewing history", lambda: _history(stores.views, member.profile_id, session_id), clock
    )
    say(f"history: watched {history['watched_ms'] / 1000:.0f} s, ended: {history['ended']}")
    trending = await _arrives("trending", lambda: _trending(member), clock)
    names = [one["name"] for one in trending["titles"][:3]]
    say(f"trending in {country}: {', '.join(names)}")
    archive = await _arrives("the archive object", lambda: _archive(stores.archive), clock)
    say(f"archive: {len(archive)} Parquet objects, the newest {archive[-1]}")
    trace_id = answer["telemetry"]["trace_id"]
    spans = await gather(stores.home, trace_id)
    say(f"trace {trace_id}:")
    for line in waterfall(spans):
        say(f"  {line}")
    return DemoReport(
        title=title_id,
        play=answer,
        bookmark=bookmark,
        history=history,
        trending=trending,
        archive=archive,
        trace=spans,
    )


async def _arrives(what: str, look: Callable[[], Awaitable[T | None]], clock: Clock) -> T:
    give_up = clock.monotonic() + ARRIVES_S
    while clock.monotonic() < give_up:
        found = await look()
        if found is not None:
            return found
        await clock.sleep(0.05)
    raise StagedoorError(
        f"{what} did not arrive within {ARRIVES_S:.0f} s; see `stagedoor ps` and log/*.jsonl"
    )


async def _bookmark(member: Member, title_id: str) -> dict[str, Any] | None:
    try:
        found: dict[str, Any] = await member.ask("GET", f"/v1/bookmarks/{title_id}")
    except PeerRefusal as refusal:
        if refusal.status == 404:
            return None
        raise
    return found if found["position_ms"] == (BEATS) * BEAT_MS else None


async def _history(views: Tables, profile_id: str, session_id: str) -> dict[str, Any] | None:
    for row in await views.page(ViewingHistory, profile_id):
        if row.session_id == session_id and row.ended:
            shown: dict[str, Any] = msgspec.to_builtins(row)
            return shown
    return None


async def _trending(member: Member) -> dict[str, Any] | None:
    answer = await member.ask("GET", "/v1/recommendations")
    rows = [row for row in answer["rows"] if row["kind"] == "trending" and row["titles"]]
    return rows[0] if rows else None


async def _archive(archive: Objects) -> list[str] | None:
    keys = [one.key async for one in archive.list("raw") if one.key.endswith(".parquet")]
    return sorted(keys) or None
