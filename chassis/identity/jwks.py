"""The issuer's public keys: fetched when needed, kept while the issuer is away.

A key is used only if it is sound: a known type and curve, RSA of at least 2048 bits, meant for
verifying, its id unique. The algorithm follows from the key, never from the token.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from joserfc.errors import JoseError
from joserfc.jwk import JWKRegistry, Key

from chassis.clock import Clock
from chassis.errors import StoreUnavailable, Unauthenticated

Fetch = Callable[[], Awaitable[bytes]]

_ALGORITHMS: Mapping[tuple[str, str | None], tuple[str, ...]] = {
    ("RSA", None): ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"),
    ("EC", "P-256"): ("ES256",),
    ("EC", "P-384"): ("ES384",),
    ("OKP", "Ed25519"): ("EdDSA", "Ed25519"),
}
_MINIMUM_RSA_BITS = 2048


class VerificationKey:
    """One sound public key and the algorithms it may verify."""

    __slots__ = ("algorithms", "key")

    def __init__(self, key: Key, algorithms: tuple[str, ...]) -> None:
        self.key = key
        self.algorithms = algorithms


def parse(document: bytes) -> dict[str, VerificationKey]:
    """The sound keys of a JWKS document by key id; unsound ones are left out."""
    listed = json.loads(document)["keys"]
    counts = Counter(entry.get("kid") for entry in listed)
    keys: dict[str, VerificationKey] = {}
    for entry in listed:
        key_id = entry.get("kid")
        if isinstance(key_id, str) and counts[key_id] == 1 and (key := _sound(entry)) is not None:
            keys[key_id] = key
    return keys


def _sound(entry: Mapping[str, Any]) -> VerificationKey | None:
    algorithms = _ALGORITHMS.get((entry.get("kty", ""), entry.get("crv")))
    if algorithms is None or entry.get("use", "sig") != "sig":
        return None
    if "verify" not in entry.get("key_ops", ["verify"]):
        return None
    if entry["kty"] == "RSA" and len(str(entry.get("n", ""))) * 6 < _MINIMUM_RSA_BITS:
        return None
    named = entry.get("alg")
    if named is not None:
        algorithms = tuple(name for name in algorithms if name == named)
    try:
        return VerificationKey(JWKRegistry.import_key(dict(entry)), algorithms)
    except (JoseError, ValueError):
        return None


class Jwks:
    """Keys by id. Refetches once for an unknown id, at most once a second, for all who ask.

    Keys are `fresh_s` old before they are looked up again; only whoever comes first waits for that.
    While the issuer is away they serve until they are `stale_s` old.
    """

    def __init__(
        self,
        fetch: Fetch,
        clock: Clock,
        *,
        fresh_s: float = 300.0,
        stale_s: float = 86_400.0,
        pause_s: float = 1.0,
    ) -> None:
        self._fetch = fetch
        self._clock = clock
        self.fresh_s = fresh_s
        self._stale_s = stale_s
        self._pause_s = pause_s
        self._keys: dict[str, VerificationKey] = {}
        self._fetched_at = float("-inf")
        self._tried_at = float("-inf")
        self._lock = asyncio.Lock()

    def __repr__(self) -> str:
        return f"Jwks(keys={sorted(self._keys)}, fresh={self._is_fresh()})"

    async def key(self, key_id: str) -> VerificationKey:
        """The key; `Unauthenticated` when the issuer has none, `StoreUnavailable` when it is away
        and the id is not among the keys we still hold."""
        key = self._keys.get(key_id)
        if key is not None and (self._is_fresh() or self._is_being_fetched()):
            return key
        reachable = await self._refresh()
        key = self._keys.get(key_id) if self._is_usable() else None
        if key is not None:
            return key
        if not reachable:
            raise StoreUnavailable("the token issuer's keys cannot be fetched now", code="jwks")
        raise Unauthenticated(f"the issuer has no key {key_id[:64]!r}")

    async def _refresh(self) -> bool:
        """Whether the issuer answered, this time or within the last pause."""
        async with self._lock:
            now = self._clock.monotonic()
            if now - self._tried_at < self._pause_s:
                return self._fetched_at >= self._tried_at
            self._tried_at = now
            try:
                self._keys = parse(await self._fetch())
            except Exception:  # whatever the fetch or the document does, the held keys stay
                self._tried_at = self._clock.monotonic()
                return False
            self._tried_at = self._fetched_at = self._clock.monotonic()
            return True

    def _is_being_fetched(self) -> bool:
        return self._lock.locked() and self._is_usable()

    def _is_fresh(self) -> bool:
        return self._clock.monotonic() - self._fetched_at < self.fresh_s

    def _is_usable(self) -> bool:
        return self._clock.monotonic() - self._fetched_at < self._stale_s
