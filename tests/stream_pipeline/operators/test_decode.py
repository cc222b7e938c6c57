"""Records that are facts, records that are not, and never an exception of another kind."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chassis.contracts.events import PlayerEvent, PlayStarted
from stream_pipeline.operators.decode import FUTURE_MS, Undecodable, decode, identity
from tests.support.watching import BEGAN_MS, moment, record, start


def test_a_player_event_comes_out_as_it_went_in() -> None:
    event = moment(3, "pause", cmcd={"br": "4800"})
    decoded = decode(record(event))
    assert decoded.fact == event
    assert (decoded.id, decoded.type, decoded.at_ms) == ("s1:3", "play.pause.v1", event.at_ms)


def test_a_play_start_is_told_from_a_player_start() -> None:
    assert isinstance(decode(record(start())).fact, PlayStarted)
    assert isinstance(decode(record(moment(1, "start"))).fact, PlayerEvent)


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (b"", "envelope"),
        (b"\xff\xfe", "envelope"),
        (b"{}", "envelope"),
        (b'{"new":' + b"[" * 5000, "envelope"),
        (b'{"id":"","partitionkey":"","source":"","type":"","time":"","data":1}', "envelope"),
    ],
)
def test_what_is_no_envelope_is_refused_with_its_reason(value: bytes, reason: str) -> None:
    with pytest.raises(Undecodable) as caught:
        decode(record(moment(1), value=value))
    assert caught.value.code == reason


def test_data_of_another_shape_is_refused() -> None:
    value = record(moment(1)).value.replace(b'"seq":1', b'"seq":"one"')
    with pytest.raises(Undecodable) as caught:
        decode(record(moment(1), value=value))
    assert caught.value.code == "data"
    assert "seq" in caught.value.detail


@pytest.mark.parametrize("field", ["position_ms", "duration_ms", "seq"])
def test_numbers_that_no_store_can_hold_are_refused(field: str) -> None:
    event = msgspec.structs.replace(moment(1), **{field: 1 << 70})
    with pytest.raises(Undecodable) as caught:
        decode(record(event))
    assert caught.value.code == "data"


def test_a_record_under_another_profiles_key_is_refused() -> None:
    with pytest.raises(Undecodable) as caught:
        decode(record(moment(1), key=b"p2"))
    assert caught.value.code == "key"


def test_an_event_from_the_far_future_is_refused_and_one_from_tomorrow_is_not() -> None:
    soon = moment(1, at_ms=BEGAN_MS + FUTURE_MS)
    assert decode(record(soon, timestamp_ms=BEGAN_MS)).fact == soon
    with pytest.raises(Undecodable) as caught:
        decode(record(moment(1, at_ms=BEGAN_MS + FUTURE_MS + 1), timestamp_ms=BEGAN_MS))
    assert caught.value.code == "event_time"


def test_other_types_pass_and_other_versions_of_ours_do_not() -> None:
    told = record(moment(1)).value
    other = decode(record(moment(1), value=told.replace(b"play.heartbeat.v1", b"ad.seen.v3")))
    assert other.fact is None
    with pytest.raises(Undecodable) as caught:
        newer = told.replace(b"play.heartbeat.v1", b"play.heartbeat.v2")
        decode(record(moment(1), value=newer))
    assert caught.value.code == "version"


def test_unknown_fields_are_ignored() -> None:
    value = record(moment(1)).value.replace(b'"seq":1', b'"seq":1,"colour":"blue"')
    assert decode(record(moment(1), value=value)).fact == moment(1)


@given(st.binary(max_size=300), st.integers(0, 60))
def test_damage_is_refused_or_read_but_never_breaks_the_reader(noise: bytes, at: int) -> None:
    whole = record(moment(1)).value
    for value in (noise, whole[:at] + noise + whole[at + len(noise) :], whole[: -at or None]):
        try:
            decode(record(moment(1), value=value))
        except Undecodable as fault:
            assert fault.code in ("envelope", "data", "key", "event_time", "version")


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("s1:7", ("s1", 7)),
        ("a:b:0", ("a:b", 0)),
        ("s1:", None),
        (":1", None),
        ("s1", None),
        ("s1:-1", None),
        ("s1:1e3", None),
        ("s1:" + "9" * 30, None),
        ("s1:١", None),
    ],
)
def test_an_id_names_a_session_and_a_number(text: str, named: tuple[str, int] | None) -> None:
    assert identity(text) == named
