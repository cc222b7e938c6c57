"""The real servers as local processes: Kafka, Cassandra, Consul, S3, Redis and Prometheus.

`Servers(home, cache)` installs, starts, asks, kills and stops them. They need no containers,
listen on the loopback only, and outlive the command that starts them.

Names are looked up when they are used: the command line imports this package for its help alone.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from deploy.servers.installed import Installed, InstallFailed, NotInstalled, default_cache
    from deploy.servers.kinds import NAMES
    from deploy.servers.running import Process, Running, Status
    from deploy.servers.s3 import make_bucket
    from deploy.servers.servers import Servers
    from deploy.servers.start import StartFailed

_MODULES = {
    "NAMES": "kinds",
    "InstallFailed": "installed",
    "Installed": "installed",
    "NotInstalled": "installed",
    "Process": "running",
    "Running": "running",
    "Servers": "servers",
    "StartFailed": "start",
    "Status": "running",
    "default_cache": "installed",
    "make_bucket": "s3",
}
__all__ = [
    "NAMES",
    "InstallFailed",
    "Installed",
    "NotInstalled",
    "Process",
    "Running",
    "Servers",
    "StartFailed",
    "Status",
    "default_cache",
    "make_bucket",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
