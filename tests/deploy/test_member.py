"""A member as a client: what it sends is what the services take."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import msgspec
import pytest

from chassis.clock import ManualClock
from chassis.contracts.events import PlayerEvent
from chassis.contracts.play import PlayRequest
from chassis.errors import ConnectFailed, PeerRefusal, StagedoorError
from deploy.member import Member, decoded, play_body, player_event, watching
from microservices.beacon.model import fault_of
from play_api.play import check_request
from tests.support.ports import free_port

ANSWER = {
    "session": {"id": "s1"},
    "play_id": "x1",
    "title_id": "heat-1995",
    "duration_ms": 10_200_000,
}


class Answering:
    """A gateway that answers by path, and keeps what it was asked."""

    def __init__(self) -> None:
        self.answers: dict[str, tuple[int, Any]] = {
            "/v1/accounts": (201, {"account_id": "a1", "profile_id": "p1"}),
            "/v1/token": (200, {"access_token": "secret"}),
        }
        self.asked: list[httpx.Request] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request)
        status, answer = self.answers[request.url.path]
        content = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        return httpx.Response(status, content=content)


@pytest.fixture
def gateway() -> Answering:
    return Answering()


@pytest.fixture
async def member(gateway: Answering) -> AsyncIterator[Member]:
    transport: Any = httpx.MockTransport(gateway)
    member = Member("http://gateway", ManualClock(), transport=transport)
    yield member
    await member.close()


async def test_signing_up_makes_an_account_and_a_token_for_its_profile(
    member: Member, gateway: Answering
) -> None:
    await member.sign_up(country="FR")
    account, token = (json.loads(request.content) for request in gateway.asked)
    assert (account["country"], account["plan"]) == ("FR", "premium")
    assert (token["email"], token["profile_id"]) == (account["email"], "p1")
    assert len(account["password"]) >= 12
    assert (member.account_id, member.token) == ("a1", "secret")


async def test_the_token_goes_with_every_request_once_there_is_one(
    member: Member, gateway: Answering
) -> None:
    gateway.answers["/v1/me"] = (200, {})
    await member.send("GET", "/v1/me")
    await member.sign_up()
    await member.send("GET", "/v1/me")
    sent = [one.headers.get("authorization") for one in gateway.asked if one.url.path == "/v1/me"]
    assert sent == [None, "Bearer secret"]


async def test_no_two_members_have_the_same_address(gateway: Answering) -> None:
    clock, emails = ManualClock(), set()
    for _ in range(2):
        transport: Any = httpx.MockTransport(gateway)
        member = Member("http://gateway", clock, transport=transport)
        await member.sign_up()
        emails.add(member.email)
        await member.close()
    assert len(emails) == 2


async def test_a_title_is_found_by_its_words_or_said_to_be_unknown(
    member: Member, gateway: Answering
) -> None:
    gateway.answers["/v1/titles"] = (200, {"titles": [{"title_id": "heat-1995"}]})
    assert (await member.find("heat & dust"))["title_id"] == "heat-1995"
    assert gateway.asked[-1].url.params["q"] == "heat & dust"
    gateway.answers["/v1/titles"] = (200, {"titles": []})
    with pytest.raises(StagedoorError, match="another word"):
        await member.find("zzz")


@pytest.mark.parametrize(
    ("answer", "code", "said"),
    [
        ({"code": "taken", "detail": "by another"}, "taken", "taken: by another"),
        (b"<html>down</html>", "unknown", "<html>down"),
        (["list"], "unknown", "list"),
    ],
)
async def test_a_refusal_says_what_was_asked_and_why_not(
    member: Member, gateway: Answering, answer: Any, code: str, said: str
) -> None:
    gateway.answers["/v1/thing"] = (409, answer)
    with pytest.raises(PeerRefusal, match="POST /v1/thing: 409") as refusal:
        await member.ask("POST", "/v1/thing", {})
    assert refusal.value.code == code and said in str(refusal.value)


async def test_an_answer_without_a_body_is_none(member: Member, gateway: Answering) -> None:
    gateway.answers["/v1/thing"] = (204, b"")
    assert await member.ask("DELETE", "/v1/thing") is None


async def test_when_nobody_listens_it_says_where_and_what_to_do() -> None:
    url = f"http://127.0.0.1:{free_port()}"
    member = Member(url, ManualClock())
    with pytest.raises(ConnectFailed, match=f"{url}.*make run"):
        await member.sign_up()
    await member.close()


def test_what_it_plays_is_a_request_that_the_play_api_takes() -> None:
    body = play_body("p1", "heat-1995", "tv-1", start_at=5)
    request = msgspec.json.decode(msgspec.json.encode(body), type=PlayRequest)
    check_request(request)
    assert (request.title_id, request.device.id, request.start_at) == ("heat-1995", "tv-1", 5)


@pytest.mark.parametrize("kind", ["start", "heartbeat", "stop"])
def test_what_it_tells_is_an_event_that_the_beacon_takes(kind: str) -> None:
    session = watching(ANSWER, "p1", "tv-1", "US")
    told = player_event(session, 1, kind, 30_000, 1_700_000_000.5)
    event = msgspec.json.decode(msgspec.json.encode(told), type=PlayerEvent)
    assert fault_of(event, "p1", 1_700_000_001_000) is None
    assert (event.session_id, event.at_ms, event.position_ms) == ("s1", 1_700_000_000_500, 30_000)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"3"])
def test_a_body_that_is_no_object_is_read_as_an_empty_one(content: bytes) -> None:
    assert decoded(httpx.Response(200, content=content)) == {}
