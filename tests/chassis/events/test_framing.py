from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from chassis.events.framing import frame, pack_message, unframe, unpack_message
from chassis.events.log import Message

Payloads = st.lists(st.binary(min_size=1, max_size=40), max_size=8)


def framed(payloads: list[bytes]) -> bytes:
    return b"".join(map(frame, payloads))


@given(Payloads)
def test_whole_frames_come_back(payloads: list[bytes]) -> None:
    data = framed(payloads)
    assert unframe(data) == (payloads, len(data))


@given(Payloads, st.binary(min_size=1, max_size=40), st.data())
def test_a_torn_tail_is_left_out(payloads: list[bytes], last: bytes, data: st.DataObject) -> None:
    whole = framed(payloads)
    torn = data.draw(st.integers(0, len(frame(last)) - 1))
    assert unframe(whole + frame(last)[:torn]) == (payloads, len(whole))


@given(Payloads, st.integers(0, 100))
def test_a_tail_of_zeros_holds_no_frames(payloads: list[bytes], zeros: int) -> None:
    whole = framed(payloads)
    assert unframe(whole + bytes(zeros)) == (payloads, len(whole))


@given(st.lists(st.binary(min_size=1, max_size=40), min_size=1, max_size=8), st.data())
def test_a_flipped_bit_ends_the_reading_before_it(
    payloads: list[bytes], data: st.DataObject
) -> None:
    whole = bytearray(framed(payloads))
    at = data.draw(st.integers(0, len(whole) - 1))
    whole[at] ^= 1 << data.draw(st.integers(0, 7))
    found, end = unframe(bytes(whole))
    assert end <= at
    assert found == payloads[: len(found)]


@given(Payloads, st.integers(0, 9))
def test_a_limit_stops_early_and_reading_goes_on_there(payloads: list[bytes], limit: int) -> None:
    data = framed(payloads)
    first, end = unframe(data, limit)
    rest, _ = unframe(data[end:])
    assert len(first) == min(limit, len(payloads))
    assert first + rest == payloads


@given(st.binary(max_size=200))
def test_garbage_never_raises(data: bytes) -> None:
    payloads, end = unframe(data)
    assert framed(payloads) == data[:end]


@given(
    st.text(max_size=5),
    st.binary(max_size=5),
    st.binary(max_size=5),
    st.lists(st.tuples(st.text(max_size=3), st.binary(max_size=3)), max_size=2).map(tuple),
)
def test_a_message_survives_packing(
    topic: str, key: bytes, value: bytes, headers: tuple[tuple[str, bytes], ...]
) -> None:
    message = Message(topic, key, value, headers)
    (payload,), _ = unframe(pack_message(message))
    assert unpack_message(payload) == message
