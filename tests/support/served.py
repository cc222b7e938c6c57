"""A small service to try a process's life on: `python -m tests.support.served`.

`GET /slow` answers when the file `go` appears in the home. With `FATE` set to `dies` or `ends` its
background function does so when that file appears; with `refuses` it cannot be built.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec

from chassis.clock import SYSTEM
from chassis.errors import SchemaFault
from chassis.http.api import Reply, Request
from chassis.identity import Keyring
from chassis.service import Chassis, Service, run

ROOT = Path(__file__).resolve().parents[2]


async def build(chassis: Chassis) -> Service:
    fate = os.environ.get("FATE", "")
    api, go = chassis.api(), chassis.settings.root / "go"

    async def appeared() -> None:
        while not go.exists():
            await chassis.clock.sleep(0.01)

    async def slow(request: Request) -> Reply:
        (chassis.settings.root / "begun").touch()
        await appeared()
        return Reply(b'"slow"')

    async def beside() -> None:
        await appeared()
        if fate == "dies":
            raise RuntimeError("the background broke")
        if fate != "ends":
            await asyncio.Event().wait()

    if fate == "refuses":
        raise SchemaFault("the store holds another schema")
    api.route("GET", "/slow", slow, auth=False)
    return Service(api, background=[beside], meta={"colour": "blue"})


def prepare(home: Path) -> Path:
    """A home with a keyring."""
    keyring = home / "keys" / "inside.json"
    keyring.parent.mkdir(parents=True)
    keyring.write_bytes(msgspec.json.encode(Keyring.fresh(SYSTEM)))
    return home


@asynccontextmanager
async def served(
    home: Path, registry: str, environ: Mapping[str, str] | None = None
) -> AsyncIterator[asyncio.subprocess.Process]:
    """The service as the process `things-1`; killed on leaving if it still runs."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.support.served",
        cwd=ROOT,
        env={
            **os.environ,
            "STAGEDOOR_HOME": str(home),
            "STAGEDOOR_REGISTRY": registry,
            "STAGEDOOR_INSTANCE": "things-1",
            **(environ or {}),
        },
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGKILL)
        await process.communicate()


if __name__ == "__main__":
    run("things", build, os.environ)
