"""A Consul that lets nobody in without a token: what is said, and that no secret is."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator

import httpx
import pytest

from chassis import discovery
from chassis.discovery import Instance, Registry
from chassis.errors import StoreUnavailable
from chassis.http.client import Client
from tests.support.consul import Agent
from tests.support.registry import until

MANAGEMENT = "6b2e1c1e-0000-4000-8000-0123456789ab"
UNKNOWN = "6b2e1c1e-ffff-4fff-8fff-0123456789ab"
ACLS = {
    "acl": {
        "enabled": True,
        "default_policy": "deny",
        "tokens": {"initial_management": MANAGEMENT, "agent": MANAGEMENT},
    }
}
MAY_ONLY_READ_KEYS = 'key_prefix "" { policy = "read" }'


@pytest.fixture(scope="module")
def agent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Agent]:
    with Agent(tmp_path_factory.mktemp("acl"), ACLS) as agent:
        url, token = f"{agent.http}/v1/acl/token/self", {"X-Consul-Token": MANAGEMENT}
        agent.wait_until(lambda: httpx.get(url, headers=token).is_success)
        yield agent


@pytest.fixture(scope="module")
def weak(agent: Agent) -> str:
    """A token that may read keys and nothing else."""
    with httpx.Client(base_url=agent.http, headers={"X-Consul-Token": MANAGEMENT}) as http:
        policy = {"Name": "keys", "Rules": MAY_ONLY_READ_KEYS}
        http.put("/v1/acl/policy", content=json.dumps(policy)).raise_for_status()
        token = http.put("/v1/acl/token", content=json.dumps({"Policies": [{"Name": "keys"}]}))
        return str(token.raise_for_status().json()["SecretID"])


def opened(agent: Agent, token: str | None) -> Registry:
    return discovery.open(agent.url, client=Client(), token=token)


@pytest.fixture
async def registry(agent: Agent) -> AsyncIterator[Registry]:
    registry = opened(agent, MANAGEMENT)
    yield registry
    await registry.close()


INSTANCE = Instance("guarded-1", "guarded", "127.0.0.1", 9001)


async def test_with_the_right_token_everything_works(registry):
    registration = await registry.register(INSTANCE)
    session = await registry.session("one")
    assert await session.acquire("guarded")
    await session.close()
    await registration.deregister()


@pytest.mark.parametrize("token", [None, UNKNOWN])
async def test_without_a_token_or_with_an_unknown_one_a_registration_is_refused_clearly(
    agent, token, monkeypatch
):
    monkeypatch.delenv("CONSUL_HTTP_TOKEN", raising=False)
    registry = opened(agent, token)
    with pytest.raises(
        StoreUnavailable, match=r"refused the token.*set CONSUL_HTTP_TOKEN"
    ) as caught:
        await registry.register(INSTANCE)
    assert UNKNOWN not in str(caught.value)
    await registry.close()


async def test_what_a_token_may_not_do_is_refused_and_what_it_may_is_done(agent, weak, registry):
    await registry.kv_put("guarded/key", b"seen")
    reader = opened(agent, weak)
    _, found = await reader.kv_get("guarded/key")
    assert found.value == b"seen"
    for refused in (reader.kv_put("guarded/key", b"x"), reader.session("one")):
        with pytest.raises(StoreUnavailable, match="refused the token") as caught:
            await refused
        assert weak not in str(caught.value)
    await reader.close()


async def test_a_service_that_a_token_may_not_see_is_not_taken_for_an_empty_one(
    agent, weak, registry
):
    registration = await registry.register(INSTANCE)
    await until(lambda: registry.instances("guarded"), lambda answer: answer[1] == [INSTANCE])
    reader = opened(agent, weak)
    with pytest.raises(StoreUnavailable, match="may not read this service"):
        await reader.instances("guarded")
    await reader.close()
    await registration.deregister()


async def test_the_token_of_the_environment_is_used_when_none_is_given(agent, monkeypatch):
    monkeypatch.setenv("CONSUL_HTTP_TOKEN", MANAGEMENT)
    registry = opened(agent, None)
    assert await registry.kv_put("guarded/environment", b"")
    await registry.close()


async def test_a_token_that_is_given_goes_before_that_of_the_environment(agent, monkeypatch):
    monkeypatch.setenv("CONSUL_HTTP_TOKEN", UNKNOWN)
    registry = opened(agent, MANAGEMENT)
    assert await registry.kv_put("guarded/given", b"")
    await registry.close()
