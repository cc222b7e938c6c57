"""What the launcher says of its servers."""

from __future__ import annotations

import re

import msgspec


class Process(msgspec.Struct, frozen=True):
    """One instance. `rss` is in bytes, `ready_s` how long its start took until it answered."""

    name: str
    address: str
    port: int
    pid: int
    rss: int
    ready_s: float


class Running(msgspec.Struct, frozen=True):
    """A server that truly answers. `url` and `environ` may carry secrets: its `repr` does not."""

    name: str
    version: str
    url: str
    processes: list[Process]
    environ: dict[str, str] = {}

    @property
    def pid(self) -> int:
        return self.processes[0].pid

    def __repr__(self) -> str:
        return f"Running({self.name} {self.version}, {without_password(self.url)})"


class Status(msgspec.Struct, frozen=True):
    """One instance, told from its process: `up` answers, `unready` runs and does not, `down` does
    not run. `url` is the server's, without its password."""

    server: str
    name: str
    version: str
    status: str
    port: int
    pid: int
    rss: int
    ready_s: float
    url: str
    why: str = ""


def without_password(url: str) -> str:
    return re.sub(r"(?<=//)([^:@/]*):[^@/]+@", r"\1:***@", url)
