"""Signing in a device without a keyboard (RFC 8628)."""

from __future__ import annotations

import hashlib
from typing import ClassVar, Literal

import msgspec
from msgspec.structs import replace

from chassis.contracts.accounts import DeviceCodeAnswer
from chassis.contracts.keys import Key
from chassis.errors import BadRequest, NotFound
from microservices.identity.model.sign_ins import ISSUER

LIFE_S = 600
INTERVAL_S = 5
_SLOWER_S = 5
_LETTERS = "BCDFGHJKLMNPQRSTVWXZ"
_LENGTH = 8
CODE_BYTES = 32
"""Entropy for `user_code`: more than it uses, since some bytes are skipped for an even spread."""

_BOUND = 256 - 256 % len(_LETTERS)

Poll = Literal["approved", "authorization_pending", "slow_down", "access_denied", "expired_token"]

_WHAT_TO_DO: dict[Poll, str] = {
    "authorization_pending": "nobody has entered the user code yet; ask again after the interval",
    "slow_down": "asked too soon; the interval is 5 s longer now",
    "access_denied": "the member refused this device",
    "expired_token": "the device code has expired or was used; ask for a new one",
}


class DeviceCode(msgspec.Struct, frozen=True):
    """A device that waits to be let in. `digest` is of the device code."""

    key: ClassVar[Key] = Key("device_code", ("digest",))

    digest: str
    user_code: str
    device_id: str
    device_type: str
    expires_at: float
    interval_s: int = INTERVAL_S
    polled_at: float = 0.0
    state: Literal["pending", "approved", "denied"] = "pending"
    account_id: str | None = None
    profile_id: str | None = None


class UserCode(msgspec.Struct, frozen=True):
    """Finds the device code by what the member types."""

    key: ClassVar[Key] = Key("user_code", ("user_code",))

    user_code: str
    digest: str
    expires_at: float


def user_code(entropy: bytes) -> str:
    """Eight consonants: no vowels, so no words (RFC 8628 section 6.1). 34 bits."""
    return "".join(_LETTERS[byte % len(_LETTERS)] for byte in entropy if byte < _BOUND)[:_LENGTH]


def typed(code: str) -> str:
    """What a member typed, in normal form."""
    return "".join(letter for letter in code[:64].upper() if letter in _LETTERS)


def digest(device_code: str) -> str:
    return hashlib.sha256(device_code.encode()).hexdigest()


def answer(device_code: str, stored: DeviceCode) -> DeviceCodeAnswer:
    shown = f"{stored.user_code[:4]}-{stored.user_code[4:]}"
    return DeviceCodeAnswer(
        device_code=device_code,
        user_code=shown,
        verification_uri=f"{ISSUER}/activate",
        verification_uri_complete=f"{ISSUER}/activate?user_code={shown}",
        expires_in=LIFE_S,
        interval=stored.interval_s,
    )


def settle(
    stored: DeviceCode | None, account_id: str, profile_id: str | None, approve: bool, now: float
) -> DeviceCode:
    """The device let in or refused by a member; the first decision stands."""
    if stored is None or now >= stored.expires_at:
        raise unknown_user_code()
    if stored.state != "pending" and stored.account_id != account_id:
        raise unknown_user_code()
    if stored.state != "pending":
        return stored
    state: Literal["approved", "denied"] = "approved" if approve else "denied"
    return replace(stored, state=state, account_id=account_id, profile_id=profile_id)


def poll(
    stored: DeviceCode | None, now: float
) -> tuple[DeviceCode | None, tuple[Poll, DeviceCode | None]]:
    """What the device hears. A code that was approved is used up by hearing so."""
    if stored is None or now >= stored.expires_at:
        return None, ("expired_token", None)
    if stored.state == "approved":
        return None, ("approved", stored)
    if stored.state == "denied":
        return None, ("access_denied", None)
    if stored.polled_at and now < stored.polled_at + stored.interval_s:
        slower = replace(stored, polled_at=now, interval_s=stored.interval_s + _SLOWER_S)
        return slower, ("slow_down", None)
    return replace(stored, polled_at=now), ("authorization_pending", None)


def refused(heard: Poll) -> BadRequest:
    return BadRequest(_WHAT_TO_DO[heard], code=heard, members={"error": heard})


def unknown_user_code() -> NotFound:
    return NotFound(
        "no device waits under this code: check it, or start again on the device",
        code="user_code_unknown",
    )
