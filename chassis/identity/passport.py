"""The passport: who is asking, resolved once at the edge and believed everywhere inside.

At most 60 seconds old, sealed for one audience, minted by the gateway only and stripped from
whatever comes from outside. Services verify nothing else.
"""

from __future__ import annotations

import msgspec

from chassis.clock import Clock
from chassis.errors import ConfigurationFault, Forbidden, Unauthenticated
from chassis.identity.seal import Seal

PASSPORT_HEADER = b"x-passport"
MAXIMUM_TTL_S = 60.0
_CACHE_LIMIT = 10_000


class Passport(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The claims that services may rely on. `maturity` and `plan` are hints from the token."""

    account_id: str
    device_id: str = ""
    profile_id: str | None = None
    plan: str | None = None
    country: str | None = None
    maturity: int | None = None
    scopes: tuple[str, ...] = ()
    auth: str = "password"
    token_id: str = ""

    @property
    def profile(self) -> str:
        """The profile that is asking; `Forbidden` when the token is for none."""
        if not self.profile_id:
            raise Forbidden("the token is for no profile", code="profile_missing")
        return self.profile_id


class PassportSigner:
    """Mints passports; the gateway holds the only one."""

    def __init__(self, seal: Seal, *, audience: str = "inside", ttl_s: float = 60.0) -> None:
        if not 0 < ttl_s <= MAXIMUM_TTL_S:
            raise ConfigurationFault([f"a passport lives at most {MAXIMUM_TTL_S:.0f} s"])
        self._seal = seal
        self._purpose = f"passport:{audience}"
        self.ttl_s = ttl_s

    def mint(self, passport: Passport) -> bytes:
        return self._seal.seal(self._purpose, passport, ttl_s=self.ttl_s).encode()


class PassportVerifier:
    """Opens passports; remembers each for a second, in which a caller shows it many times."""

    def __init__(self, seal: Seal, clock: Clock, *, audience: str = "inside") -> None:
        self._seal = seal
        self._clock = clock
        self._purpose = f"passport:{audience}"
        self._opened: dict[bytes, tuple[float, Passport]] = {}

    def verify(self, value: bytes) -> Passport:
        """The passport; `Unauthenticated` when it is missing, forged, expired or not for us."""
        known = self._opened.get(value)
        now = self._clock.monotonic()
        if known is not None and now < known[0]:
            return known[1]
        if not value:
            raise Unauthenticated("no passport: ask through the gateway", code="passport_missing")
        passport = self._seal.open(self._purpose, value.decode("latin-1"), Passport)
        if len(self._opened) >= _CACHE_LIMIT:
            self._opened.clear()
        self._opened[value] = (now + 1.0, passport)
        return passport
