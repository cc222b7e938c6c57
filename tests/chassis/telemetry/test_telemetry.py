"""The telemetry of one process under one name."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from chassis.clock import ManualClock
from chassis.telemetry import Telemetry, Trace


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def telemetry(clock: ManualClock, tmp_path: Path) -> Iterator[Telemetry]:
    telemetry = Telemetry("things", "things-1", clock, log_file=tmp_path / "log.jsonl")
    yield telemetry
    telemetry.close()


def values(telemetry: Telemetry) -> dict[str, float]:
    families = text_string_to_metric_families(telemetry.metrics.render().decode())
    return {one.name: one.value for family in families for one in family.samples}


def test_the_process_itself_is_measured(telemetry: Telemetry) -> None:
    shown = values(telemetry)
    assert shown["open_fds"] > 2
    assert shown["process_resident_memory_bytes"] > 1 << 20
    assert shown["process_cpu_seconds_total"] > 0
    assert shown["log_lines_dropped_total"] == 0


def test_a_span_lasts_from_its_start_to_now(telemetry: Telemetry, clock: ManualClock) -> None:
    trace, begun = Trace.new(clock), clock.now()
    clock.tick(0.5)
    telemetry.span(trace, "work", begun, "shed", {})
    (span,) = telemetry.trace(trace.trace_id)
    assert (span["service"], span["duration_ms"], span["outcome"]) == ("things", 500, "shed")


def test_only_so_many_spans_are_kept_as_it_was_told(clock: ManualClock) -> None:
    telemetry = Telemetry("things", "things-1", clock, spans=2)
    traces = [Trace.new(clock) for _ in range(3)]
    for trace in traces:
        telemetry.span(trace, "work", clock.now(), "success")
    assert [len(telemetry.trace(trace.trace_id)) for trace in traces] == [0, 1, 1]
    telemetry.close()


def test_a_loop_that_is_held_up_shows_as_lag(telemetry: Telemetry, clock: ManualClock) -> None:
    telemetry.watch_loop()
    clock.tick(0.5)
    assert values(telemetry)["event_loop_lag_seconds_sum"] == 0
    clock._elapsed += 0.7  # time passes in which nothing could run
    clock.tick(0)
    shown = values(telemetry)
    assert shown["event_loop_lag_seconds_count"] == 2
    assert shown["event_loop_lag_seconds_sum"] == pytest.approx(0.2)


def test_nothing_is_measured_after_the_end(telemetry: Telemetry, clock: ManualClock) -> None:
    telemetry.watch_loop()
    telemetry.close()
    clock.tick(5)
    assert values(telemetry)["event_loop_lag_seconds_count"] == 0


def test_lost_lines_are_a_metric(clock: ManualClock, tmp_path: Path) -> None:
    telemetry = Telemetry("things", "things-1", clock, log_file=tmp_path / "no" / "log.jsonl")
    telemetry.log.say("lost")
    telemetry.close()
    assert values(telemetry)["log_lines_dropped_total"] == 1
