"""Servers built from Go modules: go.mod and go.sum pin the content of every module."""

from __future__ import annotations

import asyncio
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from chassis.clock import Clock
from deploy.servers import tools
from deploy.servers.installed import Installed, install_once

NEEDS_FREE = 4 << 30


@dataclass(frozen=True, slots=True)
class GoProgram:
    """`data` holds go.mod and go.sum; `package` is what is built, under the server's name."""

    name: str
    version: str
    data: Path
    package: str

    def find(self, cache: Path) -> Installed | None:
        program = self._folder(cache) / self.name
        return Installed(self.version, program) if program.is_file() else None

    async def install(self, cache: Path, clock: Clock, tell: tools.Tell) -> Installed:
        folder = self._folder(cache)
        if not folder.is_dir():
            go = tools.require("go", why=f"installing {self.name}", package="golang")
            await asyncio.to_thread(self._check_go, go)

            async def fill(part: Path) -> None:
                await self._build(go, part, tell)

            await install_once(folder, clock, NEEDS_FREE, fill)
        return Installed(self.version, folder / self.name)

    def _check_go(self, go: str) -> None:
        wanted = _numbers((self.data / "go.mod").read_text(encoding="utf-8"), r"^go (\S+)$")
        found = _numbers(tools.asked(go, "version"), r"\bgo(\d\S*)")
        if found < wanted:
            raise tools.ToolFailed(
                f"installing {self.name} needs Go {_dotted(wanted)} or newer and {go} is"
                f" {_dotted(found) or 'something else'}: install a newer one"
            )

    async def _build(self, go: str, part: Path, tell: tools.Tell) -> None:
        """Two packages at a time: the compiler would otherwise take every core."""
        build = part / "build"
        build.mkdir()
        for name in ("go.mod", "go.sum"):
            shutil.copy(self.data / name, build)
        command = [go, "build", "-p", "2", "-v", "-mod=readonly", "-buildvcs=false", "-trimpath"]
        command += ["-ldflags=-s -w", "-o", str(part / self.name), self.package]
        environ = {"GOTOOLCHAIN": "local", "GOWORK": "off", "GOFLAGS": ""}
        await tools.run(command, tell, what=f"installing {self.name}", cwd=build, environ=environ)
        shutil.rmtree(build)

    def _folder(self, cache: Path) -> Path:
        return cache / f"{self.name}-{self.version}"


def _numbers(text: str, pattern: str) -> tuple[int, ...]:
    found = re.search(pattern, text, re.MULTILINE)
    return tuple(int(part) for part in re.findall(r"\d+", found.group(1))) if found else ()


def _dotted(numbers: tuple[int, ...]) -> str:
    return ".".join(map(str, numbers))
