"""The Consul adapter's own side: what is sent, what is made of answers, and of their absence."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from typing import NamedTuple
from urllib.parse import SplitResult, parse_qs, urlsplit

import pytest

from chassis import discovery
from chassis.clock import ManualClock
from chassis.deadline import Deadline
from chassis.discovery import Instance
from chassis.errors import (
    BulkheadFull,
    ConfigurationFault,
    ConnectFailed,
    DeadlineExceeded,
    StoreUnavailable,
)

INSTANCE = Instance("test-1", "test", "127.0.0.1", 9001, {"version": "1"})


class Answer(NamedTuple):
    status: int = 200
    body: bytes = b""
    headers: Sequence[tuple[bytes, bytes]] = ()


class Asked(NamedTuple):
    """A request as the adapter made it."""

    method: str
    url: SplitResult
    headers: dict[bytes, bytes]
    body: bytes
    within_s: float


class Peer:
    """Answers each path with what the test set, 200 and nothing otherwise; keeps the requests."""

    def __init__(self) -> None:
        self.requests: list[Asked] = []
        self.answers: dict[str, Callable[[], Answer]] = {}
        self.closed = False

    async def request(
        self,
        method: str,
        url: str,
        *,
        headers: Sequence[tuple[bytes, bytes]] = (),
        body: bytes = b"",
        deadline: Deadline | None = None,
    ) -> Answer:
        assert deadline is not None
        asked = Asked(method, urlsplit(url), dict(headers), body, deadline.remaining())
        self.requests.append(asked)
        return self.answers.get(asked.url.path, Answer)()

    async def close(self) -> None:
        self.closed = True

    def count(self, path: str) -> int:
        return sum(request.url.path.startswith(path) for request in self.requests)


def answering(value: object, *headers: tuple[bytes, bytes]) -> Callable[[], Answer]:
    return lambda: Answer(200, json.dumps(value).encode(), headers)


def raising(failure: Exception) -> Callable[[], Answer]:
    def answer() -> Answer:
        raise failure

    return answer


INDEXED = (b"x-consul-index", b"1")


@pytest.fixture
def peer() -> Peer:
    return Peer()


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def registry(peer: Peer, clock: ManualClock):
    registry = discovery.open("consul://[::1]:8500", client=peer, clock=clock, token="secret")
    yield registry
    await registry.close()


REGISTER = "/v1/agent/service/register"
PASS = "/v1/agent/check/pass/"


async def test_a_registration_carries_a_passing_ttl_check_and_the_token(registry, peer):
    await registry.register(INSTANCE, ttl_s=3.0)
    (request,) = peer.requests
    assert request.url.netloc == "[::1]:8500"
    assert request.headers[b"X-Consul-Token"] == b"secret"
    body = json.loads(request.body)
    assert (body["id"], body["name"], body["port"]) == ("test-1", "test", 9001)
    assert body["checks"][0]["ttl"] == "3000ms"
    assert body["checks"][0]["status"] == "passing"


async def test_heartbeats_come_every_third_of_the_ttl(registry, peer, clock):
    await registry.register(INSTANCE, ttl_s=3.0)
    await clock.advance(30)
    assert 30 <= peer.count(PASS) <= 34
    assert peer.count(REGISTER) == 1


async def test_under_a_prefix_lease_and_entry_have_one_name(peer, clock):
    registry = discovery.open("consul://h:8500?prefix=stage", client=peer, clock=clock)
    peer.answers["/v1/health/service/stage.test"] = answering([], INDEXED)
    registration = await registry.register(INSTANCE, ttl_s=3.0)
    body = json.loads(peer.requests[0].body)
    assert (body["id"], body["name"]) == ("stage.test-1", "stage.test")
    assert body["checks"][0]["checkid"] == "service:stage.test-1"
    await clock.advance(2)
    assert peer.count(PASS + "service:stage.test-1") > 0
    await registration.deregister()
    assert peer.requests[-1].url.path == "/v1/agent/service/deregister/stage.test-1"
    assert registration.instance == INSTANCE
    await registry.close()


@pytest.mark.parametrize("status", [404, 500])
async def test_an_unknown_check_means_registering_again(registry, peer, clock, status):
    peer.answers[PASS + "service:test-1"] = lambda: Answer(status, b"unknown check")
    await registry.register(INSTANCE, ttl_s=3.0)
    await clock.advance(1)
    assert peer.count(REGISTER) == 2


@pytest.mark.parametrize(
    "answer",
    [Answer(429, b"too many concurrent connections"), Answer(500, b"No cluster leader")],
)
async def test_a_registry_that_is_only_troubled_is_not_burdened_with_registrations(
    registry, peer, clock, answer
):
    peer.answers[PASS + "service:test-1"] = lambda: answer
    await registry.register(INSTANCE, ttl_s=3.0)
    await clock.advance(10)
    assert peer.count(PASS) >= 9
    assert peer.count(REGISTER) == 1


async def test_heartbeats_outlive_a_registry_that_is_away(registry, peer, clock):
    await registry.register(INSTANCE, ttl_s=3.0)
    peer.answers[PASS + "service:test-1"] = raising(ConnectFailed("refused"))
    await clock.advance(10)
    del peer.answers[PASS + "service:test-1"]
    before = peer.count(PASS)
    await clock.advance(2)
    assert peer.count(PASS) >= before + 2


async def test_deregistering_ends_the_heartbeats_and_tells_the_registry_once(registry, peer, clock):
    peer.answers["/v1/health/service/test"] = answering([], INDEXED)
    registration = await registry.register(INSTANCE)
    await registration.deregister()
    await registration.deregister()
    assert peer.count("/v1/agent/service/deregister/test-1") == 1
    await clock.advance(10)
    assert peer.count(PASS) == 0
    assert repr(registration) == "ConsulRegistration(test-1, gone)"


async def test_closing_ends_the_heartbeats_and_leaves_the_lease_to_itself(registry, peer, clock):
    await registry.register(INSTANCE)
    await registry.close()
    await clock.advance(10)
    assert peer.count(PASS) == 0
    assert peer.count("/v1/agent/service/deregister") == 0
    assert peer.closed


async def test_a_blocking_query_is_given_more_time_than_it_may_take(registry, peer):
    peer.answers["/v1/health/service/test"] = answering([], INDEXED)
    await registry.instances("test", index=5, wait_s=30)
    (request,) = peer.requests
    assert parse_qs(request.url.query)["index"] == ["5"]
    assert parse_qs(request.url.query)["wait"] == ["30000ms"]
    assert request.within_s > 30 * 17 / 16


@pytest.mark.parametrize(
    "answer",
    [
        raising(ConnectFailed("refused")),
        raising(BulkheadFull("too many")),
        raising(DeadlineExceeded("slow")),
        lambda: Answer(500, b"no leader"),
        lambda: Answer(403, b"forbidden"),
        lambda: Answer(200, b"<html>", [INDEXED]),
        lambda: Answer(200, b"\xff", [INDEXED]),
        answering([]),
        answering([{}], INDEXED),
        answering([], (b"x-consul-index", b"many")),
    ],
)
async def test_whatever_goes_wrong_the_registry_is_unavailable(registry, peer, answer):
    peer.answers["/v1/health/service/test"] = answer
    with pytest.raises(StoreUnavailable, match="the registry at ::1:8500"):
        await registry.instances("test")


async def test_a_registry_without_a_leader_is_unavailable(registry, peer):
    peer.answers["/v1/status/leader"] = answering("")
    with pytest.raises(StoreUnavailable, match="no leader"):
        await registry.leader()


async def test_a_list_that_the_token_may_not_see_whole_is_not_taken_for_an_empty_one(
    registry, peer
):
    filtered = (b"X-Consul-Results-Filtered-By-ACLs", b"true")
    peer.answers["/v1/health/service/test"] = answering([], INDEXED, filtered)
    with pytest.raises(StoreUnavailable, match="CONSUL_HTTP_TOKEN"):
        await registry.instances("test")


SESSION = {"ID": "s-1"}
CREATE, RENEW, DESTROY = "/v1/session/create", "/v1/session/renew/s-1", "/v1/session/destroy/s-1"


async def test_a_session_is_asked_for_as_consul_wants_it(registry, peer):
    peer.answers[CREATE] = answering(SESSION)
    await registry.session("leader", ttl_s=10.5, lock_delay_s=0.5, ephemeral=True)
    body = json.loads(peer.requests[-1].body)
    assert body == {"name": "leader", "lockdelay": "0.5s", "behavior": "delete", "ttl": "11s"}


async def test_a_session_is_renewed_every_third_of_its_ttl(registry, peer, clock):
    peer.answers |= {CREATE: answering(SESSION), RENEW: answering([SESSION])}
    session = await registry.session("leader", ttl_s=12)
    await clock.advance(120)
    assert 30 <= peer.count(RENEW) <= 34
    assert not session.is_lost


async def test_a_session_that_no_renewal_reaches_is_lost_one_ttl_after_the_last(
    registry, peer, clock
):
    peer.answers |= {CREATE: answering(SESSION), RENEW: raising(ConnectFailed("refused"))}
    session = await registry.session("leader", ttl_s=12)
    await clock.advance(11.9)
    assert not session.is_lost
    await clock.advance(0.2)
    assert session.is_lost
    assert repr(session) == "ConsulSession(s-1, lost)"
    asked = peer.count(RENEW)
    await clock.advance(60)
    assert peer.count(RENEW) <= asked + 1


async def test_closing_a_session_releases_what_it_holds_and_destroys_it_once(registry, peer):
    peer.answers |= {CREATE: answering(SESSION), DESTROY: answering(True)}
    peer.answers["/v1/kv/leader"] = answering(True)
    session = await registry.session("leader")
    assert await session.acquire("leader", b"me")
    await session.close()
    await session.close()
    released = [one for one in peer.requests if one.body == b"me"][-1]
    assert parse_qs(released.url.query) == {"release": ["s-1"]}
    assert peer.count(DESTROY) == 1


async def test_closing_the_registry_leaves_its_sessions_to_themselves(registry, peer, clock):
    peer.answers |= {CREATE: answering(SESSION), RENEW: answering([SESSION])}
    session = await registry.session("leader")
    await registry.close()
    assert session.is_lost
    await clock.advance(60)
    assert peer.count(RENEW) == peer.count(DESTROY) == 0


async def test_the_token_is_never_told(registry, peer):
    peer.answers["/v1/kv/key"] = lambda: Answer(403, b"Permission denied")
    with pytest.raises(StoreUnavailable) as caught:
        await registry.kv_get("key")
    assert "secret" not in str(caught.value) + repr(registry)


async def test_a_service_without_an_address_lives_at_its_nodes(registry, peer):
    service = {"ID": "test-1", "Service": "test", "Address": "", "Port": 1, "Meta": None}
    entry = {"Node": {"Address": "10.0.0.9"}, "Service": service}
    peer.answers["/v1/health/service/test"] = answering([entry], INDEXED)
    assert await registry.instances("test") == (1, [Instance("test-1", "test", "10.0.0.9", 1)])


async def test_consul_itself_is_no_service_of_ours(registry, peer):
    peer.answers["/v1/catalog/services"] = answering({"test": [], "consul": []}, INDEXED)
    assert await registry.services() == (1, ["test"])


async def test_a_failed_registration_starts_no_heartbeat(registry, peer, clock):
    peer.answers[REGISTER] = raising(ConnectFailed("refused"))
    with pytest.raises(StoreUnavailable):
        await registry.register(INSTANCE)
    await clock.advance(10)
    assert peer.count(PASS) == 0


class Silent(Peer):
    """Takes every request and never answers."""

    async def request(self, *args: object, **kwargs: object) -> Answer:
        await asyncio.Event().wait()
        return Answer()


async def test_a_cancelled_question_stays_cancelled(clock):
    registry = discovery.open("consul://127.0.0.1:1", client=Silent(), clock=clock)
    asking = asyncio.create_task(registry.kv_get("key"))
    await asyncio.sleep(0)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    await registry.close()


@pytest.mark.parametrize("url", ["", "consul://", "etcd://h:1", "h:1", "consul://h:99999"])
def test_an_address_that_is_none_says_how_to_write_one(url):
    with pytest.raises(ConfigurationFault, match=r"consul://127\.0\.0\.1:8500"):
        discovery.open(url, client=Peer())


def test_instances_write_their_address_as_urls_want_it():
    assert INSTANCE.address == "127.0.0.1:9001"
    assert Instance("a", "b", "::1", 80).address == "[::1]:80"
