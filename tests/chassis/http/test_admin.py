"""The admin port that every process has."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from prometheus_client import CONTENT_TYPE_LATEST
from prometheus_client.parser import text_string_to_metric_families

from chassis.clock import ManualClock
from chassis.http.admin import PAGES, AdminPort
from chassis.http.serving import Listener, bind
from chassis.telemetry import Telemetry, Trace


class Ready:
    """Ready or not, as the test says."""

    now = False

    def __call__(self) -> bool:
        return self.now


@pytest.fixture
def telemetry(tmp_path: Path) -> Telemetry:
    return Telemetry("things", "things-1", ManualClock(), log_file=tmp_path / "log.jsonl")


@pytest.fixture
def ready() -> Ready:
    return Ready()


@pytest.fixture
async def http(telemetry: Telemetry, ready: Ready) -> AsyncIterator[httpx.AsyncClient]:
    listener = Listener(AdminPort(telemetry, ready, "1.2.3"), bind("127.0.0.1", 0))
    await listener.start()
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{listener.port}") as http:
        yield http
    await listener.drain(0.1)


async def test_a_process_that_is_not_ready_is_still_live(
    http: httpx.AsyncClient, ready: Ready
) -> None:
    assert (await http.get("/live")).status_code == 200
    assert (await http.get("/ready")).status_code == 503
    ready.now = True
    assert (await http.get("/ready")).status_code == 200


async def test_every_page_is_there_to_be_read_only(http: httpx.AsyncClient, ready: Ready) -> None:
    ready.now = True
    for page in PAGES:
        assert (await http.get(page)).status_code == 200, page
        assert (await http.head(page)).content == b"", page
        refused = await http.post(page)
        assert (refused.status_code, refused.json()["allowed"]) == (405, ["GET"]), page


async def test_what_is_not_there_is_a_problem(http: httpx.AsyncClient) -> None:
    missing = await http.get("/rules")
    assert (missing.status_code, missing.json()["code"]) == (404, "no_such_path")
    assert "/rules" in missing.json()["detail"]


async def test_it_says_who_it_is(http: httpx.AsyncClient) -> None:
    expected = {"service": "things", "instance": "things-1", "version": "1.2.3"}
    assert (await http.get("/version")).json() == expected


async def test_metrics_come_in_the_form_that_they_say(
    http: httpx.AsyncClient, telemetry: Telemetry
) -> None:
    telemetry.metrics.counter("plays_total", "Plays.").child().n += 2
    response = await http.get("/metrics")
    assert response.headers["content-type"] == CONTENT_TYPE_LATEST
    families = {one.name: one for one in text_string_to_metric_families(response.text)}
    assert families["plays"].samples[0].value == 2


async def test_a_trace_is_told_as_far_as_this_process_knows_it(
    http: httpx.AsyncClient, telemetry: Telemetry
) -> None:
    trace = Trace.new(telemetry.clock)
    telemetry.span(trace, "work", telemetry.clock.now(), "success", {})
    (span,) = (await http.get(f"/traces/{trace.trace_id}")).json()
    assert (span["name"], span["span_id"]) == ("work", trace.span_id)
    assert (await http.get(f"/traces/{'0' * 32}")).json() == []
