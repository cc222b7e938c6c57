"""One request drawn across processes."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from chassis.clock import ManualClock
from chassis.errors import NotFound
from chassis.http.admin import AdminPort
from chassis.http.serving import Listener, bind
from chassis.telemetry import Telemetry, Trace
from deploy.explain import gather, waterfall
from tests.support.ports import free_port

BAR = "▇"


def span(
    span_id: str,
    parent_id: str | None = None,
    start: float = 0.0,
    duration_ms: float = 1.0,
    **more: Any,
) -> dict[str, Any]:
    described = {"service": "play_api", "name": span_id, "outcome": "success"}
    return {
        "span_id": span_id,
        "parent_id": parent_id,
        "start": start,
        "duration_ms": duration_ms,
        **described,
        **more,
    }


def indents(lines: list[str]) -> list[int]:
    return [(len(line) - len(line.lstrip())) // 2 for line in lines]


def bar_of(line: str) -> str:
    return line[45:85]


def test_nothing_is_drawn_of_nothing() -> None:
    assert list(waterfall([])) == []


def test_a_span_stands_below_the_one_that_caused_it() -> None:
    spans = [span("a"), span("b", "a"), span("c", "b"), span("d", "a")]
    assert indents(list(waterfall(spans))) == [0, 1, 2, 1]


def test_a_span_whose_cause_nobody_remembers_begins_anew() -> None:
    spans = [span("b", "gone"), span("c", "b")]
    assert indents(list(waterfall(spans))) == [0, 1]


def test_spans_that_cause_each_other_are_drawn_all_the_same() -> None:
    assert len(list(waterfall([span("a", "b"), span("b", "a"), span("c", "c")]))) == 3


def test_a_bar_begins_when_its_span_did_and_is_as_long() -> None:
    spans = [
        span("whole", None, 100.0, 1000.0),
        span("half", "whole", 100.0, 500.0),
        span("late", "whole", 100.75, 250.0),
    ]
    whole, half, late = map(bar_of, waterfall(spans))
    assert whole == BAR * 40
    assert half == BAR * 20 + " " * 20
    assert late == " " * 30 + BAR * 10


@pytest.mark.parametrize("duration_ms", [0.0, 1000.0])
def test_the_shortest_and_the_last_span_are_seen_too(duration_ms: float) -> None:
    spans = [span("whole", None, 0.0, duration_ms), span("last", "whole", duration_ms / 1000, 0.0)]
    for line in waterfall(spans):
        assert bar_of(line).count(BAR) >= 1
        assert len(bar_of(line)) == 40


def test_a_line_says_who_what_how_long_and_how_it_ended() -> None:
    (line,) = waterfall([span("call rights.decide", duration_ms=12.345, outcome="origin_timeout")])
    assert line.startswith("play_api call rights.decide ")
    assert line.endswith("   12.35 ms  origin_timeout") or line.endswith("12.35 ms  origin_timeout")


@asynccontextmanager
async def admin(service: str, clock: ManualClock) -> AsyncIterator[tuple[Telemetry, str]]:
    telemetry = Telemetry(service, f"{service}-1", clock)
    listener = Listener(AdminPort(telemetry, lambda: True, "1"), bind("127.0.0.1", 0))
    await listener.start()
    try:
        yield telemetry, f"127.0.0.1:{listener.port}"
    finally:
        await listener.drain(1)
        telemetry.close()


def list_targets(home: Path, *targets: str) -> None:
    (home / "prometheus").mkdir()
    groups = [{"targets": [target], "labels": {}} for target in targets]
    (home / "prometheus" / "targets.json").write_text(json.dumps(groups))


async def test_spans_are_gathered_from_every_process_in_the_order_of_their_start(
    tmp_path: Path,
) -> None:
    clock = ManualClock()
    async with admin("gateway", clock) as (edge, one), admin("play_api", clock) as (inner, other):
        list_targets(tmp_path, other, one)
        trace = Trace.new(clock)
        child, begun = trace.child(clock), clock.now()
        clock.tick(0.1)
        inner.span(child, "play", clock.now() - 0.05, "success", {})
        edge.span(trace, "POST /v1/play", begun, "success", {})
        edge.span(Trace.new(clock), "another", begun, "success", {})
        spans = await gather(tmp_path, trace.trace_id)
    assert [one["name"] for one in spans] == ["POST /v1/play", "play"]
    assert indents(list(waterfall(spans))) == [0, 1]


async def test_a_process_that_does_not_answer_is_left_out(tmp_path: Path) -> None:
    clock = ManualClock()
    async with admin("gateway", clock) as (edge, target):
        list_targets(tmp_path, f"127.0.0.1:{free_port()}", target)
        trace = Trace.new(clock)
        edge.span(trace, "POST /v1/play", clock.now(), "success", {})
        assert len(await gather(tmp_path, trace.trace_id)) == 1


async def test_without_a_running_system_it_says_how_to_start_one(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="make run"):
        await gather(tmp_path, "0" * 32)
