"""Sealed values: typed, expiring, bound to one purpose, by HMAC-SHA256 under a named key.

Everything that our own services hand out and later want back unchanged is sealed: the passport,
the membership snapshot, manifest and licence tokens. A seal proves origin, not secrecy: the value
is readable by whoever holds it.

Form: `<key id>.<base64url JSON [expires, value]>.<base64url MAC>`. The MAC's key is derived from
the named key and the purpose, so a value sealed for one purpose never opens for another.
"""

from __future__ import annotations

import binascii
import hashlib
import hmac
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from chassis.clock import Clock
from chassis.errors import ConfigurationFault, Unauthenticated

T = TypeVar("T")

MINIMUM_SECRET = 32
_BLOCK = 64
_TO_URL = bytes.maketrans(b"+/", b"-_")
_FROM_URL = bytes.maketrans(b"-_", b"+/")


class Keyring(msgspec.Struct, frozen=True):
    """Secrets by key id (hex); new values are sealed with `active`, older keys still open."""

    active: str
    secrets: dict[str, str]

    def __post_init__(self) -> None:
        if self.active not in self.secrets:
            raise ValueError(f"the active key {self.active!r} is not among the secrets")
        if any(len(bytes.fromhex(secret)) < MINIMUM_SECRET for secret in self.secrets.values()):
            raise ValueError(f"every secret must be at least {MINIMUM_SECRET} bytes of hex")

    def __repr__(self) -> str:
        return f"Keyring(active={self.active!r}, keys={sorted(self.secrets)})"

    @classmethod
    def fresh(cls, clock: Clock) -> Keyring:
        key_id = clock.entropy(4).hex()
        return cls(active=key_id, secrets={key_id: clock.entropy(MINIMUM_SECRET).hex()})

    @classmethod
    def load(cls, file: Path) -> Keyring:
        try:
            return msgspec.json.decode(file.read_bytes(), type=cls)
        except (OSError, ValueError) as fault:
            message = (
                f"{file}: not a readable keyring ({fault}): bring it back, or move it away and"
                " `stagedoor prepare` makes a new one, which ends what is signed with the old"
            )
            raise ConfigurationFault([message], what="the keyring") from None


class Seal:
    """Seals and opens values. One per process; opening costs one HMAC."""

    def __init__(self, keyring: Keyring, clock: Clock) -> None:
        self._clock = clock
        self._active = keyring.active
        self._secrets: Mapping[str, bytes] = {
            key_id: bytes.fromhex(secret) for key_id, secret in keyring.secrets.items()
        }
        self._macs: dict[tuple[str, str], _Mac] = {}
        self._decoders: dict[type, msgspec.json.Decoder[Any]] = {}

    def seal(self, purpose: str, value: msgspec.Struct, *, ttl_s: float) -> str:
        """A token that opens as `value` for `ttl_s` seconds, for this purpose only."""
        payload = msgspec.json.encode((self._clock.now() + ttl_s, value))
        body = f"{self._active}.{_encode(payload)}"
        return f"{body}.{_encode(self._mac(purpose, self._active, body))}"

    def open(self, purpose: str, token: str, type_: type[T], *, grace_s: float = 0.0) -> T:
        """The sealed value; `Unauthenticated` when it is not ours, altered, or expired.

        `grace_s` still opens a value that expired less than so long ago.
        """
        key_id, _, rest = token.partition(".")
        encoded, _, mac = rest.partition(".")
        if key_id not in self._secrets or not mac:
            raise Unauthenticated(f"the {purpose} value was not sealed by a key we hold")
        expected = self._mac(purpose, key_id, f"{key_id}.{encoded}")
        if not hmac.compare_digest(_decode(mac), expected):
            raise Unauthenticated(f"the {purpose} value was altered or sealed for another purpose")
        expires, value = self._decoder(type_).decode(_decode(encoded))
        if self._clock.now() >= expires + grace_s:
            raise Unauthenticated(f"the {purpose} value has expired", code="expired")
        return value

    def _decoder(self, type_: type[T]) -> msgspec.json.Decoder[tuple[float, T]]:
        decoder = self._decoders.get(type_)
        if decoder is None:
            decoder = self._decoders[type_] = msgspec.json.Decoder(tuple[float, type_])  # type: ignore[valid-type]
        return decoder

    def _mac(self, purpose: str, key_id: str, body: str) -> bytes:
        mac = self._macs.get((purpose, key_id))
        if mac is None:
            derived = hmac.digest(self._secrets[key_id], purpose.encode(), "sha256")
            mac = self._macs[purpose, key_id] = _Mac(derived)
        return mac.digest(body.encode())


class _Mac:
    """HMAC-SHA256 under one key (RFC 2104), whose two padded keys were hashed in advance: OpenSSL
    looks its algorithms up anew for each `hmac.digest`, which costs five times the hashing."""

    __slots__ = ("_inner", "_outer")

    def __init__(self, key: bytes) -> None:
        padded = key.ljust(_BLOCK, b"\0")
        self._inner = hashlib.sha256(bytes(byte ^ 0x36 for byte in padded))
        self._outer = hashlib.sha256(bytes(byte ^ 0x5C for byte in padded))

    def digest(self, text: bytes) -> bytes:
        inner, outer = self._inner.copy(), self._outer.copy()
        inner.update(text)
        outer.update(inner.digest())
        return outer.digest()


def _encode(raw: bytes) -> str:
    return binascii.b2a_base64(raw, newline=False).translate(_TO_URL).rstrip(b"=").decode()


def _decode(text: str) -> bytes:
    try:
        padded = text.encode().translate(_FROM_URL) + b"=" * (-len(text) % 4)
        return binascii.a2b_base64(padded, strict_mode=True)
    except (binascii.Error, ValueError):
        raise Unauthenticated("a sealed value is not base64url") from None
