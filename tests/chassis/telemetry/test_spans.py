"""Spans of one process, kept for whoever asks by trace."""

from __future__ import annotations

from chassis.clock import ManualClock
from chassis.telemetry import Span, SpanRing, Trace


def span(trace: Trace, name: str = "work", start: float = 1.0, end: float = 1.25) -> Span:
    return Span(trace, name, start, end, "success", {"http.route": "/v1/play"})


def test_a_trace_is_found_among_others_in_the_order_of_ending() -> None:
    clock, ring = ManualClock(), SpanRing()
    mine, other = Trace.new(clock), Trace.new(clock)
    for trace, name in ((mine, "a"), (other, "b"), (mine.child(clock), "c")):
        ring.add(span(trace, name))
    assert [one.name for one in ring.of_trace(mine.trace_id)] == ["a", "c"]
    assert ring.of_trace("0" * 32) == []


def test_the_oldest_make_room() -> None:
    clock, ring = ManualClock(), SpanRing(size=3)
    traces = [Trace.new(clock) for _ in range(5)]
    for trace in traces:
        ring.add(span(trace))
    assert len(ring) == 3
    assert [bool(ring.of_trace(trace.trace_id)) for trace in traces] == [False] * 2 + [True] * 3


def test_a_span_tells_its_place_and_its_time() -> None:
    clock = ManualClock()
    parent = Trace.new(clock)
    trace = parent.child(clock)
    assert span(trace).as_dict("play_api") == {
        "trace_id": parent.trace_id,
        "span_id": trace.span_id,
        "parent_id": parent.span_id,
        "service": "play_api",
        "name": "work",
        "start": 1.0,
        "duration_ms": 250.0,
        "outcome": "success",
        "attributes": {"http.route": "/v1/play"},
    }
