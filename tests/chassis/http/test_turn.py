"""What is written at the end of a turn of the loop, and what never is."""

from __future__ import annotations

import asyncio

import pytest

from chassis.errors import OriginReset
from chassis.http.connection import Connection
from chassis.http.turn import TurnEnd
from tests.support.upstream import FakeTransport, Recorder

GET = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class Notes:
    """Flushes by noting its name."""

    def __init__(self, name: str, heard: list[str], *, breaks: bool = False) -> None:
        self.name = name
        self.heard = heard
        self.breaks = breaks

    def flush(self) -> None:
        self.heard.append(self.name)
        if self.breaks:
            raise ZeroDivisionError


async def turn() -> None:
    await asyncio.sleep(0)


def waiting(turn_end: TurnEnd) -> tuple[Connection, FakeTransport]:
    connection, transport = Connection(turn_end=turn_end), FakeTransport()
    connection.connection_made(transport)
    return connection, transport


async def test_everything_is_flushed_in_order_before_the_next_turn() -> None:
    turn_end, heard = TurnEnd(), list[str]()
    for name in ("a", "b"):
        turn_end.add(Notes(name, heard))
    assert heard == [] and len(turn_end) == 2
    await turn()
    assert heard == ["a", "b"] and len(turn_end) == 0
    turn_end.add(Notes("c", heard))
    await turn()
    assert heard == ["a", "b", "c"]


async def test_one_that_breaks_keeps_no_other_from_being_flushed() -> None:
    faults = list[object]()
    asyncio.get_running_loop().set_exception_handler(lambda _, told: faults.append(told))
    turn_end, heard = TurnEnd(), list[str]()
    for name in ("a", "b", "c"):
        turn_end.add(Notes(name, heard, breaks=name == "a"))
    await turn()
    await turn()
    assert heard == ["a", "b", "c"] and len(faults) == 1


async def test_a_request_is_written_at_the_end_of_the_turn_in_one_piece() -> None:
    connection, transport = waiting(TurnEnd())
    assert connection.start(Recorder(), GET, method=b"POST", body=b"body")
    assert not transport.written
    await turn()
    assert bytes(transport.written) == GET + b"body"


@pytest.mark.parametrize(("body", "more"), [(b"x" * 20_000, False), (b"x", True)])
async def test_a_long_body_and_one_that_goes_on_are_written_at_once(
    body: bytes, more: bool
) -> None:
    connection, transport = waiting(TurnEnd())
    connection.start(Recorder(), GET, method=b"POST", body=body, more=more)
    assert bytes(transport.written) == GET + body
    connection.send(b"rest")
    await turn()
    assert bytes(transport.written) == GET + body + (b"rest" if more else b"")


async def test_a_request_given_up_in_its_turn_is_never_written() -> None:
    connection, transport = waiting(TurnEnd())
    connection.start(Recorder(), GET, method=b"GET")
    connection.abort()
    await turn()
    assert not transport.written and transport.aborted


@pytest.mark.parametrize("how", ["lost", "eof", "closing"])
async def test_a_connection_that_ends_in_that_turn_provably_sent_nothing(how: str) -> None:
    connection, transport = waiting(TurnEnd())
    recorder = Recorder()
    connection.start(recorder, GET, method=b"GET")
    if how == "eof":
        connection.eof_received()
    elif how == "closing":
        transport.aborted = True
        await turn()
        connection.connection_lost(None)
    else:
        connection.connection_lost(ConnectionResetError())
    await turn()
    assert isinstance(recorder.failure, OriginReset) and not recorder.failure.sent
    assert not transport.written


async def test_bytes_that_come_before_the_request_is_sent_are_no_answer_to_it() -> None:
    connection, transport = waiting(TurnEnd())
    recorder = Recorder()
    connection.start(recorder, GET, method=b"GET")
    connection.data_received(OK)
    assert isinstance(recorder.failure, OriginReset) and not recorder.failure.sent
    await turn()
    assert not transport.written and transport.aborted
