"""Who asks: the bearer token by the rule's policy, and the scopes it must carry."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import TYPE_CHECKING

from chassis.errors import Forbidden, StoreUnavailable, Unauthenticated
from chassis.identity import TokenVerifier
from chassis.telemetry.metrics import CounterFamily
from gateway.filters.chain import Filter

if TYPE_CHECKING:
    from gateway.exchange import Exchange

_SCHEME = b"bearer "


class Authenticate(Filter):
    """Denies by default. A token that was verified before costs a look-up; any other is awaited."""

    name = "authenticate"
    order = -900

    def __init__(self, verifier: TokenVerifier, results: CounterFamily) -> None:
        self._verifier = verifier
        self._results = results
        self._cached = results.child("cached")

    def apply(self, exchange: Exchange) -> Awaitable[None] | None:
        token = self._token(exchange)
        claims = self._verifier.verify_cached(token)
        if claims is None:
            return self._verify(exchange, token)
        self._cached.n += 1
        exchange.identify(claims)
        return None

    def _token(self, exchange: Exchange) -> bytes:
        """The one bearer token; `Unauthenticated` when there is none, or more than one."""
        found: bytes | None = None
        for name, value in exchange.headers:
            if name == b"authorization":
                if found is not None:
                    raise self._denied("ambiguous", "there is more than one Authorization field")
                found = value
        if found is None or found[:7].lower() != _SCHEME:
            raise self._denied("missing", "a bearer token is needed")
        return found[7:].strip()

    def _denied(self, result: str, detail: str) -> Unauthenticated:
        self._results.child(result).n += 1
        return Unauthenticated(detail)

    async def _verify(self, exchange: Exchange, token: bytes) -> None:
        try:
            claims = await self._verifier.verify(token)
        except Unauthenticated:
            self._results.child("invalid").n += 1
            raise
        except StoreUnavailable:
            self._results.child("unavailable").n += 1
            raise
        self._results.child("verified").n += 1
        exchange.identify(claims)


class RequireScopes(Filter):
    """Every scope that the rule names must be among the token's."""

    name = "scopes"
    order = -800

    def __init__(self, scopes: tuple[str, ...], results: CounterFamily) -> None:
        self._needed = frozenset(scopes)
        self._forbidden = results.child("forbidden")

    def apply(self, exchange: Exchange) -> None:
        caller = exchange.caller
        missing = self._needed.difference(caller.scopes if caller is not None else ())
        if missing:
            self._forbidden.n += 1
            raise Forbidden(
                f"the token lacks the scope {' '.join(sorted(missing))}", code="scope_missing"
            )
