from __future__ import annotations

from collections import Counter

import pytest

from chassis.clock import ManualClock
from chassis.errors import NotFound
from microservices.identity.model import device_codes
from microservices.identity.model.device_codes import CODE_BYTES, DeviceCode

NOW = 1_700_000_000.0
WAITING = DeviceCode("digest", "BCDFGHJK", "tv", "tv", NOW + 600)


def test_user_codes_are_eight_consonants_spread_evenly() -> None:
    clock = ManualClock()
    codes = [device_codes.user_code(clock.entropy(CODE_BYTES)) for _ in range(2000)]
    assert {len(code) for code in codes} == {8}
    letters = Counter("".join(codes))
    assert len(letters) == 20
    assert sum((seen - 800) ** 2 / 800 for seen in letters.values()) < 50


def test_a_code_is_found_however_it_is_typed() -> None:
    answer = device_codes.answer("secret", WAITING)
    assert answer.user_code == "BCDF-GHJK"
    for typed in (answer.user_code, "bcdfghjk", " bcdf ghjk ", "BCDF–GHJK\n"):
        assert device_codes.typed(typed) == WAITING.user_code


def test_polling_too_soon_makes_the_interval_longer() -> None:
    code, (heard, _) = device_codes.poll(WAITING, NOW)
    assert heard == "authorization_pending"
    code, (heard, _) = device_codes.poll(code, NOW + 4)
    assert heard == "slow_down"
    code, (heard, _) = device_codes.poll(code, NOW + 13)
    assert heard == "slow_down"
    code, (heard, _) = device_codes.poll(code, NOW + 13 + 15)
    assert heard == "authorization_pending"


def test_an_approved_code_serves_once() -> None:
    code = device_codes.settle(WAITING, "a-1", "p-1", True, NOW)
    left, (heard, used) = device_codes.poll(code, NOW)
    assert (left, heard, used) == (None, "approved", code)
    assert device_codes.poll(left, NOW)[1] == ("expired_token", None)


def test_a_refused_device_hears_so() -> None:
    code = device_codes.settle(WAITING, "a-1", None, False, NOW)
    assert device_codes.poll(code, NOW)[1] == ("access_denied", None)


def test_the_first_decision_stands_and_is_nobody_elses_business() -> None:
    code = device_codes.settle(WAITING, "a-1", None, True, NOW)
    assert device_codes.settle(code, "a-1", None, False, NOW) == code
    with pytest.raises(NotFound):
        device_codes.settle(code, "a-2", None, True, NOW)


def test_ten_minutes_end_it_for_both_sides() -> None:
    with pytest.raises(NotFound):
        device_codes.settle(WAITING, "a-1", None, True, NOW + 600)
    with pytest.raises(NotFound):
        device_codes.settle(None, "a-1", None, True, NOW)
    assert device_codes.poll(WAITING, NOW + 600) == (None, ("expired_token", None))
