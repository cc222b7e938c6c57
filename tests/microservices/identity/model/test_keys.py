from __future__ import annotations

import json
from collections.abc import Callable
from itertools import count

from hypothesis import given
from hypothesis import strategies as st

from microservices.identity.model import keys
from microservices.identity.model.keys import KEEP_S, PERIOD_S, KeyRing, Signer, StoredKey

NOW = 1_700_000_000.0


def made_up() -> Callable[[float], StoredKey]:
    numbers = count()
    return lambda active_from: StoredKey(f"k{next(numbers)}", "pem", active_from)


def test_a_new_ring_signs_at_once_and_publishes_the_next() -> None:
    ring = keys.turn(KeyRing(), NOW, made_up())
    assert [key.active_from for key in ring.keys] == [NOW, NOW + PERIOD_S]
    assert keys.active(ring, NOW).key_id == "k0"
    assert keys.turn(ring, NOW + 100, made_up()) == ring


def test_the_former_key_stays_published_until_its_tokens_have_expired() -> None:
    fresh = made_up()
    ring = keys.turn(KeyRing(), NOW, fresh)
    ring = keys.turn(ring, NOW + PERIOD_S, fresh)
    assert [key.key_id for key in ring.keys] == ["k0", "k1", "k2"]
    assert keys.active(ring, NOW + PERIOD_S).key_id == "k1"
    ring = keys.turn(ring, NOW + PERIOD_S + KEEP_S, fresh)
    assert [key.key_id for key in ring.keys] == ["k1", "k2"]


@given(st.lists(st.floats(1, 3 * PERIOD_S), max_size=20))
def test_no_key_ever_signs_before_it_was_published_for_a_period(waits: list[float]) -> None:
    fresh, now = made_up(), NOW
    published: dict[str, float] = {}
    ring = KeyRing()
    for wait in [0.0, *waits]:
        now += wait
        ring = keys.turn(ring, now, fresh)
        for key in ring.keys:
            published.setdefault(key.key_id, now)
        signing = keys.active(ring, now)
        assert signing.active_from <= now
        assert signing.key_id == "k0" or now - published[signing.key_id] >= PERIOD_S - 1e-3
        assert ring.keys[-1].active_from > now
        assert len(ring.keys) <= 3


def test_only_public_parts_are_published() -> None:
    ring = keys.turn(KeyRing(), NOW, lambda at: keys.generate(f"k{at:.0f}", at))
    listed = json.loads(Signer(ring).document)["keys"]
    assert [sorted(key) for key in listed] == [["alg", "crv", "kid", "kty", "use", "x", "y"]] * 2
    assert "PRIVATE" not in repr(ring)
