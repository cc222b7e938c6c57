"""Tokens from outside: JWTs verified by the issuer's keys; verified ones are kept for a while."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Mapping
from typing import Any

import msgspec
from joserfc import jws
from joserfc.errors import JoseError
from joserfc.jws import JWSRegistry

from chassis.clock import Clock
from chassis.errors import Unauthenticated
from chassis.identity.jwks import Jwks, VerificationKey

MAXIMUM_TOKEN = 8192
_HEADER_FIELDS = {"alg", "typ", "kid", "cty"}


class TokenPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """What a token must say. `leeway_s` forgives clocks that differ."""

    issuer: str
    audience: str
    algorithms: tuple[str, ...] = ("ES256", "ES384", "RS256", "PS256", "EdDSA")
    types: tuple[str, ...] = ("JWT", "at+jwt")
    leeway_s: float = 30.0


class Claims(msgspec.Struct, frozen=True):
    """A verified token: its subject, its expiry (UNIX seconds) and all its claims."""

    subject: str
    expires_at: float
    values: Mapping[str, Any]

    @property
    def scopes(self) -> tuple[str, ...]:
        return tuple(str(self.values.get("scope", "")).split())


class TokenVerifier:
    """Verifies tokens against one policy. Cached answers cost one digest and one look-up.

    They hold until the token expires, but no longer than a key is fresh, so that a key that its
    issuer has removed stops for the tokens that it has signed as well.
    """

    def __init__(
        self, policy: TokenPolicy, jwks: Jwks, clock: Clock, *, cache_limit: int = 50_000
    ) -> None:
        self.policy = policy
        self._jwks = jwks
        self._clock = clock
        self._cache: dict[bytes, tuple[Claims, float]] = {}
        self._cache_limit = cache_limit

    def verify_cached(self, token: bytes) -> Claims | None:
        """The claims of a token verified not long ago and not expired since; None: ask `verify`."""
        found = self._cache.get(_digest(token))
        if found is None or self._clock.now() >= found[1]:
            return None
        return found[0]

    async def verify(self, token: bytes) -> Claims:
        """The claims; `Unauthenticated` says what is wrong, `StoreUnavailable` that the issuer's
        keys cannot be had."""
        header = _header(token)
        key = await self._jwks.key(header["kid"])
        claims = self._check(token, header, key)
        now = self._clock.now()
        if len(self._cache) >= self._cache_limit:
            self._evict(now)
        until = min(claims.expires_at + self.policy.leeway_s, now + self._jwks.fresh_s)
        self._cache[_digest(token)] = (claims, until)
        return claims

    def _check(self, token: bytes, header: Mapping[str, Any], key: VerificationKey) -> Claims:
        algorithm = header["alg"]
        if algorithm not in key.algorithms or algorithm not in self.policy.algorithms:
            raise Unauthenticated(f"the token's algorithm {algorithm[:16]!r} is not the key's")
        if header.get("typ", "JWT").removeprefix("application/") not in self.policy.types:
            raise Unauthenticated("the token is not an access token (typ)")
        try:
            signed = jws.deserialize_compact(token, key.key, registry=_registry(algorithm))
            values = json.loads(signed.payload)
        except (JoseError, ValueError):
            raise Unauthenticated("the token's signature does not verify") from None
        return judge(values, self.policy, self._clock.now())

    def _evict(self, now: float) -> None:
        self._cache = {digest: kept for digest, kept in self._cache.items() if kept[1] > now}
        if len(self._cache) >= self._cache_limit:
            self._cache.clear()


def _registry(algorithm: str) -> JWSRegistry:
    """Allows one algorithm. `EdDSA` is what issuers still say for Ed25519 (RFC 9864 renames it)."""
    registry = JWSRegistry(algorithms=[algorithm])
    known = registry.algorithms
    if algorithm == "EdDSA" and known["EdDSA"].security_warning:
        quiet = copy.copy(known["EdDSA"])
        quiet.security_warning = None
        registry.algorithms = {**known, "EdDSA": quiet}
    return registry


def judge(values: Any, policy: TokenPolicy, now: float) -> Claims:
    """Checks the registered claims (RFC 7519 section 4.1) of a token whose signature verified."""
    if not isinstance(values, dict):
        raise Unauthenticated("the token's claims are not an object")
    expires = _instant(values, "exp", required=True)
    if now >= expires + policy.leeway_s:
        raise Unauthenticated("the token has expired", code="token_expired")
    if _instant(values, "nbf") > now + policy.leeway_s:
        raise Unauthenticated("the token is not valid yet")
    if _instant(values, "iat") > now + policy.leeway_s:
        raise Unauthenticated("the token was issued in the future")
    if values.get("iss") != policy.issuer:
        raise Unauthenticated("the token's issuer is not the one we trust")
    audience = values.get("aud")
    if policy.audience not in (audience if isinstance(audience, list) else [audience]):
        raise Unauthenticated("the token is for another audience")
    subject = values.get("sub")
    if not isinstance(subject, str) or not subject:
        raise Unauthenticated("the token names no subject")
    return Claims(subject=subject, expires_at=expires, values=values)


def _instant(values: Mapping[str, Any], name: str, *, required: bool = False) -> float:
    value = values.get(name)
    if value is None and not required:
        return 0.0
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise Unauthenticated(f"the token's {name} is not a number")
    return float(value)


def _header(token: bytes) -> Mapping[str, Any]:
    if len(token) > MAXIMUM_TOKEN:
        raise Unauthenticated(f"the token is longer than {MAXIMUM_TOKEN} bytes")
    if token.count(b".") != 2 or not _strict(token):
        raise Unauthenticated("the token is not three base64url parts")
    try:
        header = jws.extract_compact(token).protected
    except (JoseError, ValueError):
        raise Unauthenticated("the token's header is not JSON") from None
    if not isinstance(header, dict) or not isinstance(header.get("alg"), str):
        raise Unauthenticated("the token names no algorithm")
    if not isinstance(header.get("kid"), str) or not isinstance(header.get("typ", ""), str):
        raise Unauthenticated("the token names no key")
    if header.keys() - _HEADER_FIELDS:
        raise Unauthenticated("the token's header has fields that we do not accept")
    return header


_ALPHABET = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.")


def _strict(token: bytes) -> bool:
    return _ALPHABET.issuperset(token) and all(len(part) % 4 != 1 for part in token.split(b"."))


def _digest(token: bytes) -> bytes:
    return hashlib.blake2b(token, digest_size=16).digest()
