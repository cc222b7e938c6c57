from pathlib import Path

import pytest

from chassis.clock import ManualClock
from chassis.telemetry import Trace
from gateway.traces import Traces, lines
from tests.support.gateways import GET, Raw, one_rule, running
from tests.support.scripted import Scripted, answers


def test_drawn_digits_are_hexadecimal_and_never_the_same() -> None:
    traces = Traces(ManualClock())
    drawn = [traces.draw() for _ in range(200)]
    assert len(set(drawn)) == 200
    assert all(len(digits) == 48 and int(digits, 16) for digits in drawn)


def test_a_claimed_trace_is_continued_below_its_span() -> None:
    claimed = b"00-" + b"a" * 32 + b"-" + b"b" * 16 + b"-01"
    trace = Traces(ManualClock()).continued(claimed)
    assert trace is not None
    assert (trace.trace_id, trace.parent_id) == ("a" * 32, "b" * 16)
    assert Traces(ManualClock()).continued(b"nonsense") is None


def test_a_trace_is_told_alike_whether_it_is_digits_or_more() -> None:
    digits = b"a" * 32 + b"b" * 16
    told = lines(None, digits)
    assert told == lines(Trace("a" * 32, "b" * 16, None, True), b"")
    assert told.startswith(b"traceparent: 00-aaaa")
    assert told.endswith(b"\r\nx-request-id: " + b"a" * 32 + b"\r\n")


@pytest.mark.parametrize("trusted", [(), ("127.0.0.1/32",)])
async def test_only_a_trusted_proxys_trace_goes_on(
    trusted: tuple[str, ...], tmp_path: Path
) -> None:
    claimed = b"Traceparent: 00-" + b"a" * 32 + b"-" + b"b" * 16 + b"-01\r\n"
    async with (
        Scripted(answers()) as upstream,
        running(tmp_path, one_rule(upstream.port), trusted_proxies=trusted) as worker,
        Raw(worker.port) as client,
    ):
        client.send(GET.replace(b"Host", claimed + b"Host"))
        await client.answer()
    assert (b"traceparent: 00-" + b"a" * 32 in upstream.received) is bool(trusted)
    assert b"-" + b"b" * 16 + b"-" not in upstream.received
