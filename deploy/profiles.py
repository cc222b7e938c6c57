"""Profiles: what a system stands on where no URL says otherwise."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from chassis.errors import ConfigurationFault
from deploy.backing import Backing

PROFILES = ("embedded", "real")


def of_profile(profile: str, given: Backing, home: Path, say: Callable[[str], None]) -> Backing:
    """`given`, completed by the profile; `real` starts the servers that are not running yet."""
    if profile not in PROFILES:
        raise ConfigurationFault([f"{profile!r}: write {' or '.join(PROFILES)}"], what="--profile")
    return given if profile == "embedded" else given.over(_of_servers(home, say))


def _of_servers(home: Path, say: Callable[[str], None]) -> Backing:
    raise ConfigurationFault(["not built yet"], what="--profile")
