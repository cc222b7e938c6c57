"""The ring of signing keys: which one signs now, and which ones must be published.

The next key is published a whole period before it signs, so that no verifier ever meets a key
that it could not have fetched; the former one stays published until all its tokens have expired.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any, ClassVar

import msgspec
from joserfc import jwt
from joserfc.jwk import ECKey

from chassis.contracts.keys import Key

ALGORITHM = "ES256"
PERIOD_S = 30 * 86_400.0
KEEP_S = 3_600.0


class StoredKey(msgspec.Struct, frozen=True):
    """A private key (PEM, PKCS 8) that signs from `active_from` until the next one does."""

    key_id: str
    pem: str
    active_from: float

    def __repr__(self) -> str:
        return f"StoredKey({self.key_id}, active_from={self.active_from:.0f})"


class KeyRing(msgspec.Struct, frozen=True):
    """All keys, in the order of their use. There is one ring."""

    key: ClassVar[Key] = Key("key_ring", ("name",))

    name: str = "signing"
    keys: tuple[StoredKey, ...] = ()


def turn(ring: KeyRing, now: float, fresh: Callable[[float], StoredKey]) -> KeyRing:
    """The ring as it should be now: one key that signs, one to follow, none that is done."""
    keys = ring.keys or (fresh(now),)
    if keys[-1].active_from <= now:
        keys = (*keys, fresh(now + PERIOD_S))
    kept = [key for key, follower in pairwise(keys) if now < follower.active_from + KEEP_S]
    return KeyRing(keys=(*kept, keys[-1]))


def active(ring: KeyRing, now: float) -> StoredKey:
    """The newest key whose time has come."""
    return max(
        (key for key in ring.keys if key.active_from <= now),
        key=lambda key: key.active_from,
        default=ring.keys[0],
    )


def generate(key_id: str, active_from: float) -> StoredKey:
    """A new P-256 key; its randomness is OpenSSL's."""
    pem = ECKey.generate_key("P-256", private=True).as_pem(private=True)
    return StoredKey(key_id, pem.decode(), active_from)


class Signer:
    """Signs with the active key of a ring and publishes all of them."""

    def __init__(self, ring: KeyRing) -> None:
        self.ring = ring
        self._keys = {key.key_id: ECKey.import_key(key.pem) for key in ring.keys}
        self.document = msgspec.json.encode({"keys": [*map(self._public, ring.keys)]})
        """The JWKS document."""

    def __repr__(self) -> str:
        return f"Signer(keys={sorted(self._keys)})"

    def sign(self, claims: dict[str, Any], now: float) -> str:
        """An access token (RFC 9068) with these claims."""
        key_id = active(self.ring, now).key_id
        header = {"alg": ALGORITHM, "typ": "at+jwt", "kid": key_id}
        return jwt.encode(header, claims, self._keys[key_id])

    def _public(self, key: StoredKey) -> dict[str, Any]:
        public = self._keys[key.key_id].as_dict(private=False)
        return {**public, "kid": key.key_id, "use": "sig", "alg": ALGORITHM}
