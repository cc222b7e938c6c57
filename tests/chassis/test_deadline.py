"""Deadlines: absolute inside, relative on the wire."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chassis.clock import ManualClock
from chassis.deadline import Deadline, parse_grpc_timeout, parse_timeout_ms
from chassis.errors import BadRequest, DeadlineExceeded


def test_a_deadline_runs_out_and_says_what_it_stopped() -> None:
    clock = ManualClock()
    deadline = Deadline.after(clock, 1.0)
    assert deadline.check("asking") == 1.0
    clock.tick(1.0)
    assert deadline.expired()
    with pytest.raises(DeadlineExceeded, match="before asking"):
        deadline.check("asking")


def test_the_earlier_of_two_wins() -> None:
    clock = ManualClock()
    deadline = Deadline.after(clock, 1.0)
    assert deadline.at_most(0.2).remaining() == pytest.approx(0.2)
    assert deadline.at_most(5.0).remaining() == pytest.approx(1.0)


def test_without_a_deadline_no_header_is_sent() -> None:
    assert Deadline.never(ManualClock()).header() is None


@given(st.integers(0, 10**9 - 1))
def test_a_header_reads_back_as_it_was_sent(milliseconds: int) -> None:
    clock = ManualClock()
    sent = Deadline.after(clock, parse_timeout_ms(b"%d" % milliseconds)).header()
    assert sent is not None and abs(int(sent) - milliseconds) <= 1


@pytest.mark.parametrize("value", [b"", b"-1", b"1.5", b"1e3", b"9999999999", b" 1", "١".encode()])
def test_a_malformed_timeout_is_refused(value: bytes) -> None:
    with pytest.raises(BadRequest):
        parse_timeout_ms(value)


@pytest.mark.parametrize(
    ("value", "seconds"), [(b"2H", 7200), (b"1M", 60), (b"3S", 3), (b"250m", 0.25), (b"5u", 5e-6)]
)
def test_grpc_timeouts_are_read(value: bytes, seconds: float) -> None:
    assert parse_grpc_timeout(value) == pytest.approx(seconds)


@pytest.mark.parametrize("value", [b"", b"1", b"S", b"1s", b"123456789S", b"-1S"])
def test_malformed_grpc_timeouts_are_refused(value: bytes) -> None:
    with pytest.raises(BadRequest):
        parse_grpc_timeout(value)
