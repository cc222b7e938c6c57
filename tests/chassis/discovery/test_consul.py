"""The Consul adapter's own side: what is sent, what is made of answers, and of their absence."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable

import httpx
import pytest

from chassis import discovery
from chassis.clock import ManualClock
from chassis.discovery import Instance
from chassis.errors import ConfigurationFault, ConnectFailed, StoreUnavailable

INSTANCE = Instance("test-1", "test", "127.0.0.1", 9001, {"version": "1"})


class Peer(httpx.AsyncBaseTransport):
    """Answers each path with what the test set, 200 and nothing otherwise; keeps the requests."""

    def __init__(self) -> None:
        self.requests: list[httpx.Request] = []
        self.answers: dict[str, Callable[[], httpx.Response]] = {}

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        answer = self.answers.get(request.url.path, lambda: httpx.Response(200))
        return answer()

    def count(self, path: str) -> int:
        return sum(request.url.path.startswith(path) for request in self.requests)


@pytest.fixture
def peer() -> Peer:
    return Peer()


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def registry(peer: Peer, clock: ManualClock):
    registry = discovery.open("consul://[::1]:8500", transport=peer, clock=clock, token="secret")
    yield registry
    await registry.close()


REGISTER = "/v1/agent/service/register"
PASS = "/v1/agent/check/pass/"


async def test_a_registration_carries_a_passing_ttl_check_and_the_token(registry, peer):
    await registry.register(INSTANCE, ttl_s=3.0)
    (request,) = peer.requests
    assert request.url.host == "::1"
    assert request.headers["X-Consul-Token"] == "secret"
    body = json.loads(request.content)
    assert (body["id"], body["name"], body["port"]) == ("test-1", "test", 9001)
    assert body["checks"][0]["ttl"] == "3000ms"
    assert body["checks"][0]["status"] == "passing"


async def test_heartbeats_come_every_third_of_the_ttl(registry, peer, clock):
    await registry.register(INSTANCE, ttl_s=3.0)
    await clock.advance(30)
    assert 30 <= peer.count(PASS) <= 34
    assert peer.count(REGISTER) == 1


@pytest.mark.parametrize("status", [404, 500])
async def test_an_unknown_check_means_registering_again(registry, peer, clock, status):
    peer.answers[PASS + "service:test-1"] = lambda: httpx.Response(status, text="unknown check")
    await registry.register(INSTANCE, ttl_s=3.0)
    await clock.advance(1)
    assert peer.count(REGISTER) == 2


async def test_heartbeats_outlive_a_registry_that_is_away(registry, peer, clock):
    def away() -> httpx.Response:
        raise httpx.ConnectError("refused")

    await registry.register(INSTANCE, ttl_s=3.0)
    peer.answers[PASS + "service:test-1"] = away
    await clock.advance(10)
    del peer.answers[PASS + "service:test-1"]
    before = peer.count(PASS)
    await clock.advance(2)
    assert peer.count(PASS) >= before + 2


async def test_deregistering_ends_the_heartbeats_and_tells_the_registry_once(registry, peer, clock):
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


async def test_a_blocking_query_is_given_more_time_than_it_may_take(registry, peer):
    peer.answers["/v1/health/service/test"] = lambda: httpx.Response(
        200, json=[], headers={"X-Consul-Index": "7"}
    )
    await registry.instances("test", index=5, wait_s=30)
    (request,) = peer.requests
    assert request.url.params["index"] == "5"
    assert request.url.params["wait"] == "30000ms"
    assert request.extensions["timeout"]["read"] > 30 * 17 / 16


def raising(failure: Exception) -> Callable[[], httpx.Response]:
    def answer() -> httpx.Response:
        raise failure

    return answer


INDEXED = {"X-Consul-Index": "1"}


@pytest.mark.parametrize(
    "answer",
    [
        raising(httpx.ConnectError("refused")),
        raising(httpx.ReadTimeout("slow")),
        raising(ConnectFailed("refused")),
        lambda: httpx.Response(500, text="no leader"),
        lambda: httpx.Response(403, text="forbidden"),
        lambda: httpx.Response(200, text="<html>", headers=INDEXED),
        lambda: httpx.Response(200, json=[]),
        lambda: httpx.Response(200, json=[{}], headers=INDEXED),
        lambda: httpx.Response(200, json=[], headers={"X-Consul-Index": "many"}),
    ],
)
async def test_whatever_goes_wrong_the_registry_is_unavailable(registry, peer, answer):
    peer.answers["/v1/health/service/test"] = answer
    with pytest.raises(StoreUnavailable, match="the registry at ::1:8500"):
        await registry.instances("test")


async def test_the_token_is_never_told(registry, peer):
    peer.answers["/v1/kv/key"] = lambda: httpx.Response(403, text="Permission denied")
    with pytest.raises(StoreUnavailable) as caught:
        await registry.kv_get("key")
    assert "secret" not in str(caught.value) + repr(registry)


async def test_a_service_without_an_address_lives_at_its_nodes(registry, peer):
    service = {"ID": "test-1", "Service": "test", "Address": "", "Port": 1, "Meta": None}
    entry = {"Node": {"Address": "10.0.0.9"}, "Service": service}
    peer.answers["/v1/health/service/test"] = lambda: httpx.Response(
        200, json=[entry], headers=INDEXED
    )
    assert await registry.instances("test") == (1, [Instance("test-1", "test", "10.0.0.9", 1)])


async def test_consul_itself_is_no_service_of_ours(registry, peer):
    peer.answers["/v1/catalog/services"] = lambda: httpx.Response(
        200, json={"test": [], "consul": []}, headers=INDEXED
    )
    assert await registry.services() == (1, ["test"])


async def test_a_failed_registration_starts_no_heartbeat(registry, peer, clock):
    peer.answers[REGISTER] = raising(httpx.ConnectError("refused"))
    with pytest.raises(StoreUnavailable):
        await registry.register(INSTANCE)
    await clock.advance(10)
    assert peer.count(PASS) == 0


class Silent(httpx.AsyncBaseTransport):
    """Takes every request and never answers."""

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        await asyncio.Event().wait()
        return httpx.Response(200)


async def test_a_cancelled_question_stays_cancelled(clock):
    registry = discovery.open("consul://127.0.0.1:1", transport=Silent(), clock=clock)
    asking = asyncio.create_task(registry.kv_get("key"))
    await asyncio.sleep(0)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    await registry.close()


@pytest.mark.parametrize("url", ["", "consul://", "etcd://h:1", "h:1", "consul://h:99999"])
def test_an_address_that_is_none_says_how_to_write_one(url):
    with pytest.raises(ConfigurationFault, match=r"consul://127\.0\.0\.1:8500"):
        discovery.open(url)


def test_instances_write_their_address_as_urls_want_it():
    assert INSTANCE.address == "127.0.0.1:9001"
    assert Instance("a", "b", "::1", 80).address == "[::1]:80"
