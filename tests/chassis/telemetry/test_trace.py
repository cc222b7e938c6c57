"""W3C trace context: what is believed of a caller, and what the next one is told."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chassis.clock import ManualClock
from chassis.telemetry import Identifiers, Trace

TRACE_ID, SPAN_ID = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
HEADER = f"00-{TRACE_ID}-{SPAN_ID}-01".encode()


def test_the_callers_span_is_read() -> None:
    trace = Trace.parse(HEADER)
    assert trace is not None
    assert (trace.trace_id, trace.span_id, trace.sampled) == (TRACE_ID, SPAN_ID, True)


def test_a_child_names_its_parent_and_keeps_the_rest() -> None:
    parent = Trace.parse(HEADER.replace(b"-01", b"-00"))
    assert parent is not None
    child = parent.child(ManualClock())
    assert (child.trace_id, child.parent_id, child.sampled) == (TRACE_ID, SPAN_ID, False)
    assert child.span_id != SPAN_ID


def test_a_newer_version_is_read_as_far_as_it_is_known() -> None:
    newer = b"01" + HEADER[2:] + b"-what-the-future-brings"
    trace = Trace.parse(newer)
    assert trace is not None and trace.trace_id == TRACE_ID


@pytest.mark.parametrize(
    "value",
    [
        b"",
        HEADER[:-1],
        HEADER + b"-more",
        HEADER + b"\n",
        HEADER.upper(),
        b"ff" + HEADER[2:],
        b"01" + HEADER[2:] + b"more",
        HEADER.replace(TRACE_ID.encode(), b"0" * 32),
        HEADER.replace(SPAN_ID.encode(), b"0" * 16),
        HEADER.replace(b"4bf9", b"4bg9"),
    ],
)
def test_what_is_malformed_is_as_good_as_nothing(value: bytes) -> None:
    assert Trace.parse(value) is None


@given(st.binary(max_size=80))
def test_no_bytes_at_all_break_the_parser(value: bytes) -> None:
    Trace.parse(value)


@given(st.integers(min_value=0, max_value=1000), st.booleans())
def test_what_one_process_tells_the_next_one_reads(seed: int, sampled: bool) -> None:
    told = Trace.new(ManualClock(seed=seed))
    told.sampled = sampled
    read = Trace.parse(told.header())
    assert read is not None
    assert (read.trace_id, read.span_id, read.sampled) == (told.trace_id, told.span_id, sampled)


def test_drawn_identifiers_are_all_different_however_many() -> None:
    identifiers = Identifiers(ManualClock())
    traces = [identifiers.new_trace() for _ in range(200)]
    spans = [identifiers.child(traces[0]) for _ in range(200)]
    assert len({one.trace_id for one in traces}) == 200
    assert len({one.span_id for one in (*traces, *spans)}) == 400
    assert all(Trace.parse(one.header()) is not None for one in (*traces, *spans))


def test_a_drawn_child_stands_below_its_parent() -> None:
    identifiers = Identifiers(ManualClock())
    parent = Trace("a" * 32, "b" * 16, None, False)
    child = identifiers.child(parent)
    assert (child.trace_id, child.parent_id, child.sampled) == ("a" * 32, "b" * 16, False)
