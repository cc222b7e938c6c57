"""Servers that Debian packages: found on the PATH, installed by apt when we may."""

from __future__ import annotations

import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from chassis.clock import Clock
from deploy.servers import tools
from deploy.servers.installed import Installed, InstallFailed


@dataclass(frozen=True, slots=True)
class DebianPackage:
    """`version_flag` makes the program print its version."""

    name: str
    package: str
    program: str
    version_flag: str = "--version"

    def find(self, cache: Path) -> Installed | None:
        path = shutil.which(self.program)
        return Installed(self._version(path), Path(path)) if path else None

    async def install(self, cache: Path, clock: Clock, tell: tools.Tell) -> Installed:
        if found := self.find(cache):
            return found
        apt = shutil.which("apt-get")
        if apt is None or os.geteuid() != 0:
            why = "this is no Debian" if apt is None else "only root may"
            raise InstallFailed(
                f"{self.name}: `{self.program}` is not on the PATH and {why}: install it yourself"
                f" (on Debian: sudo apt-get install {self.package})"
            )
        what = f"installing {self.name}"
        # Otherwise the package starts a server of its own.
        environ = {"RUNLEVEL": "1", "DEBIAN_FRONTEND": "noninteractive"}
        wait = "-oDPkg::Lock::Timeout=120"
        await tools.run([apt, wait, "update", "-qq"], tell, what=what, environ=environ)
        command = [apt, wait, "install", "-y", "-qq", "--no-install-recommends", self.package]
        await tools.run(command, tell, what=what, environ=environ)
        if found := self.find(cache):
            return found
        raise InstallFailed(f"{self.package} is installed, but `{self.program}` is not on the PATH")

    def _version(self, path: str) -> str:
        found = re.search(r"\d+\.\d+(\.\d+)?", tools.asked(path, self.version_flag))
        return found.group() if found else "?"
