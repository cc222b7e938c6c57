from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from chassis.errors import BadRequest
from microservices.identity.model import sign_ins
from microservices.identity.model.sign_ins import REFRESH_S, Refresh, SignIn

NOW = 1_700_000_000.0
FIRST = Refresh("a-1", "tv", "family", "secret-0")
DEVICE = sign_ins.begin(FIRST, "tv", "password", None, NOW)


def test_a_refresh_token_reads_as_what_it_was_made_of() -> None:
    assert Refresh.parse(FIRST.token()) == FIRST
    assert "secret-0" not in repr(DEVICE)


@given(st.text())
def test_any_other_text_is_no_refresh_token_or_a_whole_one(text: str) -> None:
    parsed = Refresh.parse(text)
    assert parsed is None or isinstance(parsed.secret, str)


def test_a_secret_works_once_and_its_second_use_ends_the_family() -> None:
    device, (verdict, _) = sign_ins.rotate(DEVICE, FIRST, "secret-1", "p-1", NOW + 1)
    assert verdict == "fine"
    assert device is not None
    assert (device.profile_id, device.expires_at) == ("p-1", NOW + 1 + REFRESH_S)
    gone, (verdict, _) = sign_ins.rotate(device, FIRST, "secret-2", None, NOW + 2)
    assert (gone, verdict) == (None, "reused")
    newest = replace(FIRST, secret="secret-1")
    assert sign_ins.rotate(gone, newest, "secret-3", None, NOW + 3) == (None, ("unknown", None))


def test_a_token_of_an_earlier_family_of_the_device_harms_nobody() -> None:
    stranger = Refresh("a-1", "tv", "another family", "secret-0")
    kept, (verdict, _) = sign_ins.rotate(DEVICE, stranger, "x", None, NOW)
    assert (kept, verdict) == (DEVICE, "unknown")
    public = Refresh("a-1", "tv", DEVICE.session, "secret-0")
    assert sign_ins.judge(DEVICE, public, NOW) == "unknown"


def test_a_family_ends_thirty_days_after_its_last_use() -> None:
    assert sign_ins.judge(DEVICE, FIRST, NOW + REFRESH_S - 1) == "fine"
    gone, (verdict, _) = sign_ins.rotate(DEVICE, FIRST, "x", None, NOW + REFRESH_S)
    assert (gone, verdict) == (None, "expired")


@given(st.lists(st.integers(0, 6), max_size=12))
def test_whatever_order_secrets_are_shown_in_only_the_present_one_serves(shown: list[int]) -> None:
    stored: SignIn | None = DEVICE
    present = 0
    for number in shown:
        refresh = replace(FIRST, secret=f"secret-{number}")
        before = stored
        stored, (verdict, _) = sign_ins.rotate(stored, refresh, f"secret-{present + 1}", None, NOW)
        if before is None:
            assert (stored, verdict) == (None, "unknown")
        elif number == present:
            assert verdict == "fine"
            present += 1
        else:
            assert (stored, verdict) == (None, "reused")


@pytest.mark.parametrize(
    ("device_id", "device_type"),
    [("", "tv"), ("a b", "tv"), ("x" * 65, "tv"), ("d\n", "tv"), ("d", "TV"), ("d", "")],
)
def test_senseless_devices_are_refused(device_id: str, device_type: str) -> None:
    with pytest.raises(BadRequest):
        sign_ins.check_device(device_id, device_type)


def test_each_refusal_says_what_to_do() -> None:
    codes: dict[Any, str] = {}
    for verdict in ("unknown", "expired", "reused"):
        failure = sign_ins.refused(verdict)
        codes[verdict] = failure.code
        assert "sign in again" in failure.detail
        assert failure.members == {"error": "invalid_grant"}
    assert codes == {
        "unknown": "refresh_invalid",
        "expired": "refresh_expired",
        "reused": "refresh_reused",
    }
