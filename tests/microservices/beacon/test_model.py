"""What a player may tell."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chassis.contracts.events import PlayerEvent
from chassis.identity import Passport
from microservices.beacon.model import (
    AHEAD_MS,
    OLDEST_MS,
    SPARSE_S,
    Coalescer,
    envelope_of,
    fault_of,
    parse,
)
from tests.support.watching import BEGAN_MS, FILM_MS, moment

PASSPORT = Passport(account_id="a1", profile_id="p1", device_id="tv1", country="FR")


def test_a_sound_event_is_accepted() -> None:
    assert fault_of(moment(1, "start"), "p1", BEGAN_MS) is None


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"profile_id": "p2"}, "profile_id"),
        ({"session_id": ""}, "session_id"),
        ({"session_id": "x" * 129}, "session_id"),
        ({"title_id": "a\nb"}, "title_id"),
        ({"play_id": "x" * 129}, "play_id"),
        ({"seq": 0}, "seq"),
        ({"seq": 1 << 40}, "seq"),
        ({"at_ms": BEGAN_MS + AHEAD_MS + 1}, "future"),
        ({"at_ms": BEGAN_MS - OLDEST_MS - 1}, "seven days"),
        ({"session_started_ms": 1}, "session_started_ms"),
        ({"duration_ms": 0}, "duration_ms"),
        ({"position_ms": -1}, "position_ms"),
        ({"position_ms": FILM_MS + 10_001}, "position_ms"),
        ({"rebuffer_ms": -1}, "rebuffer_ms"),
        ({"kind": "rating"}, "rating"),
        ({"kind": "rating", "value": 11.0}, "rating"),
        ({"cmcd": {str(n): "" for n in range(33)}}, "cmcd"),
        ({"cmcd": {"br": "x" * 200}}, "cmcd"),
    ],
)
def test_an_event_that_makes_no_sense_is_refused_with_a_reason(
    changes: dict[str, Any], word: str
) -> None:
    reason = fault_of(msgspec.structs.replace(moment(1), **changes), "p1", BEGAN_MS)
    assert reason is not None
    assert word in reason


@given(st.binary(max_size=200))
def test_anything_that_is_no_event_is_refused_in_words(noise: bytes) -> None:
    found = parse(msgspec.Raw(noise))
    assert isinstance(found, str | PlayerEvent)


def test_the_passport_decides_country_and_device() -> None:
    event = moment(1, position_ms=FILM_MS + 500, country="XX", device_id="forged")
    envelope = envelope_of(event, PASSPORT, "/beacon/1", "00-1-1-01")
    told = msgspec.json.decode(envelope.data, type=PlayerEvent)
    assert (told.country, told.device_id, told.position_ms) == ("FR", "tv1", FILM_MS)
    assert (envelope.id, envelope.partitionkey, envelope.type) == (
        "s1:1",
        "p1",
        "play.heartbeat.v1",
    )
    assert envelope.time == "2023-11-14T22:13:20.000Z"


def test_heartbeats_thin_out_to_the_last_one_and_nothing_else_does() -> None:
    thin = Coalescer()
    batch = [moment(1, "start"), moment(2), moment(3, "pause"), moment(4), moment(5)]
    assert [event.seq for event in thin.thin(batch, 0.0)] == [1, 3, 5]
    assert [event.seq for event in thin.thin([moment(6)], SPARSE_S / 2)] == []
    assert [event.seq for event in thin.thin([moment(7, "stop")], SPARSE_S / 2)] == [7]
    assert [event.seq for event in thin.thin([moment(8)], SPARSE_S)] == [8]


def test_heartbeats_of_one_session_do_not_silence_another() -> None:
    thin = Coalescer()
    batch = [moment(1), moment(1, session="s2")]
    assert thin.thin(batch, 0.0) == batch
