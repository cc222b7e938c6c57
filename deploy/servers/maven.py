"""Servers whose jars come from Maven Central: one folder of jars, each with a pinned checksum."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from chassis.clock import Clock
from deploy.servers import checksums, java, tools
from deploy.servers.installed import Installed, InstallFailed, install_once

NEEDS_FREE = 400 << 20


@dataclass(frozen=True, slots=True)
class MavenJars:
    """`data` holds pom.xml and sha256; `java_versions` are those the server runs on."""

    name: str
    version: str
    data: Path
    java_versions: java.Versions

    def find(self, cache: Path) -> Installed | None:
        jars = self._folder(cache)
        return Installed(self.version, jars) if jars.is_dir() else None

    async def install(self, cache: Path, clock: Clock, tell: tools.Tell) -> Installed:
        folder = self._folder(cache)
        if not folder.is_dir():
            await java.find(self.name, self.java_versions)
            maven = tools.require("mvn", why=f"installing {self.name}", package="maven")

            async def fill(part: Path) -> None:
                await self._fetch(maven, part, tell)

            await install_once(folder, clock, NEEDS_FREE, fill)
        return Installed(self.version, folder)

    async def _fetch(self, maven: str, part: Path, tell: tools.Tell) -> None:
        build, jars = part / "build", part / "jars"
        build.mkdir()
        shutil.copy(self.data / "pom.xml", build)
        command: list[str | Path] = [
            maven,
            "-B",
            "-f",
            build / "pom.xml",
            f"-DoutputDirectory={jars}",
        ]
        command += ["-DincludeScope=runtime", "dependency:copy-dependencies"]
        await tools.run(command, tell, what=f"installing {self.name}", cwd=build)
        self._check(jars)
        shutil.rmtree(build)
        for jar in jars.iterdir():
            jar.rename(part / jar.name)
        jars.rmdir()

    def _check(self, jars: Path) -> None:
        pinned = checksums.read((self.data / "sha256").read_text(encoding="utf-8"))
        if found := checksums.faults(pinned, checksums.of_folder(jars)):
            lines = "".join(f"\n  - {fault}" for fault in found)
            raise InstallFailed(
                f"{self.name} {self.version} is not what was pinned:{lines}\n  remove these files"
                " from Maven's local repository (~/.m2) and try again; if that does not help, the"
                " package host serves something else"
            )

    def _folder(self, cache: Path) -> Path:
        return cache / f"{self.name}-{self.version}"
