"""What a gateway process can be told."""

from __future__ import annotations

from pathlib import Path

import msgspec

from chassis.errors import ConfigurationFault
from gateway.edge.limits import Limits


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Read from `STAGEDOOR_…`, or made by the command line. Port 0 takes a free one.

    Without `registry` only clusters of static instances can serve; without a keyring no passport
    is minted. `reuse_port` lets several workers share `listen`. With `cache` they share the rate
    limits too; without it each worker has them whole.

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
    trusted_proxies: tuple[str, ...] = ()
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


def address(text: str, what: str) -> tuple[str, int]:
    """The host and port of `host:port`; `ConfigurationFault` says how to write one."""
    host, colon, port = text.rpartition(":")
    if not colon or not host or not port.isdigit() or int(port) > 65_535:
        raise ConfigurationFault(
            [f"{what} {text!r}: write host:port, for example 127.0.0.1:8080"], what="the settings"
        )
    return host.strip("[]"), int(port)
