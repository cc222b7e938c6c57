"""What a Play answers, and what ends it."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import httpx
import msgspec
import pytest

from chassis.clock import ManualClock
from chassis.contracts.common import Maturity
from chassis.contracts.events import PlayStarted
from chassis.contracts.profiles import PinToken, Profile
from chassis.contracts.titles import RightsDecision
from chassis.contracts.viewing import Bookmark
from chassis.errors import (
    BreakerOpen,
    DeadlineExceeded,
    NoInstances,
    OriginGarbled,
    OriginTimeout,
    PeerRefusal,
    StagedoorError,
)
from chassis.identity import Keyring, Passport, Seal
from play_api.plan import BUDGET_S, PLAN, Criticality
from tests.support.play import ListLog, Script
from tests.support.services import InProcess
from tests.support.waiting import until

FAILURES = [
    OriginTimeout("slow"),
    NoInstances("none"),
    OriginGarbled("html"),
    BreakerOpen("open", retry_after_s=3),
]
OPTIONAL = [step.name for step in PLAN if step.criticality is Criticality.DEGRADE]


def body(**changes: Any) -> dict[str, Any]:
    device = {
        "id": "tv",
        "type": "tv",
        "max_height": 2160,
        "codecs": ["avc", "hevc"],
        "hdr": ["hdr10"],
        "hdcp": "2.2",
        **changes.pop("device", {}),
    }
    return {"title_id": "heat-1995", "profile_id": "p1", "device": device, **changes}


async def play(play_api: InProcess, **changes: Any) -> httpx.Response:
    headers = {"idempotency-key": "once"}
    return await play_api.rest("POST", "/v1/play", body(**changes), headers=headers)


def problem(response: httpx.Response) -> tuple[int, str]:
    assert response.headers["content-type"] == "application/problem+json"
    return response.status_code, response.json()["code"]


async def test_a_healthy_play_answers_every_part_and_nothing_is_degraded(
    play_api: InProcess,
) -> None:
    response = await play(play_api)
    answer = response.json()
    assert response.status_code == 200
    assert answer["degraded"] == [] and "x-degraded" not in response.headers
    assert answer["session"]["heartbeat_url"] == "/v1/play/sessions/s1/heartbeat"
    assert answer["resume"] == {"position_ms": 61_000, "source": "server"}
    assert answer["drm"]["key_ids"] == ["k1"]
    assert answer["up_next"]["title_id"] == "ronin-1998"
    assert answer["experiments"] == {"row": "b"}


async def test_the_started_event_names_the_session_and_is_offered_once(
    play_api: InProcess, log: ListLog, clock: ManualClock
) -> None:
    await play(play_api)
    running = asyncio.ensure_future(play_api.service.background[0]())
    async with asyncio.timeout(5):
        while not log.produced:
            await clock.advance(0.01)
    running.cancel()
    (envelope,) = log.envelopes()
    started = msgspec.json.decode(envelope.data, type=PlayStarted)
    assert (envelope.id, envelope.partitionkey, started.country) == ("s1:0", "p1", "US")


async def test_the_same_idempotency_key_names_the_same_play(
    play_api: InProcess, script: Script
) -> None:
    first, second = await play(play_api), await play(play_api)
    assert first.json()["play_id"] == second.json()["play_id"]
    keys = {question.idempotency_key for question in script.questions("sessions")}
    assert keys == {"once"}


@pytest.mark.parametrize(
    ("changes", "height", "limited_by"),
    [
        ({}, 1080, "drm_level"),
        ({"device": {"max_height": 720}}, 720, "device"),
        ({"device": {"drm": {"system": "widevine", "level": "L1"}}}, 2160, None),
        (
            {"device": {"drm": {"system": "widevine", "level": "L1"}, "hdcp": "1.4"}},
            1080,
            "drm_level",
        ),
    ],
)
async def test_the_smallest_cap_limits_the_quality_and_is_named(
    play_api: InProcess, changes: dict[str, Any], height: int, limited_by: str | None
) -> None:
    quality = (await play(play_api, **changes)).json()["quality"]
    assert (quality["max_height"], quality["limited_by"]) == (height, limited_by)


async def test_an_episode_has_its_own_manifest_and_keys(
    play_api: InProcess, script: Script
) -> None:
    script.answers["catalog"] = msgspec.structs.replace(script.answers["catalog"], episode_id="e7")
    response = await play(play_api, title_id=None, episode_id="e7")
    assert response.status_code == 200
    (manifest,), (licence,) = script.questions("manifest"), script.questions("licence")
    assert (manifest.title_id, licence.title_id) == ("e7", "e7")


async def test_a_plan_really_limits_the_quality(play_api: InProcess, script: Script) -> None:
    limits = msgspec.structs.replace(script.entitlement.limits, max_height=720, hdr=False)
    script.entitlement = msgspec.structs.replace(script.entitlement, limits=limits)
    quality = (await play(play_api)).json()["quality"]
    assert (quality["max_height"], quality["limited_by"], quality["hdr"]) == (720, "plan", [])


@pytest.mark.parametrize("failure", FAILURES, ids=lambda failure: failure.code)
@pytest.mark.parametrize("step", OPTIONAL)
async def test_an_optional_step_that_fails_is_named_and_never_fails_the_play(
    play_api: InProcess, script: Script, step: str, failure: StagedoorError
) -> None:
    script.answers["catalog"] = msgspec.structs.replace(
        script.answers["catalog"], maturity=Maturity.LITTLE_KIDS
    )
    script.fail(step, failure)
    response = await play(play_api)
    (degraded,) = response.json()["degraded"]
    assert response.status_code == 200
    assert (degraded["part"], degraded["reason"]) == (step, failure.code)
    assert response.headers["x-degraded"] == step


@pytest.mark.parametrize("step", ["membership", "catalog", "rights", "manifest", "licence"])
async def test_a_critical_step_without_a_stand_in_is_a_503_that_names_it(
    play_api: InProcess, script: Script, step: str
) -> None:
    script.fail(step, NoInstances("none"))
    response = await play(play_api)
    assert problem(response) == (503, "dependency")
    assert response.json()["step"] == step
    assert int(response.headers["retry-after"]) >= 1


@pytest.mark.parametrize("step", ["membership", "catalog", "rights", "manifest"])
async def test_a_critical_step_is_stood_in_for_by_what_it_last_said(
    play_api: InProcess, script: Script, step: str
) -> None:
    await play(play_api)
    script.fail(step, OriginTimeout("slow"))
    response = await play(play_api)
    (degraded,) = response.json()["degraded"]
    assert response.status_code == 200
    assert (degraded["part"], degraded["fallback"]) == (step, "cached")


async def test_a_rights_decision_stands_in_only_while_it_is_valid(
    play_api: InProcess, script: Script
) -> None:
    await play(play_api)
    script.fail("rights", OriginTimeout("slow"))
    await script.clock.advance(301)
    assert problem(await play(play_api)) == (503, "dependency")


async def test_a_snapshot_stands_in_only_until_it_expires(
    play_api: InProcess, script: Script
) -> None:
    await play(play_api)
    script.fail("membership", OriginTimeout("slow"))
    await script.clock.advance(601)
    assert problem(await play(play_api)) == (503, "dependency")


@pytest.mark.parametrize("step", ["manifest", "licence"])
async def test_a_critical_failure_after_the_lease_gives_it_back(
    play_api: InProcess, script: Script, step: str
) -> None:
    script.fail(step, OriginTimeout("slow"))
    await play(play_api)
    await until(lambda: script.questions("give_back"))
    (asked,), (given,) = script.questions("sessions"), script.questions("give_back")
    assert (given.account_id, given.play_id) == ("a1", asked.play_id)
    assert given.attempt == asked.attempt != ""


@pytest.mark.parametrize("unheard", [OriginTimeout("slow"), OriginGarbled("html")])
async def test_a_lease_of_which_nobody_heard_is_given_back_too(
    play_api: InProcess, script: Script, unheard: StagedoorError
) -> None:
    script.fail("sessions", unheard)
    script.fail("manifest", OriginTimeout("slow"))
    await play(play_api)
    await until(lambda: script.questions("give_back"))


@pytest.mark.parametrize(
    "proof", [NoInstances("none"), BreakerOpen("open"), PeerRefusal(409, "too_many_streams")]
)
async def test_what_was_certainly_not_granted_is_not_given_back(
    play_api: InProcess, script: Script, proof: StagedoorError
) -> None:
    script.fail("sessions", proof)
    script.fail("manifest", OriginTimeout("slow"))
    assert (await play(play_api)).status_code >= 400
    await script.clock.advance(1)
    assert script.questions("give_back") == []


async def test_a_caller_that_leaves_while_sessions_is_asked_leaves_no_lease(
    play_api: InProcess, script: Script
) -> None:
    script.hang("sessions")
    asked = asyncio.ensure_future(play(play_api))
    await until(lambda: script.questions("sessions"))
    asked.cancel()
    await asyncio.gather(asked, return_exceptions=True)
    await until(lambda: script.questions("give_back"))


async def test_giving_back_that_fails_is_tried_again(play_api: InProcess, script: Script) -> None:
    script.fail("manifest", OriginTimeout("slow"))
    script.fail("give_back", OriginTimeout("slow"))
    await play(play_api)
    await script.clock.advance(0.6)
    script.heal("give_back")
    await script.clock.advance(0.6)
    assert len(script.questions("give_back")) == 3


async def test_a_caller_that_leaves_ends_every_step_and_gives_the_lease_back(
    play_api: InProcess, script: Script
) -> None:
    cancelled = script.hang("manifest")
    asked = asyncio.ensure_future(play(play_api))
    await until(lambda: script.questions("manifest"))
    asked.cancel()
    await asyncio.gather(asked, return_exceptions=True)
    await asyncio.wait_for(cancelled.wait(), 1)
    await until(lambda: script.questions("give_back"))
    assert len(script.questions("give_back")) == 1


async def test_a_branch_does_not_wait_for_a_slow_branch(
    play_api: InProcess, script: Script
) -> None:
    script.hang("bookmarks")
    asked = asyncio.ensure_future(play(play_api))
    await until(lambda: script.questions("licence"))
    asked.cancel()
    await asyncio.gather(asked, return_exceptions=True)


async def test_sessions_away_grants_a_short_provisional_lease_and_reconciles(
    play_api: InProcess, script: Script
) -> None:
    script.fail("sessions", NoInstances("none"))
    answer = (await play(play_api)).json()
    assert answer["session"]["policy"] == "provisional"
    assert answer["session"]["lease_ttl_s"] == 30
    reconciling = asyncio.ensure_future(play_api.service.background[1]())
    await script.clock.advance(1.5)
    reconciling.cancel()
    (told,) = script.questions("reconcile")
    assert [lease.session_id for lease in told.leases] == [answer["session"]["id"]]


async def test_provisional_leases_never_exceed_the_plans_streams(
    play_api: InProcess, script: Script
) -> None:
    script.fail("sessions", NoInstances("none"))
    limits = msgspec.structs.replace(script.entitlement.limits, streams=2)
    script.entitlement = msgspec.structs.replace(script.entitlement, limits=limits)
    statuses = [
        (await play(play_api, device={"id": f"tv{number}"})).status_code for number in range(3)
    ]
    assert statuses == [200, 200, 503]


async def test_too_many_streams_is_the_sessions_own_409(
    play_api: InProcess, script: Script
) -> None:
    live = [{"session_id": "s0"}]
    script.fail("sessions", PeerRefusal(409, "too_many_streams", members={"sessions": live}))
    response = await play(play_api)
    assert problem(response) == (409, "too_many_streams")
    assert response.json()["sessions"] == live


@pytest.mark.parametrize("step", ["membership", "rights", "manifest"])
async def test_an_overloaded_service_is_an_outage_and_not_the_callers_fault(
    play_api: InProcess, script: Script, step: str
) -> None:
    script.fail(step, PeerRefusal(429, "rate"))
    assert problem(await play(play_api)) == (503, "dependency")


@pytest.mark.parametrize("status", ["paused", "cancelled"])
async def test_an_inactive_membership_may_not_play(
    play_api: InProcess, script: Script, status: Any
) -> None:
    script.entitlement = msgspec.structs.replace(script.entitlement, status=status)
    assert problem(await play(play_api)) == (402, "membership_inactive")
    assert not script.questions("sessions")


@pytest.mark.parametrize(
    ("denial", "expected"),
    [
        ("region", (403, "region")),
        ("not_entitled", (403, "not_entitled")),
        ("device_blocked", (403, "device_blocked")),
        ("window_ended", (410, "window_ended")),
    ],
)
async def test_each_denial_of_rights_has_its_own_code(
    play_api: InProcess, script: Script, denial: Any, expected: tuple[int, str]
) -> None:
    script.answers["rights"] = RightsDecision(allowed=False, valid_until=0, denial=denial)
    assert problem(await play(play_api)) == expected
    assert not script.questions("sessions")


async def test_a_title_that_is_unknown_is_a_404_and_an_outage_is_not(
    play_api: InProcess, script: Script
) -> None:
    script.fail("catalog", PeerRefusal(404, "title_unknown"))
    assert problem(await play(play_api)) == (404, "title_unknown")
    script.fail("catalog", NoInstances("none"))
    assert problem(await play(play_api)) == (503, "dependency")


async def test_a_child_may_not_play_an_adult_title_without_the_pin(
    play_api: InProcess, script: Script
) -> None:
    script.answers["profiles"] = Profile(
        profile_id="p1", account_id="a1", name="Kid", maturity=Maturity.KIDS, has_pin=True
    )
    response = await play(play_api)
    assert problem(response) == (403, "maturity")
    assert response.json()["pin_required"] is True
    pin = PinToken(account_id="a1", profile_id="p1")
    token = play_api.chassis.seal.seal("pin", pin, ttl_s=60)
    assert (await play(play_api, pin_token=token)).status_code == 200


async def test_another_profiles_pin_opens_nothing(play_api: InProcess, script: Script) -> None:
    script.answers["profiles"] = Profile(
        profile_id="p1", account_id="a1", name="Kid", maturity=Maturity.KIDS, has_pin=True
    )
    pin = PinToken(account_id="a1", profile_id="p2")
    token = play_api.chassis.seal.seal("pin", pin, ttl_s=60)
    assert problem(await play(play_api, pin_token=token)) == (403, "maturity")


async def test_an_unknown_profile_sees_only_what_is_fit_for_children(
    play_api: InProcess, script: Script
) -> None:
    script.fail("profiles", NoInstances("none"))
    assert problem(await play(play_api)) == (403, "maturity")


async def test_the_passport_vouches_for_the_maturity_of_its_own_profile(
    play_api: InProcess, script: Script
) -> None:
    script.fail("profiles", NoInstances("none"))
    passport = Passport(account_id="a1", profile_id="p1", maturity=3)
    response = await play_api.rest("POST", "/v1/play", body(), passport=passport)
    assert response.status_code == 200
    assert response.json()["degraded"][0]["fallback"] == "passport"


async def test_a_profile_that_nobody_vouches_for_shows_nothing_of_itself(
    play_api: InProcess, script: Script
) -> None:
    script.answers["catalog"] = msgspec.structs.replace(
        script.answers["catalog"], maturity=Maturity.LITTLE_KIDS
    )
    script.fail("profiles", NoInstances("none"))
    answer = (await play(play_api, profile_id="somebody-elses")).json()
    assert answer["resume"] == {"position_ms": 0, "source": "none"}
    assert [question.profile_id for question in script.questions("recommendations")] == [""]


async def test_a_clear_title_needs_no_licence(play_api: InProcess, script: Script) -> None:
    script.answers["catalog"] = msgspec.structs.replace(script.answers["catalog"], protected=False)
    script.fail("licence", NoInstances("none"))
    answer = (await play(play_api)).json()
    assert answer["drm"]["system"] == "none" and answer["degraded"] == []


@pytest.mark.parametrize(
    "changes",
    [
        {"title_id": None},
        {"episode_id": "e1"},
        {"device": {"id": ""}},
        {"profile_id": ""},
        {"profile_id": "p" * 129},
        {"start_at": -1},
        {"device": {"max_height": 10}},
        {"device": {"max_height": "tall"}},
    ],
)
async def test_a_request_that_cannot_be_meant_is_refused_before_anyone_is_asked(
    play_api: InProcess, script: Script, changes: dict[str, Any]
) -> None:
    assert problem(await play(play_api, **changes)) == (400, "invalid_request")
    assert script.asked == []


async def test_a_device_without_a_fitting_codec_or_drm_is_unsupported(
    play_api: InProcess,
) -> None:
    assert problem(await play(play_api, device={"codecs": ["vp8"]})) == (422, "device_unsupported")
    drm = {"drm": {"system": "none"}}
    assert problem(await play(play_api, device=drm)) == (422, "device_unsupported")


async def test_a_player_of_neither_hls_nor_dash_holds_no_lease_for_nothing(
    play_api: InProcess, script: Script
) -> None:
    neither = {"hls": False, "dash": False}
    assert problem(await play(play_api, supports=neither)) == (422, "device_unsupported")
    assert script.questions("sessions") == []


async def test_nobody_starts_beyond_the_end(play_api: InProcess, script: Script) -> None:
    script.answers["bookmarks"] = Bookmark(found=False)
    answer = (await play(play_api, start_at=1 << 70)).json()
    assert answer["resume"] == {"position_ms": answer["duration_ms"], "source": "client"}


async def test_without_a_passport_nobody_plays(play_api: InProcess) -> None:
    response = await play_api.rest("POST", "/v1/play", body(), passport=None)
    assert problem(response) == (401, "passport_missing")


async def test_a_deadline_that_passed_is_a_504_and_asks_nobody(
    play_api: InProcess, script: Script
) -> None:
    headers = {"x-request-timeout-ms": "0"}
    response = await play_api.rest("POST", "/v1/play", body(), headers=headers)
    assert problem(response) == (504, "deadline")
    assert script.asked == []


@pytest.mark.parametrize("step", ["membership", "catalog", "rights", "manifest"])
async def test_a_deadline_that_passes_in_a_step_names_it(
    play_api: InProcess, script: Script, step: str
) -> None:
    script.fail(step, DeadlineExceeded("the deadline passed while it was called"))
    response = await play(play_api)
    assert problem(response) == (504, "deadline")
    assert response.json()["step"] == step


async def test_the_answer_is_on_its_way_before_who_asked_gives_up(
    play_api: InProcess, script: Script
) -> None:
    headers = {"x-request-timeout-ms": "300"}
    await play_api.rest("POST", "/v1/play", body(), headers=headers)
    assert script.left and max(script.left) <= 0.9 * 0.3


async def test_every_step_is_given_what_is_left_of_the_budget(
    play_api: InProcess, script: Script
) -> None:
    await play(play_api)
    assert script.left and all(0 < left <= BUDGET_S for left in script.left)
    headers = {"x-request-timeout-ms": "300"}
    script.left.clear()
    await play_api.rest("POST", "/v1/play", body(), headers=headers)
    assert script.left and all(0 < left <= 0.3 for left in script.left)


async def test_a_prefetch_is_shed_first(play_api: InProcess, script: Script) -> None:
    script.hang("manifest")
    waiting = [asyncio.ensure_future(play(play_api)) for _ in range(256)]
    await until(lambda: len(script.questions("manifest")) == 256)
    shed = await play_api.rest("POST", "/v1/play", body(), headers={"x-play-intent": "prefetch"})
    assert problem(shed) == (429, "shed")
    script.heal("manifest")
    assert (await play(play_api)).status_code == 200
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)


async def test_every_play_is_counted_by_how_it_ended(play_api: InProcess, script: Script) -> None:
    await play(play_api)
    script.fail("bookmarks", OriginTimeout("slow"))
    await play(play_api)
    script.fail("rights", ValueError("a defect"))
    await play(play_api)
    script.hang("rights")
    waiting = [asyncio.ensure_future(play(play_api)) for _ in range(256)]
    await until(lambda: len(script.questions("rights")) >= 258)
    shed = {"x-play-intent": "prefetch"}
    assert (await play_api.rest("POST", "/v1/play", body(), headers=shed)).status_code == 429
    for one in waiting:
        one.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    text = play_api.chassis.telemetry.metrics.render().decode()
    counts = re.findall(r'play_requests_total{degraded="(\w+)",outcome="(\w+)"} ([0-9.]+)', text)
    assert sorted((outcome, degraded, float(n)) for degraded, outcome, n in counts) == [
        ("client_gone", "false", 256),
        ("local_error", "false", 1),
        ("shed", "false", 1),
        ("success", "false", 1),
        ("success", "true", 1),
    ]


async def test_a_snapshot_that_does_not_open_is_never_believed(
    play_api: InProcess, script: Script
) -> None:
    script.seal = Seal(Keyring(active="z", secrets={"z": "00" * 32}), script.clock)
    assert problem(await play(play_api)) == (503, "dependency")
