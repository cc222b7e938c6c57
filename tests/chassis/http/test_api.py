"""The server side: what every operation gets without asking."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from chassis.contracts.accounts import Enrolment
from chassis.contracts.wire import Call, Nothing, Wire
from chassis.errors import Conflict, StoreUnavailable
from chassis.http.api import Api, Reply, Request, guard, read_body
from chassis.http.inbound import TooLarge
from chassis.service import Chassis, Service
from tests.support.services import InProcess, in_process, never
from tests.support.waiting import until


class Echo(Wire, frozen=True):
    said: str
    times: int = 1


ECHO = Call("things", "echo", Echo, Echo)


async def build(chassis: Chassis) -> Service:
    api = chassis.api()

    async def echo(request: Request, body: Echo) -> Echo:
        request.notes["said"] = body.said
        return body

    async def thing(request: Request) -> Echo:
        """One thing."""
        return Echo(said=f"{request.params['name']} of {request.passport.account_id}")

    async def broken(request: Request) -> Reply:
        if request.query("how") == "conflict":
            raise Conflict("taken", code="taken", members={"by": "you"})
        if request.query("how") == "store":
            raise StoreUnavailable("the disk is full", retry_after_s=2)
        raise RuntimeError("secret detail")

    async def nothing(request: Request) -> None:
        return None

    async def endless(request: Request) -> None:
        await never()

    api.call(ECHO, echo)
    api.route("GET", "/v1/endless", endless, auth=False)
    api.route("GET", "/v1/things/{name}", thing, answer=Echo)
    api.route("DELETE", "/v1/things/{name}", nothing, auth=False)
    api.route("GET", "/v1/broken", broken, auth=False)
    return Service(api)


@pytest.fixture
async def things(tmp_path: Path) -> AsyncIterator[InProcess]:
    async with in_process("things", build, tmp_path) as running:
        yield running


async def test_a_call_answers_its_type(things: InProcess) -> None:
    assert await things.call(ECHO, Echo(said="hello", times=2)) == Echo(said="hello", times=2)


async def test_a_body_that_does_not_fit_says_where(things: InProcess) -> None:
    response = await things.rest("POST", ECHO.path, {"said": 3})
    assert (response.status_code, response.json()["code"]) == (400, "invalid_request")
    assert "$.said" in response.json()["detail"]
    broken = await things.http.post(ECHO.path, content=b"{")
    assert broken.status_code == 400 and "JSON" in broken.json()["detail"]


@pytest.mark.parametrize(
    "body",
    [b'{"said":"\xff"}', b'{"said":"\xed\xa0\x80"}', b'{"new":' + b"[" * 5000, b"[" * 5000],
    ids=["not UTF-8", "a lone surrogate", "nested without end", "nested at once"],
)
async def test_bytes_that_no_decoder_takes_are_the_callers_fault(
    things: InProcess, body: bytes
) -> None:
    response = await things.http.post(ECHO.path, content=body)
    assert (response.status_code, response.json()["code"]) == (400, "invalid_request")


async def test_unknown_fields_are_ignored_so_that_two_versions_can_talk(things: InProcess) -> None:
    assert (await things.rest("POST", ECHO.path, {"said": "x", "new": 1})).status_code == 200


async def test_a_path_parameter_and_the_passport_reach_the_handler(things: InProcess) -> None:
    assert (await things.rest("GET", "/v1/things/lamp")).json()["said"] == "lamp of a1"


async def test_an_operation_that_needs_a_passport_refuses_without(things: InProcess) -> None:
    response = await things.rest("GET", "/v1/things/lamp", passport=None)
    assert (response.status_code, response.json()["code"]) == (401, "passport_missing")
    forged = await things.rest(
        "GET", "/v1/things/lamp", passport=None, headers={"x-passport": "a.b.c"}
    )
    assert forged.status_code == 401


async def test_nothing_is_a_204_without_a_body(things: InProcess) -> None:
    response = await things.rest("DELETE", "/v1/things/lamp")
    assert (response.status_code, response.content) == (204, b"")


async def test_failures_become_problems_with_their_members(things: InProcess) -> None:
    response = await things.rest("GET", "/v1/broken?how=conflict")
    assert response.headers["content-type"] == "application/problem+json"
    assert (response.status_code, response.json()["code"], response.json()["by"]) == (
        409,
        "taken",
        "you",
    )
    store = await things.rest("GET", "/v1/broken?how=store")
    assert (store.status_code, store.headers["retry-after"]) == (503, "2")


async def test_what_nobody_expected_is_a_500_that_tells_no_secret(
    things: InProcess, tmp_path: Path
) -> None:
    response = await things.rest("GET", "/v1/broken")
    assert response.status_code == 500 and "secret" not in response.text
    things.chassis.telemetry.close()
    assert "secret detail" in (tmp_path / "test.jsonl").read_text()


async def test_an_unknown_path_is_a_404_and_another_method_a_405_that_says_which(
    things: InProcess,
) -> None:
    assert (await things.rest("GET", "/nowhere")).status_code == 404
    response = await things.rest("PATCH", "/v1/things/lamp")
    assert (response.status_code, response.json()["allowed"]) == (405, ["DELETE", "GET"])


async def test_head_is_answered_as_get_is(things: InProcess) -> None:
    asked = [await things.rest(method, "/openapi.json") for method in ("GET", "HEAD")]
    assert [response.status_code for response in asked] == [200, 200]
    assert asked[0].headers["content-length"] == asked[1].headers["content-length"]


async def test_expired_work_is_refused_before_it_starts(things: InProcess) -> None:
    late = await things.raw_call(ECHO, Echo(said="x"), headers={"x-request-timeout-ms": "0"})
    assert (late.status_code, late.json()["code"]) == (504, "deadline")
    malformed = await things.raw_call(ECHO, Echo(said="x"), headers={"x-request-timeout-ms": "x"})
    assert malformed.status_code == 400


async def test_every_request_is_counted_traced_and_logged_once(
    things: InProcess, tmp_path: Path
) -> None:
    trace_id, span_id = "a" * 32, "b" * 16
    await things.raw_call(
        ECHO, Echo(said="x"), headers={"traceparent": f"00-{trace_id}-{span_id}-01"}
    )
    text = things.chassis.telemetry.metrics.render().decode()
    assert 'service_requests_total{code="200",operation="echo",outcome="success"} 1.0' in text
    (span,) = things.chassis.telemetry.trace(trace_id)
    assert (span["parent_id"], span["name"]) == (span_id, "echo")
    things.chassis.telemetry.close()
    lines = [json.loads(line) for line in (tmp_path / "test.jsonl").read_text().splitlines()]
    (line,) = [line for line in lines if line.get("trace") == trace_id]
    assert (line["operation"], line["status"], line["said"]) == ("echo", 200, "x")


async def test_a_token_in_a_path_is_not_logged_whole(things: InProcess, tmp_path: Path) -> None:
    for path in (f"/v1/things/{'k' * 99}secret", f"/v1/nothing/{'k' * 99}secret/x"):
        await things.rest("GET", path)
    things.chassis.telemetry.close()
    text = (tmp_path / "test.jsonl").read_text()
    assert text.count("/kkkk") == 2 and "secret" not in text


async def test_why_a_store_failed_is_for_the_log_and_not_for_the_caller(
    things: InProcess, tmp_path: Path
) -> None:
    told = await things.rest("GET", "/v1/broken?how=store")
    assert told.status_code == 503 and "disk" not in told.text
    assert told.headers["retry-after"] == "2" and "try again" in told.json()["detail"]
    things.chassis.telemetry.close()
    assert "the disk is full" in (tmp_path / "test.jsonl").read_text()


async def test_a_request_that_is_left_is_counted_as_that(things: InProcess) -> None:
    asked = asyncio.ensure_future(things.rest("GET", "/v1/endless"))
    await until(lambda: things.service.app.in_flight)
    asked.cancel()
    await asyncio.gather(asked, return_exceptions=True)
    text = things.chassis.telemetry.metrics.render().decode()
    assert (
        'service_requests_total{code="500",operation="endless",outcome="client_gone"} 1.0' in text
    )
    assert things.service.app.in_flight == 0


async def test_the_served_document_describes_what_is_served(things: InProcess) -> None:
    document = (await things.rest("GET", "/openapi.json")).json()
    assert document["openapi"] == "3.1.0"
    operation = document["paths"]["/v1/things/{name}"]["get"]
    assert operation["parameters"][0]["name"] == "name" and operation["security"]
    assert document["paths"]["/call/echo"]["post"]["tags"] == ["inside"]
    assert "Echo" in document["components"]["schemas"]


def test_a_call_of_another_service_cannot_be_mounted(things: InProcess) -> None:
    foreign = Call("others", "enrol", Enrolment, Nothing)
    with pytest.raises(ValueError, match="others"):
        Api("things2", verifier=things.chassis.verifier, telemetry=_fresh(things)).call(
            foreign, lambda request, body: None
        )  # type: ignore[arg-type,return-value]


def _fresh(things: InProcess) -> Any:
    from chassis.telemetry import Telemetry

    return Telemetry("things2", "things2", things.chassis.clock)


def scope(*headers: tuple[bytes, bytes], version: str = "1.1") -> dict[str, Any]:
    return {"headers": headers, "http_version": version}


@pytest.mark.parametrize(
    "bad",
    [
        scope(),
        scope((b"host", b"a"), (b"host", b"b")),
        scope((b"host", b"a"), (b"transfer-encoding", b"chunked"), version="1.0"),
        scope((b"host", b"a"), (b"x", b"y" * 40_000)),
    ],
    ids=["no host", "two hosts", "chunked in 1.0", "huge headers"],
)
def test_what_the_listener_lets_through_is_refused_here(bad: dict[str, Any]) -> None:
    with pytest.raises(Exception, match=r"Host|1\.1|larger"):
        guard(bad)


async def test_a_body_beyond_the_limit_is_refused_while_it_arrives() -> None:
    received = 0

    async def receive() -> dict[str, Any]:
        nonlocal received
        received += 1
        return {"type": "http.request", "body": b"x" * 10, "more_body": True}

    with pytest.raises(TooLarge):
        await read_body(receive, 35)
    assert received == 4


async def test_a_body_cut_short_is_never_taken_as_complete() -> None:
    messages = [
        {"type": "http.request", "body": b"half", "more_body": True},
        {"type": "http.disconnect"},
    ]

    async def receive() -> dict[str, Any]:
        return messages.pop(0)

    with pytest.raises(Exception, match="cut short"):
        await read_body(receive, 100)
