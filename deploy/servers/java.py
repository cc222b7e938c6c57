"""Finds a Java that a server runs on."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
from pathlib import Path

from deploy.servers.tools import ToolFailed, asked

Versions = range
"""Which major versions will do."""


def options(temporary: Path) -> tuple[str, ...]:
    """Keeps what Java and its native libraries unpack out of /tmp, where a process that is killed
    would leave it for ever."""
    return (
        *(f"-Djava.io.tmpdir={temporary}", f"-Djna.tmpdir={temporary}"),
        "-XX:+PerfDisableSharedMem",
    )


async def find(server: str, versions: Versions) -> str:
    """The `java` of JAVA_HOME, else of the PATH; `ToolFailed` when there is none that will do."""
    home = os.environ.get("JAVA_HOME")
    java = str(Path(home) / "bin" / "java") if home else shutil.which("java")
    if java is None or not Path(java).is_file():
        raise ToolFailed(f"{server} needs Java {said(versions)} and there is none: {_ADVICE}")
    told = await asyncio.to_thread(asked, java, "-version")
    found = major(told)
    if not found:
        raise ToolFailed(f"{java} tells no version, but: {' '.join(told.split()) or 'nothing'}")
    if found not in versions:
        raise ToolFailed(f"{server} needs Java {said(versions)} and {java} is {found}: {_ADVICE}")
    return java


def major(text: str) -> int:
    """The major version in what `java -version` prints; 0 when there is none in it."""
    found = re.search(r'version "(?:1\.)?(\d+)', text)
    return int(found.group(1)) if found else 0


def said(versions: Versions) -> str:
    if len(versions) > 50:
        return f"{versions.start} or newer"
    return f"{versions.start} to {versions.stop - 1}"


_ADVICE = (
    "install it (on Debian: apt-get install openjdk-17-jre-headless) or set JAVA_HOME to where"
    " it is"
)
