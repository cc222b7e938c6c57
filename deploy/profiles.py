"""Profiles: what a system stands on where no URL says otherwise."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import structs

from chassis.errors import ConfigurationFault
from deploy.apart import apart
from deploy.backing import Backing

if TYPE_CHECKING:
    from deploy.servers import Running

PROFILES = ("embedded", "real")
SERVERS: Mapping[str, tuple[str, ...]] = {
    "consul": ("registry",),
    "kafka": ("log",),
    "cassandra": ("tables", "views"),
    "s3": ("objects",),
    "redis": ("cache",),
}
"""Which backing services each real server stands for."""


def of_profile(profile: str, given: Backing, home: Path, say: Callable[[str], None]) -> Backing:
    """`given`, completed by the profile; `real` starts the servers that it needs and that do not
    run yet, and has a prefix of its own on a Consul that others may use too."""
    if profile not in PROFILES:
        raise ConfigurationFault([f"{profile!r}: write {' or '.join(PROFILES)}"], what="--profile")
    if profile == "embedded":
        return given
    needed = [
        name for name, used in SERVERS.items() if not all(getattr(given, one) for one in used)
    ]
    shared = structs.replace(given, registry=apart(given.registry, home))
    return shared.over(backing_of(_started(needed, home, say)))


def backing_of(running: Mapping[str, Running]) -> Backing:
    """What servers that run are to a system."""
    urls = {one: server.url for name, server in running.items() for one in SERVERS[name]}
    secrets = {key: value for one in running.values() for key, value in one.environ.items()}
    return Backing(**urls, secrets=secrets)


def _started(names: list[str], home: Path, say: Callable[[str], None]) -> Mapping[str, Running]:
    """Started in a process of its own, as whoever is going to fork must have started no thread."""
    if not names:
        return {}
    from deploy.servers import Servers, default_cache

    say(f"servers: {', '.join(names)} (they stay when this ends: `stagedoor servers down`)")
    command = [sys.executable, "-m", "deploy.cli", "servers", "up", *names]
    environ = {**os.environ, "STAGEDOOR_HOME": str(home)}
    if status := _status(command, environ):
        raise SystemExit(status if status > 0 else 1)  # it has said why
    return Servers(home, default_cache(os.environ)).running(names)


def _status(command: list[str], environ: Mapping[str, str]) -> int:
    """Runs a command to its end; Ctrl-C and SIGTERM reach it once, and it has the time to undo
    what it began before they end this process too."""
    with subprocess.Popen(
        command, env=environ, stdout=subprocess.DEVNULL, start_new_session=True
    ) as child:
        before = signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
        try:
            return child.wait()
        except (KeyboardInterrupt, SystemExit) as told:
            child.send_signal(
                signal.SIGINT if isinstance(told, KeyboardInterrupt) else signal.SIGTERM
            )
            child.wait()
            raise
        finally:
            signal.signal(signal.SIGTERM, before)
