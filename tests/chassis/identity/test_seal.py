"""Sealed values and the passport."""

from __future__ import annotations

import base64
import hmac
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chassis.clock import ManualClock
from chassis.contracts.profiles import PinToken
from chassis.errors import ConfigurationFault, Unauthenticated
from chassis.identity import Keyring, Passport, PassportSigner, PassportVerifier, Seal

OLD = {"k1": "11" * 32}
BOTH = {"k1": "11" * 32, "k2": "22" * 32}
PIN = PinToken(account_id="a", profile_id="p")
PASSPORT = Passport(account_id="a1", profile_id="p1", scopes=("member",))


def seal(clock: ManualClock | None = None, active: str = "k1", **secrets: str) -> Seal:
    return Seal(Keyring(active, secrets or OLD), clock or ManualClock())


def test_a_value_opens_as_it_was_sealed() -> None:
    one = seal()
    assert one.open("pin", one.seal("pin", PIN, ttl_s=5), PinToken) == PIN


def test_a_value_does_not_open_for_another_purpose() -> None:
    one = seal()
    token = one.seal("pin", PIN, ttl_s=5)
    with pytest.raises(Unauthenticated, match="another purpose"):
        one.open("manifest", token, PinToken)


def test_a_value_expires_and_grace_opens_it_a_little_longer() -> None:
    clock = ManualClock()
    one = seal(clock)
    token = one.seal("pin", PIN, ttl_s=5)
    clock.tick(5)
    with pytest.raises(Unauthenticated, match="expired"):
        one.open("pin", token, PinToken)
    assert one.open("pin", token, PinToken, grace_s=1) == PIN


def test_an_older_key_still_opens_and_a_removed_one_does_not() -> None:
    token = seal().seal("pin", PIN, ttl_s=5)
    assert seal(None, "k2", **BOTH).open("pin", token, PinToken) == PIN
    with pytest.raises(Unauthenticated, match="key"):
        seal(None, "k2", k2="22" * 32).open("pin", token, PinToken)


@given(st.integers(0, 200), st.integers(0, 255))
def test_no_altered_value_opens(at: int, byte: int) -> None:
    one = seal()
    token = one.seal("pin", PIN, ttl_s=5)
    raw = bytearray(token.encode())
    at %= len(raw)
    if raw[at] == byte:
        return
    raw[at] = byte
    with pytest.raises(Unauthenticated):
        one.open("pin", raw.decode("latin-1"), PinToken)


@given(st.text(max_size=300))
def test_garbage_is_refused_not_crashed_on(token: str) -> None:
    with pytest.raises(Unauthenticated):
        seal().open("pin", token, PinToken)


def test_a_keyring_needs_its_active_key_and_long_secrets(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="active"):
        Keyring("k9", OLD)
    with pytest.raises(ValueError, match="32 bytes"):
        Keyring("k1", {"k1": "11"})
    file = tmp_path / "keyring"
    file.write_text("{}")
    with pytest.raises(ConfigurationFault, match="stagedoor"):
        Keyring.load(file)


def test_a_keyring_never_shows_its_secrets() -> None:
    assert "11" * 4 not in repr(Keyring("k1", OLD))


def test_a_keyring_survives_a_file(tmp_path: Path) -> None:
    fresh = Keyring.fresh(ManualClock())
    file = tmp_path / "keyring"
    file.write_bytes(msgspec.json.encode(fresh))
    assert Keyring.load(file) == fresh


def test_a_passport_is_believed_for_its_audience_only() -> None:
    clock = ManualClock()
    one = seal(clock)
    minted = PassportSigner(one, audience="inside").mint(PASSPORT)
    assert PassportVerifier(one, clock, audience="inside").verify(minted) == PASSPORT
    with pytest.raises(Unauthenticated):
        PassportVerifier(one, clock, audience="elsewhere").verify(minted)


def test_a_passport_never_outlives_a_minute_even_when_it_was_seen_before() -> None:
    clock = ManualClock()
    one = seal(clock)
    with pytest.raises(ConfigurationFault):
        PassportSigner(one, ttl_s=61)
    verifier = PassportVerifier(one, clock)
    minted = PassportSigner(one, ttl_s=60).mint(PASSPORT)
    verifier.verify(minted)
    clock.tick(61)
    with pytest.raises(Unauthenticated, match="expired"):
        verifier.verify(minted)


def test_a_missing_passport_has_its_own_code() -> None:
    with pytest.raises(Unauthenticated) as caught:
        PassportVerifier(seal(), ManualClock()).verify(b"")
    assert caught.value.code == "passport_missing"


@given(st.binary(max_size=200))
def test_the_mac_is_the_standards_hmac_sha256(name: bytes) -> None:
    token = seal().seal("pin", PinToken(account_id=name.hex(), profile_id="p"), ttl_s=5)
    body, _, mac = token.rpartition(".")
    derived = hmac.digest(bytes.fromhex(OLD["k1"]), b"pin", "sha256")
    expected = base64.urlsafe_b64encode(hmac.digest(derived, body.encode(), "sha256"))
    assert mac == expected.decode().rstrip("=")
