"""The whole system, in real processes, as a newcomer uses it."""

from __future__ import annotations

import json

import httpx
import pytest

from tests.support.counting import scrape, total
from tests.support.system import System, children, eventually, memory_pss

MEMORY_BAR = 400 << 20


def test_the_demo_shows_everything_that_comes_of_one_play(system: System) -> None:
    report = system.ask("demo", "--country", "CA", timeout=90)
    assert report["play"]["degraded"] == []
    assert report["bookmark"]["position_ms"] == 180_000
    assert report["history"]["watched_ms"] == 180_000 and report["history"]["ended"]
    assert report["title"] in [one["title_id"] for one in report["trending"]["titles"]]
    assert report["archive"] and all(key.endswith(".parquet") for key in report["archive"])
    services = {span["service"] for span in report["trace"]}
    assert {"gateway", "play_api", "membership", "rights", "sessions", "manifest"} <= services


def test_every_service_is_a_process_of_its_own(system: System) -> None:
    processes = system.processes()
    pids = {one["pid"] for one in processes.values()}
    assert len(processes) == len(pids) == 17
    assert {"gateway-1", "gateway-2", "play_api-1", "rights-1", "stream_pipeline-1"} <= set(
        processes
    )


def test_all_processes_together_stay_under_the_memory_bar(system: System) -> None:
    pids = [system.process.pid, *children(system.process.pid)]
    assert memory_pss(pids) < MEMORY_BAR


def test_both_gateway_workers_answer_on_one_port(system: System) -> None:
    def served() -> bool:
        with httpx.Client() as fresh:
            fresh.get(f"{system.gateway}/.well-known/jwks.json")
        shares = [
            httpx.get(f"http://{one['targets'][0]}/metrics").text.count("gateway_requests_total{")
            for one in system.targets()
            if one["labels"]["service"] == "gateway"
        ]
        return len(shares) == 2 and all(shares)

    eventually(served, within=20, what="both workers serving")


def test_a_request_without_a_token_is_a_401_problem(system: System) -> None:
    response = httpx.post(f"{system.gateway}/v1/play", json={})
    assert response.status_code == 401
    assert response.headers["content-type"] == "application/problem+json"
    assert "www-authenticate" in response.headers


@pytest.mark.parametrize("token", ["x", "a.b.c", "Bearer", "é"])
def test_a_malformed_token_is_refused_and_counted(system: System, token: str) -> None:
    before = total(scrape(system, "gateway"), "gateway_auth_total")
    headers = {"authorization": f"Bearer {token}".encode()}
    response = httpx.get(f"{system.gateway}/v1/membership", headers=headers)  # type: ignore[arg-type]
    assert response.status_code in (400, 401)
    after = total(scrape(system, "gateway"), "gateway_auth_total")
    assert after == before + (response.status_code == 401)


def test_a_passport_from_outside_is_worth_nothing(system: System) -> None:
    token = json.loads(system.stagedoor("token", "--json").stdout)
    sealed = httpx.get(
        f"{system.gateway}/v1/membership",
        headers={"x-passport": "k.e30.x", "authorization": f"Bearer {token['access_token']}"},
    )
    assert sealed.status_code == 200


def test_every_service_serves_its_openapi_document(system: System) -> None:
    registry = system.where["registry"].replace("consul://", "http://")
    services = httpx.get(f"{registry}/v1/catalog/services").json()
    for name in set(services) - {"gateway", "stream_pipeline", "consul"}:
        (instance, *_) = httpx.get(f"{registry}/v1/health/service/{name}?passing").json()
        address = f"{instance['Service']['Address']}:{instance['Service']['Port']}"
        document = httpx.get(f"http://{address}/openapi.json").json()
        assert document["openapi"] == "3.1.0" and document["paths"], name
