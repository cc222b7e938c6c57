from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chassis.errors import Unprocessable
from chassis.events.batches import check_size, pack, unpack
from chassis.events.log import MESSAGE_LIMIT, Message

Messages = st.lists(
    st.builds(Message, st.sampled_from("xy"), st.sampled_from([b"0", b"1", b"2"]), st.binary())
)


def place(topic: str, key: bytes) -> int:
    return int(key)


@given(Messages)
def test_each_message_is_found_at_the_position_it_was_told(messages: list[Message]) -> None:
    parcel = pack(messages, place)
    bases = {partition: 100 * (at + 1) for at, (partition, _, _) in enumerate(parcel.parts)}
    positions = parcel.positions(bases)
    records = {
        (record.topic, record.partition, record.offset): record
        for partition, count, body in parcel.parts
        for record in unpack(partition, bases[partition], count, 7, body)
    }
    assert len(records) == len(messages)
    for message, (number, offset) in zip(messages, positions, strict=True):
        record = records[message.topic, number, offset]
        assert (record.key, record.value, record.timestamp_ms) == (message.key, message.value, 7)


@given(st.lists(st.integers(0, 40), min_size=1, max_size=5))
def test_bodies_join_by_concatenation(counts: list[int]) -> None:
    groups = [
        [Message("x", b"0", b"%d-%d" % (g, n)) for n in range(count)]
        for g, count in enumerate(counts)
    ]
    bodies = [part[2] for group in groups for part in pack(group, place).parts]
    total = sum(counts)
    records = unpack(("x", 0), 5, total, 0, b"".join(bodies))
    assert [r.value for r in records] == [m.value for group in groups for m in group]
    assert [r.offset for r in records] == list(range(5, 5 + total))


def test_the_largest_counts_have_heads_of_their_own() -> None:
    for count in (15, 16, 65_535, 65_536):
        messages = [Message("x", b"0", b"")] * count
        ((partition, found, body),) = pack(messages, place).parts
        assert found == count
        assert len(unpack(partition, 0, count, 0, body)) == count


def test_a_message_is_as_large_as_its_bytes_whatever_its_headers_are_called() -> None:
    name = "é" * 10
    assert check_size(Message("x", b"key", b"value", ((name, b"h"),))) == 3 + 5 + 20 + 1
    full = b"v" * (MESSAGE_LIMIT - 20)
    check_size(Message("x", b"", full, ((name, b""),)))
    with pytest.raises(Unprocessable, match="at most"):
        check_size(Message("x", b"", full, ((name, b"h"),)))
