from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import uvicorn

from chassis.clock import ManualClock
from chassis.contracts.common import Device, Drm
from chassis.contracts.streams import LICENCE_TOKEN, LicenceGrant, LicenceRequest
from microservices.licence.app import build
from microservices.licence.model import ClearKeyLicence, Terms
from microservices.licence.store import LicenceSettings
from tests.support.services import MEMBER, InProcess, in_process

OTHER = msgspec.structs.replace(MEMBER, account_id="a2")
REQUEST = LicenceRequest(
    account_id="a1",
    play_id="p1",
    session_id="s1",
    title_id="heat-1995",
    device=Device(id="d1"),
    drm=Drm(system="clearkey"),
    max_height=1080,
    valid_until=ManualClock().now() + 3600,
)
NO_SERVERS = LicenceSettings()


def body_for(grant: LicenceGrant, **more: Any) -> dict[str, Any]:
    kids = [
        base64.urlsafe_b64encode(bytes.fromhex(one)).rstrip(b"=").decode() for one in grant.key_ids
    ]
    return {"kids": kids, "type": "temporary", **more}


async def keys(client: InProcess, grant: LicenceGrant) -> ClearKeyLicence:
    answer = await client.rest(
        "POST",
        grant.licence_url,
        body_for(grant),
        headers={"x-licence-token": grant.licence_token},
    )
    assert answer.status_code == 200, answer.text
    assert answer.headers["cache-control"] == "no-store"
    return msgspec.json.decode(answer.content, type=ClearKeyLicence)


async def test_a_player_gets_the_keys_of_its_play(tmp_path: Path) -> None:
    async with in_process("licence", build, tmp_path, settings=NO_SERVERS) as client:
        grant = await client.call(LICENCE_TOKEN, REQUEST)
        assert (grant.max_height, len(grant.key_ids)) == (1080, 3)
        licence = await keys(client, grant)
        assert len(licence.keys) == 3
        by_query = await client.rest(
            "POST", f"{grant.licence_url}?token={grant.licence_token}", body_for(grant)
        )
        assert msgspec.json.decode(by_query.content, type=ClearKeyLicence) == licence


async def test_keys_are_the_same_after_a_restart(tmp_path: Path) -> None:
    found = []
    for seed in (1, 2):
        clock = ManualClock(seed=seed)
        async with in_process(
            "licence", build, tmp_path, clock=clock, settings=NO_SERVERS
        ) as client:
            found.append(await keys(client, await client.call(LICENCE_TOKEN, REQUEST)))
    assert found[0] == found[1]


async def test_tokens_that_do_not_hold_are_refused(tmp_path: Path) -> None:
    clock = ManualClock()
    async with in_process("licence", build, tmp_path, clock=clock, settings=NO_SERVERS) as client:
        grant = await client.call(LICENCE_TOKEN, REQUEST)
        token = grant.licence_token

        async def code(token: str | None, **asked: Any) -> tuple[int, str]:
            headers = {} if token is None else {"x-licence-token": token}
            answer = await client.rest(
                "POST", "/v1/licence", body_for(grant), headers=headers, **asked
            )
            return answer.status_code, answer.json()["code"]

        assert await code(None) == (401, "licence_missing")
        assert await code(token[:-2] + "xx") == (403, "licence_invalid")
        assert await code("nonsense") == (403, "licence_invalid")
        assert await code(token, passport=OTHER) == (403, "licence_invalid")
        assert await code(token, passport=None) == (401, "passport_missing")
        clock.tick(3600)
        assert await code(token) == (403, "licence_expired")


async def test_foreign_keys_and_broken_bodies_are_refused(tmp_path: Path) -> None:
    async with in_process("licence", build, tmp_path, settings=NO_SERVERS) as client:
        grant = await client.call(LICENCE_TOKEN, REQUEST)
        headers = {"x-licence-token": grant.licence_token}
        foreign = {"kids": [base64.urlsafe_b64encode(bytes(16)).rstrip(b"=").decode()]}
        for body, status in ((foreign, 403), ({}, 400), ({"kids": ["x"]}, 400), (None, 400)):
            answer = await client.rest("POST", "/v1/licence", body, headers=headers)
            assert answer.status_code == status, answer.text


async def test_a_system_without_a_server_is_unsupported_and_says_what_to_set(
    tmp_path: Path,
) -> None:
    async with in_process("licence", build, tmp_path, settings=NO_SERVERS) as client:
        for system in ("widevine", "playready"):
            request = msgspec.structs.replace(REQUEST, drm=Drm(system=system))
            answer = await client.raw_call(LICENCE_TOKEN, request)
            assert (answer.status_code, answer.json()["code"]) == (422, "device_unsupported")
            assert f"STAGEDOOR_LICENCE_{system.upper()}_URL" in answer.json()["detail"]


class KeyServer:
    """An outside licence server: remembers what it was asked and answers with `status`."""

    def __init__(self, status: int = 200) -> None:
        self.status = status
        self.asked: list[tuple[bytes, Terms]] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        message = await receive()
        terms = dict(scope["headers"])[b"x-licence-terms"]
        self.asked.append((message["body"], msgspec.json.decode(terms, type=Terms)))
        await send({"type": "http.response.start", "status": self.status, "headers": []})
        await send({"type": "http.response.body", "body": b"licence bytes"})


@asynccontextmanager
async def served(server: KeyServer) -> AsyncIterator[str]:
    import asyncio
    import socket

    config = uvicorn.Config(server, lifespan="off", log_level="error", ws="none")
    runner = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        task = asyncio.ensure_future(runner.serve(sockets=[listening]))
        yield f"http://127.0.0.1:{listening.getsockname()[1]}/"
        runner.should_exit = True
        await task


async def test_a_challenge_goes_to_the_systems_own_server_with_its_terms(tmp_path: Path) -> None:
    server = KeyServer()
    async with served(server) as url:
        settings = LicenceSettings(widevine_url=url)
        async with in_process("licence", build, tmp_path, settings=settings) as client:
            request = msgspec.structs.replace(REQUEST, drm=Drm(system="widevine"))
            grant = await client.call(LICENCE_TOKEN, request)
            headers = {"x-licence-token": grant.licence_token}
            answer = await client.rest("POST", "/v1/licence", "challenge", headers=headers)
            assert (answer.status_code, answer.content) == (200, b"licence bytes")
            ((body, terms),) = server.asked
            assert body == b'"challenge"'
            assert terms.key_ids == grant.key_ids
            server.status = 500
            answer = await client.rest("POST", "/v1/licence", "challenge", headers=headers)
            assert (answer.status_code, answer.json()["code"]) == (502, "origin_status")


async def test_a_licence_server_that_is_away_is_an_origin_failure(tmp_path: Path) -> None:
    settings = LicenceSettings(playready_url="http://127.0.0.1:1/")
    async with in_process("licence", build, tmp_path, settings=settings) as client:
        request = msgspec.structs.replace(REQUEST, drm=Drm(system="playready"))
        grant = await client.call(LICENCE_TOKEN, request)
        answer = await client.rest(
            "POST", "/v1/licence", "challenge", headers={"x-licence-token": grant.licence_token}
        )
        assert (answer.status_code, answer.json()["code"]) == (502, "origin_connect")
