"""What a gateway process can be told."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import msgspec

from chassis.errors import ConfigurationFault
from gateway.edge.limits import Limits
from gateway.edge.listen import Listen, listens, place
from gateway.edge.peer import NOBODY, trust_of

T = TypeVar("T")


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Read from `STAGEDOOR_…`, or made by the command line. Port 0 takes a free one.

    Without `registry` only clusters of static instances can serve; without a keyring no passport
    is minted. `listen` is one place or several with blanks between, as `gateway.edge.listen` has
    it; `reuse_port` lets several workers share its ports. `trusted_proxies` (CIDRs, or `unix`) and
    `trusted_hops` say whose forwarding fields are believed. With `cache` they share the rate
    limits too; without it each worker has them whole.

    `sockets` are bound ones that the process has inherited, `host:port=DESCRIPTOR` with blanks
    between; a listener at such a place takes that one.

    A drain closes connections that have been idle for `quiet_s`, waits `drain_s` for requests under
    way, and then ends streams over `spread_s`.
    """

    rules: Path
    listen: str = "127.0.0.1:8080"
    admin: str = "127.0.0.1:0"
    home: Path = Path("var")
    instance: str = ""
    registry: str = ""
    cache: str = ""
    keyring: Path | None = None
    reuse_port: bool = False
    sockets: str = ""
    trusted_proxies: tuple[str, ...] = ()
    trusted_hops: int = 0
    in_flight: int = 10_000
    log_successes: float = 1.0
    registry_ttl_s: float = 3.0
    discovery_interval_s: float = 0.3
    quiet_s: float = 0.5
    drain_s: float = 5.0
    spread_s: float = 2.0
    limits: Limits = Limits()

    @property
    def root(self) -> Path:
        return self.home.absolute()

    def listens(self) -> tuple[Listen, ...]:
        """What `listen` says; `ConfigurationFault` names every fault, of other addresses too."""
        faults: list[str] = []
        trust = _noting(faults, lambda: trust_of(self.trusted_proxies, self.trusted_hops))
        _noting(faults, lambda: address(self.admin, "the admin address"))
        found = _noting(faults, lambda: listens(self.listen, self.limits, trust or NOBODY))
        if faults or found is None:
            raise ConfigurationFault(faults, what="the settings")
        return found

    def held(self) -> dict[str, int]:
        """The descriptors of `sockets` by their place."""
        found: dict[str, int] = {}
        for one in self.sockets.split():
            place, equals, descriptor = one.rpartition("=")
            if not equals or not descriptor.isdigit():
                raise ConfigurationFault(
                    [f"sockets {one!r}: write host:port=DESCRIPTOR"], what="the settings"
                )
            found[place] = int(descriptor)
        return found


def address(text: str, what: str) -> tuple[str, int]:
    """The host and port of `host:port`; `ConfigurationFault` says how to write one."""
    try:
        return place(text)
    except ValueError as fault:
        raise ConfigurationFault([f"{what} {text!r}: {fault}"], what="the settings") from None


def _noting(faults: list[str], read: Callable[[], T]) -> T | None:
    """What `read` gives, or None and its faults among the others."""
    try:
        return read()
    except ConfigurationFault as fault:
        faults += fault.faults
        return None
