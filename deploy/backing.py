"""What a system stands on: one URL for each backing service, remembered in its state directory.

An empty URL means the embedded one, under that directory. Commands that look into a store
themselves (`demo`, `catalog ingest`) find it here, so that they see what the processes see.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import msgspec

from chassis import config
from chassis.errors import ConfigurationFault
from chassis.service import ProcessSettings

FILE = Path("run") / "backing.json"
NAMES = ("registry", "log", "tables", "views", "objects", "cache")


class Backing(msgspec.Struct, frozen=True, kw_only=True):
    """`secrets` are variables of the environment that the URLs do not carry, such as S3's keys."""

    registry: str = ""
    log: str = ""
    tables: str = ""
    views: str = ""
    objects: str = ""
    cache: str = ""
    secrets: dict[str, str] = {}

    def over(self, other: Backing) -> Backing:
        """This one, and `other` wherever this one says nothing."""
        urls = {name: getattr(self, name) or getattr(other, name) for name in NAMES}
        return Backing(**urls, secrets={**other.secrets, **self.secrets})

    def environ(self) -> dict[str, str]:
        """As processes read it."""
        urls = {f"STAGEDOOR_{name.upper()}": getattr(self, name) for name in NAMES}
        return {**{name: url for name, url in urls.items() if url}, **self.secrets}

    def __repr__(self) -> str:
        return f"Backing({', '.join(name for name in NAMES if getattr(self, name)) or 'embedded'})"


def remembered(root: Path) -> Backing:
    """What the last system in this state directory stood on."""
    try:
        content = (root / FILE).read_bytes()
    except OSError:
        return Backing()
    try:
        return msgspec.json.decode(content, type=Backing)
    except msgspec.MsgspecError as fault:
        raise ConfigurationFault(
            [f"{root / FILE}: {fault}: remove it; `stagedoor up` writes it anew"],
            what="the backing services",
        ) from None


def settings_of(root: Path) -> ProcessSettings:
    """The settings of a process of that system, and its secrets in this process's environment."""
    backing = remembered(root)
    os.environ.update(backing.secrets)
    return config.load(ProcessSettings, _process(root, backing))


def _process(root: Path, backing: Backing) -> Mapping[str, str]:
    return {**backing.environ(), "STAGEDOOR_HOME": str(root)}
