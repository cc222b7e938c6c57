"""Dead letters: the original, where it came from, and why."""

from __future__ import annotations

import pytest

from chassis.errors import StoreUnavailable
from chassis.events.log import MESSAGE_LIMIT
from stream_pipeline.dead_letter import DeadLetters, dead_letter
from stream_pipeline.operators.decode import Undecodable
from tests.support.events import ScriptedLog
from tests.support.watching import moment, record

FAULT = Undecodable("seq must be a number", code="data")


def test_a_dead_letter_keeps_the_original_and_says_where_and_why() -> None:
    letter = dead_letter(record(moment(1), 41, 3, value=b"\x00raw"), FAULT)
    assert (letter.topic, letter.key, letter.value) == (
        "playback.beacon.dlq",
        b"playback.beacon-3-41",
        b"\x00raw",
    )
    told = dict(letter.headers)
    assert told["__connect.errors.topic"] == b"playback.beacon"
    assert told["__connect.errors.offset"] == b"41"
    assert told["__connect.errors.exception.message"] == b"seq must be a number"
    assert told["stagedoor.reason"] == b"data"
    assert told["stagedoor.key"] == b"p1"


def test_a_letter_fits_the_log_whatever_was_in_the_record() -> None:
    huge = record(moment(1), value=b"x" * MESSAGE_LIMIT, key=b"\xff" * 50_000)
    letter = dead_letter(huge, Undecodable("y" * 100_000, code="data"))
    size = len(letter.key) + len(letter.value) + sum(len(n) + len(v) for n, v in letter.headers)
    assert size < MESSAGE_LIMIT
    assert dict(letter.headers)["stagedoor.truncated"] == b"%d" % MESSAGE_LIMIT


async def test_letters_wait_until_the_log_has_them() -> None:
    log = ScriptedLog()
    letters = DeadLetters(log)
    letters.add(record(moment(1)), FAULT)
    log.down = True
    with pytest.raises(StoreUnavailable):
        await letters.settle()
    assert letters.by_reason == {}
    log.down = False
    await letters.settle()
    await letters.settle()
    assert letters.by_reason == {"data": 1}
    assert len(log.messages) == 1


async def test_forgotten_letters_are_not_sent() -> None:
    log = ScriptedLog()
    letters = DeadLetters(log)
    letters.add(record(moment(1)), FAULT)
    letters.forget()
    await letters.settle()
    assert log.messages == []
