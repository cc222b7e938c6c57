from __future__ import annotations

import base64
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from chassis.contracts.common import Device, Drm
from chassis.contracts.protection import key_id
from chassis.contracts.streams import LicenceRequest
from chassis.errors import BadRequest, Forbidden, Unprocessable
from microservices.licence.model import (
    ClearKeyRequest,
    check_holder,
    clear_key_licence,
    content_key,
    decode_clear_key,
    grant,
    key_ids_of,
)

NOW = 1_700_000_000.0
SECRET = b"s" * 32


def wanted(**values: Any) -> LicenceRequest:
    return LicenceRequest(
        **{
            "account_id": "a1",
            "play_id": "p1",
            "session_id": "s1",
            "title_id": "heat-1995",
            "device": Device(id="d1", hdcp="2.2"),
            "drm": Drm(system="clearkey"),
            "max_height": 2160,
            "valid_until": NOW + 1e9,
            **values,
        }
    )


def base64url(kid: str) -> str:
    return base64.urlsafe_b64encode(bytes.fromhex(kid)).rstrip(b"=").decode()


def kids(*tiers: str) -> tuple[str, ...]:
    return tuple(key_id("heat-1995", tier) for tier in tiers)


@pytest.mark.parametrize(
    ("drm", "hdcp", "asked", "height", "tiers"),
    [
        (Drm(system="clearkey"), "2.2", 2160, 1080, ("sd", "hd", "fhd")),
        (Drm(system="widevine", level="L3"), "2.2", 2160, 720, ("sd", "hd")),
        (Drm(system="widevine", level="L1"), "2.2", 2160, 2160, ("sd", "hd", "fhd", "uhd")),
        (Drm(system="widevine", level="L1"), "1.4", 2160, 1080, ("sd", "hd", "fhd")),
        (Drm(system="widevine", level="L1"), "2.2", 480, 480, ("sd",)),
    ],
)
def test_a_device_is_granted_the_keys_of_its_trust_and_its_play(
    drm: Drm, hdcp: str, asked: int, height: int, tiers: tuple[str, ...]
) -> None:
    request = wanted(drm=drm, device=Device(id="d1", hdcp=hdcp), max_height=asked)
    claims, granted = grant(request, NOW)
    assert granted == height
    assert claims.key_ids == kids(*tiers)


def test_a_licence_never_outlives_policy_or_rights() -> None:
    assert grant(wanted(), NOW)[0].expires_at == NOW + 6 * 3600
    assert grant(wanted(offline=True), NOW)[0].expires_at == NOW + 30 * 86_400
    assert grant(wanted(valid_until=NOW + 5), NOW)[0].expires_at == NOW + 5


def test_ended_rights_grant_nothing() -> None:
    with pytest.raises(Unprocessable) as caught:
        grant(wanted(valid_until=NOW), NOW)
    assert caught.value.code == "window_ended"


def test_a_device_without_drm_is_unsupported() -> None:
    with pytest.raises(Unprocessable) as caught:
        grant(wanted(drm=Drm(system="none")), NOW)
    assert caught.value.code == "device_unsupported"


def test_keys_are_stable_and_differ_by_key_id_and_secret() -> None:
    sd, hd = kids("sd", "hd")
    assert content_key(SECRET, sd) == content_key(SECRET, sd)
    assert len({content_key(SECRET, sd), content_key(SECRET, hd), content_key(b"t" * 32, sd)}) == 3
    assert len(content_key(SECRET, sd)) == 16


def test_a_clear_key_licence_holds_just_the_keys_asked_for() -> None:
    claims, _ = grant(wanted(), NOW)
    (hd,) = kids("hd")
    licence = clear_key_licence(claims, ClearKeyRequest(kids=(base64url(hd),)), SECRET)
    (key,) = licence.keys
    assert (key.kty, key.kid, licence.type) == ("oct", base64url(hd), "temporary")
    assert base64.urlsafe_b64decode(key.k + "==") == content_key(SECRET, hd)


def test_one_foreign_key_refuses_them_all() -> None:
    claims, _ = grant(wanted(max_height=480), NOW)
    for foreign in (*kids("hd"), key_id("other-2000", "sd")):
        request = ClearKeyRequest(kids=(base64url(kids("sd")[0]), base64url(foreign)))
        with pytest.raises(Forbidden) as caught:
            clear_key_licence(claims, request, SECRET)
        assert caught.value.code == "key_not_granted"


def test_a_persistent_licence_needs_the_offline_right() -> None:
    request = ClearKeyRequest(kids=(base64url(kids("sd")[0]),), type="persistent-license")
    with pytest.raises(Forbidden):
        clear_key_licence(grant(wanted(), NOW)[0], request, SECRET)
    offline = grant(wanted(offline=True), NOW)[0]
    assert clear_key_licence(offline, request, SECRET).type == "persistent-license"


def test_a_token_is_its_accounts_alone() -> None:
    claims, _ = grant(wanted(), NOW)
    check_holder(claims, "a1")
    with pytest.raises(Forbidden):
        check_holder(claims, "a2")


@given(st.binary(min_size=16, max_size=16))
def test_key_ids_survive_base64url(raw: bytes) -> None:
    assert key_ids_of(ClearKeyRequest(kids=(base64url(raw.hex()),))) == [raw.hex()]


@given(st.text())
def test_any_other_text_is_no_key_id(text: str) -> None:
    try:
        (kid,) = key_ids_of(ClearKeyRequest(kids=(text,)))
    except BadRequest:
        return
    assert len(bytes.fromhex(kid)) == 16


@pytest.mark.parametrize("count", [0, 17])
def test_a_request_names_one_to_sixteen_keys(count: int) -> None:
    with pytest.raises(BadRequest):
        key_ids_of(ClearKeyRequest(kids=(base64url(kids("sd")[0]),) * count))


@example(b'{"kids":["\xff"]}')
@example(b'{"kids":' + b"[" * 5000)
@given(st.binary())
def test_any_body_is_a_request_or_a_bad_one(body: bytes) -> None:
    try:
        decode_clear_key(body)
    except BadRequest as refused:
        assert refused.detail.startswith("the body is no Clear Key request")
