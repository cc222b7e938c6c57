"""A device that is signed in: its refresh tokens, one after the other, and its access tokens.

A refresh token names its family and carries a secret that works once. Whoever shows a secret of
the family that is not the present one has a copy of an old token, or the member's own was copied
before: nobody can tell which, so the whole family ends (RFC 9700, 4.14.2).
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from typing import Any, ClassVar, Literal

import msgspec
from msgspec.structs import replace

from chassis.contracts.accounts import SignedInDevice
from chassis.contracts.keys import Key
from chassis.contracts.profiles import Profile
from chassis.contracts.wire import NOT_DECODED
from chassis.errors import BadRequest, Unauthenticated
from microservices.identity.model.accounts import AccountRow

ISSUER = "https://stagedoor.local"
AUDIENCE = "stagedoor"
SCOPE = "member"
ACCESS_S = 900
REFRESH_S = 30 * 86_400.0

Auth = Literal["password", "device_code"]
Verdict = Literal["fine", "unknown", "expired", "reused"]

_DEVICE = re.compile(r"[A-Za-z0-9._:-]{1,64}\Z")
_TYPE = re.compile(r"[a-z0-9_-]{1,32}\Z")
_MAXIMUM_TOKEN = 1024


class SignIn(msgspec.Struct, frozen=True):
    """The one family of a device. `family` and `secret` are digests of what its token carries."""

    key: ClassVar[Key] = Key("sign_in", ("account_id",), ("device_id",))

    account_id: str
    device_id: str
    device_type: str
    family: str
    secret: str
    auth: Auth
    profile_id: str | None
    signed_in_at: float
    last_seen_at: float
    expires_at: float

    @property
    def session(self) -> str:
        """The family's public name; it is of no use for refreshing."""
        return self.family[:16]


class Refresh(msgspec.Struct, frozen=True, array_like=True):
    """What a refresh token says."""

    account_id: str
    device_id: str
    family: str
    secret: str

    def token(self) -> str:
        return base64.urlsafe_b64encode(msgspec.json.encode(self)).rstrip(b"=").decode()

    @classmethod
    def parse(cls, token: str) -> Refresh | None:
        """None when it is none of ours."""
        if not 0 < len(token) <= _MAXIMUM_TOKEN:
            return None
        try:
            raw = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
            return msgspec.json.decode(raw, type=cls)
        except (ValueError, *NOT_DECODED):
            return None


def check_device(device_id: str, device_type: str) -> None:
    if not _DEVICE.match(device_id):
        raise BadRequest("device_id needs 1 to 64 letters, digits, or any of . _ : -")
    if not _TYPE.match(device_type):
        raise BadRequest("device_type needs 1 to 32 lower-case letters, digits, _ or -")


def begin(
    refresh: Refresh, device_type: str, auth: Auth, profile_id: str | None, now: float
) -> SignIn:
    """A new family for the device; an earlier one of the same device is over with it."""
    return SignIn(
        account_id=refresh.account_id,
        device_id=refresh.device_id,
        device_type=device_type,
        family=_digest(refresh.family),
        secret=_digest(refresh.secret),
        auth=auth,
        profile_id=profile_id,
        signed_in_at=now,
        last_seen_at=now,
        expires_at=now + REFRESH_S,
    )


def judge(stored: SignIn | None, refresh: Refresh, now: float) -> Verdict:
    if stored is None or not _same(stored.family, refresh.family):
        return "unknown"
    if now >= stored.expires_at:
        return "expired"
    return "fine" if _same(stored.secret, refresh.secret) else "reused"


def rotate(
    stored: SignIn | None, refresh: Refresh, secret: str, profile_id: str | None, now: float
) -> tuple[SignIn | None, tuple[Verdict, SignIn | None]]:
    """The device with its next secret; a family that expired or was copied is gone."""
    verdict = judge(stored, refresh, now)
    if stored is None or verdict == "unknown":
        return stored, (verdict, None)
    if verdict != "fine":
        return None, (verdict, None)
    rotated = replace(
        stored,
        secret=_digest(secret),
        profile_id=profile_id,
        last_seen_at=now,
        expires_at=now + REFRESH_S,
    )
    return rotated, (verdict, rotated)


def refused(verdict: Verdict) -> Unauthenticated:
    """Why a refresh token does not serve; what to do is the same for all: sign in."""
    why = {
        "expired": "the refresh token has expired",
        "reused": "the refresh token was used before; this device is signed out",
    }
    return Unauthenticated(
        f"{why.get(verdict, 'the refresh token is not valid')}: sign in again",
        code=f"refresh_{verdict}" if verdict in why else "refresh_invalid",
        members={"error": "invalid_grant"},
    )


def claims(
    account: AccountRow, device: SignIn, profile: Profile | None, token_id: str, now: float
) -> dict[str, Any]:
    """What an access token says. Plan and country are hints; their owners have the last word."""
    said: dict[str, Any] = {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "sub": account.account_id,
        "iat": int(now),
        "exp": int(now) + ACCESS_S,
        "jti": token_id,
        "sid": device.session,
        "scope": SCOPE,
        "device_id": device.device_id,
        "country": account.country,
        "plan": account.plan,
        "amr": device.auth,
    }
    if profile is not None:
        said |= {"profile_id": profile.profile_id, "maturity": int(profile.maturity)}
    return said


def shown(device: SignIn, current: str) -> SignedInDevice:
    return SignedInDevice(
        device_id=device.device_id,
        type=device.device_type,
        signed_in_at=device.signed_in_at,
        last_seen_at=device.last_seen_at,
        current=device.device_id == current,
    )


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def _same(digest: str, secret: str) -> bool:
    return hmac.compare_digest(digest, _digest(secret))
