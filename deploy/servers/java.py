"""Finds a Java that a server runs on, and says how it is run."""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
import shutil
from pathlib import Path
from typing import NamedTuple

from deploy.servers.installed import Installed
from deploy.servers.server import Instance, Setup
from deploy.servers.tools import ToolFailed, asked

Versions = range
"""Which major versions will do."""
EXTRA = "extra.jvm"
"""An argument file of Java's that somebody wrote beside the server's own settings; mostly none."""
KEEPS_CLASSES = 13
"""The first version that writes the classes of one run for the next."""


class Java(NamedTuple):
    """`build` is the same only for the same build of Java; empty where it names none."""

    path: str
    major: int
    build: str


def options(found: Java, setup: Setup, instance: Instance) -> tuple[str, ...]:
    """Those of everything that is run for a server. What Java and its native libraries unpack is
    kept out of /tmp, where a process that is killed would leave it for ever."""
    shared = archive(found, setup.installed)
    use = shared is not None and setup.writes is None and shared.exists()
    return (
        *(f"-Djava.io.tmpdir={instance.temporary}", f"-Djna.tmpdir={instance.temporary}"),
        "-XX:+PerfDisableSharedMem",
        *([f"-XX:SharedArchiveFile={shared}"] if use else []),
    )


def own_options(setup: Setup, instance: Instance) -> tuple[str, ...]:
    """Those of the server itself, in front of its class."""
    return (
        *([f"-XX:ArchiveClassesAtExit={setup.writes}"] if setup.writes else []),
        *([f"@{EXTRA}"] if (instance.folder / EXTRA).exists() else []),
    )


def archive(found: Java, installed: Installed) -> Path | None:
    """Where the classes of an installed server are kept as this build of Java maps them into
    memory; any other build would not take them. None where Java keeps none."""
    file = installed.path.with_name(f"{installed.path.name}-{found.build}") / "classes.jsa"
    separates = ":" in str(file)
    return None if found.major < KEEPS_CLASSES or not found.build or separates else file


async def find(server: str, versions: Versions) -> Java:
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
    return Java(java, found, build(told))


def build(text: str) -> str:
    """Eight hexadecimal digits for the builds that `java -version` names; what else it prints may
    come of options. Empty when it names none."""
    named = re.findall(r"\(build ([^,)]+)", text)
    return hashlib.sha256(" ".join(named).encode()).hexdigest()[:8] if named else ""


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
