"""Installs servers into one cache folder, and says which are there."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from chassis.clock import Clock
from chassis.errors import StagedoorError
from deploy.servers.installed import Installed, InstallFailed, NotInstalled
from deploy.servers.rehearsing import rehearse
from deploy.servers.server import Server
from deploy.servers.together import together

Progress = Callable[[str, str], None]
"""Told the name of a server and what happens to it."""
Kinds = Mapping[str, Server]


class Installer:
    """Every method takes servers by name."""

    def __init__(self, cache: Path, clock: Clock) -> None:
        self._cache = cache
        self._clock = clock

    def find(self, kinds: Kinds) -> dict[str, Installed | None]:
        return {name: kind.installation.find(self._cache) for name, kind in kinds.items()}

    def require(self, kinds: Kinds) -> dict[str, Installed]:
        """All of them; `NotInstalled` names those that are missing."""
        found = self.find(kinds)
        there = {name: one for name, one in found.items() if one is not None}
        if missing := [name for name in found if name not in there]:
            raise NotInstalled(*missing)
        return there

    async def install(self, kinds: Kinds, tell: Progress) -> dict[str, Installed]:
        """Installs those that are not; `InstallFailed` tells everything that could not be.

        Different ways of installing go at once, servers of one way one after the other.
        """
        ways: dict[type, list[Server]] = {}
        for kind in kinds.values():
            ways.setdefault(type(kind.installation), []).append(kind)
        done: dict[str, Installed] = {}
        failed: list[StagedoorError] = []
        await together(self._one_way(alike, done, failed, tell) for alike in ways.values())
        if failed:
            raise InstallFailed("\n".join(map(str, failed)))
        return {name: done[name] for name in kinds}

    async def _one_way(
        self,
        kinds: list[Server],
        done: dict[str, Installed],
        failed: list[StagedoorError],
        tell: Progress,
    ) -> None:
        for kind in kinds:

            def say(line: str, name: str = kind.name) -> None:
                tell(name, line)

            try:
                found = await kind.installation.install(self._cache, self._clock, say)
                await rehearse(kind, found, self._clock, say)
            except StagedoorError as fault:
                failed.append(fault)
            else:
                done[kind.name] = found
                say(f"{found.version} is installed")
