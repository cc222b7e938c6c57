"""Who gets which content keys, and for how long.

A licence token names the keys that one device of one account may have for one play: those of the
quality tiers that its DRM level is trusted with and that the play may use. It holds six hours for
streaming and thirty days offline, and never past the rights. A content key is an HMAC of its id
under a secret that never leaves the service, so keys are stable and none is stored.

Clear Key requests and licences are the JSON of W3C Encrypted Media Extensions, section 9.1.
"""

from __future__ import annotations

import base64
import binascii
import hmac
from collections.abc import Sequence
from typing import Literal

import msgspec

from chassis.contracts.protection import key_id, protected_height, tiers_up_to
from chassis.contracts.streams import LicenceClaims, LicenceRequest
from chassis.contracts.wire import NOT_DECODED, Wire
from chassis.errors import BadRequest, Forbidden, Unprocessable

STREAMING_S = 6 * 3600.0
OFFLINE_S = 30 * 86_400.0
MOST_KEYS = 16
_KEY_SIZE = 16

SessionType = Literal["temporary", "persistent-license"]


class ClearKeyRequest(Wire, frozen=True):
    """`POST /v1/licence`: key ids in base64url without padding."""

    kids: tuple[str, ...]
    type: SessionType = "temporary"


class ClearKey(Wire, frozen=True):
    """A JSON Web Key of type `oct`; `k` and `kid` in base64url without padding."""

    kid: str
    k: str
    kty: Literal["oct"] = "oct"


class ClearKeyLicence(Wire, frozen=True):
    keys: tuple[ClearKey, ...]
    type: SessionType = "temporary"


class Terms(Wire, frozen=True):
    """What an outside licence server is told to keep to."""

    key_ids: tuple[str, ...]
    expires_at: float
    offline: bool


def grant(request: LicenceRequest, now: float) -> tuple[LicenceClaims, int]:
    """What the token seals, and the most lines that its keys open."""
    trusted = protected_height(request.drm, request.device.hdcp)
    if trusted == 0:
        raise Unprocessable(
            "this title is protected and the device has no DRM system that we serve",
            code="device_unsupported",
        )
    height = min(trusted, request.max_height)
    expires_at = min(now + (OFFLINE_S if request.offline else STREAMING_S), request.valid_until)
    if expires_at <= now:
        raise Unprocessable("the rights to this title have ended", code="window_ended")
    claims = LicenceClaims(
        account_id=request.account_id,
        play_id=request.play_id,
        title_id=request.title_id,
        device_id=request.device.id,
        key_ids=tuple(key_id(request.title_id, tier) for tier in tiers_up_to(height)),
        system=request.drm.system,
        expires_at=expires_at,
        offline=request.offline,
    )
    return claims, height


def check_holder(claims: LicenceClaims, account_id: str) -> None:
    """`Forbidden` unless the token was made for this account."""
    if claims.account_id != account_id:
        raise Forbidden("this licence token is another account's", code="licence_invalid")


def clear_key_licence(
    claims: LicenceClaims, request: ClearKeyRequest, secret: bytes
) -> ClearKeyLicence:
    """The keys asked for; `Forbidden` when one of them was not granted: then none is given."""
    asked = key_ids_of(request)
    foreign = [kid for kid in asked if kid not in claims.key_ids]
    if foreign:
        raise Forbidden(f"key {foreign[0]} was not granted to this play", code="key_not_granted")
    if request.type == "persistent-license" and not claims.offline:
        raise Forbidden("this play has no offline right", code="not_entitled")
    keys = tuple(_clear_key(secret, kid) for kid in asked)
    return ClearKeyLicence(keys=keys, type=request.type)


def key_ids_of(request: ClearKeyRequest) -> Sequence[str]:
    """The key ids of a Clear Key request in hex; `BadRequest` when they are none."""
    if not 1 <= len(request.kids) <= MOST_KEYS:
        raise BadRequest(f"kids must hold 1 to {MOST_KEYS} key ids")
    return [_from_base64url(kid) for kid in request.kids]


def content_key(secret: bytes, kid: str) -> bytes:
    """The AES-128 key of a key id; the same for ever under the same secret."""
    return hmac.digest(secret, bytes.fromhex(kid), "sha256")[:_KEY_SIZE]


def _clear_key(secret: bytes, kid: str) -> ClearKey:
    return ClearKey(kid=_base64url(bytes.fromhex(kid)), k=_base64url(content_key(secret, kid)))


def _base64url(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _from_base64url(text: str) -> str:
    try:
        raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raw = b""
    if len(raw) != _KEY_SIZE or "=" in text:
        raise BadRequest("each of kids must be 16 bytes in base64url without padding")
    return raw.hex()


def decode_clear_key(body: bytes) -> ClearKeyRequest:
    """The request; `BadRequest` says what is wrong with it."""
    try:
        return msgspec.json.decode(body, type=ClearKeyRequest)
    except NOT_DECODED as fault:
        example = '{"kids":["…"],"type":"temporary"}'
        raise BadRequest(f"the body is no Clear Key request such as {example}: {fault}") from None
