"""The passport: what the token said, sealed for the inside."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from chassis.clock import Clock
from chassis.identity import (
    PASSPORT_HEADER,
    Claims,
    Keyring,
    Passport,
    PassportSigner,
    Seal,
)
from gateway.filters.chain import Filter

if TYPE_CHECKING:
    from gateway.exchange import Exchange

_KEPT = 20_000


def signer(keyring: Path | None, home: Path, clock: Clock) -> PassportSigner | None:
    """The signer of passports: from the keyring named, or from the home's, where there is one."""
    file = keyring or home / "keys" / "inside.json"
    if keyring is None and not file.exists():
        return None
    return PassportSigner(Seal(Keyring.load(file), clock))


def passport_of(claims: Claims) -> Passport:
    """What services may rely on, of a verified token's claims."""
    values = claims.values
    maturity = values.get("maturity")
    return Passport(
        account_id=claims.subject,
        device_id=_text(values, "device_id") or "",
        profile_id=_text(values, "profile_id"),
        plan=_text(values, "plan"),
        country=_text(values, "country"),
        maturity=maturity if isinstance(maturity, int) else None,
        scopes=claims.scopes,
        auth=_text(values, "amr") or "password",
        token_id=_text(values, "jti") or "",
    )


def _text(values: Any, name: str) -> str | None:
    value = values.get(name)
    return value if isinstance(value, str) else None


class MintPassport(Filter):
    """Adds the passport of whoever was authenticated.

    One passport serves a caller for half of its life, so every one that leaves has at least the
    other half to live; the minted ones are keyed by the cached claims they were minted from.
    """

    name = "passport"
    order = -600

    def __init__(self, signer: PassportSigner, clock: Clock) -> None:
        self._signer = signer
        self._clock = clock
        self._minted: dict[int, tuple[Claims, float, bytes]] = {}

    def apply(self, exchange: Exchange) -> None:
        claims = exchange.caller
        if claims is not None:
            exchange.headers.append((PASSPORT_HEADER, self._passport(claims)))

    def _passport(self, claims: Claims) -> bytes:
        now = self._clock.monotonic()
        known = self._minted.get(id(claims))
        if known is not None and known[0] is claims and now < known[1]:
            return known[2]
        if len(self._minted) >= _KEPT:
            self._minted.clear()
        value = self._signer.mint(passport_of(claims))
        self._minted[id(claims)] = (claims, now + self._signer.ttl_s / 2, value)
        return value
