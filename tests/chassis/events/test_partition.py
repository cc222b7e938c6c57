from __future__ import annotations

import pytest

from chassis.events.partition import murmur2, partition_of


@pytest.mark.parametrize(
    ("key", "signed"),
    [  # from Kafka's own tests of its client (UtilsTest.testMurmur2)
        (b"21", -973932308),
        (b"foobar", -790332482),
        (b"a-little-bit-long-string", -985981536),
        (b"a-little-bit-longer-string", -1486304829),
        (b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971),
        (b"abc", 479470107),
    ],
)
def test_murmur2_gives_what_kafkas_client_gives(key: bytes, signed: int) -> None:
    assert murmur2(key) == signed & 0xFFFFFFFF


def test_keys_spread_over_the_partitions() -> None:
    counts = [0] * 8
    for n in range(8000):
        counts[partition_of(b"profile-%d" % n, 8)] += 1
    assert min(counts) > 850
    assert max(counts) < 1150
