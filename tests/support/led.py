"""A supervisor without a system: `python -m tests.support.led FOLDER FATE...` becomes the zygote,
whose leader forks a child of each fate, prints the pids as JSON, and ends them all at SIGTERM."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys
from pathlib import Path

from deploy.forking import Zygote
from deploy.zygote import lead
from tests.support.scripted import eventually
from tests.support.zygotes import CHILD, environ, marked


async def supervise(channel: socket.socket, folder: Path, fates: list[str]) -> None:
    told = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, told.set)
    zygote = Zygote(channel)
    await zygote.start()
    children = []
    for number, fate in enumerate(fates):
        name = f"c{number}"
        out = folder / f"{name}.out"
        children.append(await zygote.spawn(name, CHILD, environ(folder, name, fate), out))
    await eventually(lambda: len(marked(folder, "begun")) == len(fates), 20)
    print(json.dumps([os.getpid(), *(child.pid for child in children)]), flush=True)  # noqa: T201
    await told.wait()
    await zygote.close()
    raise SystemExit(5)


if __name__ == "__main__":
    folder, fates = Path(sys.argv[1]), sys.argv[2:]
    sys.exit(lead(lambda channel: asyncio.run(supervise(channel, folder, fates))))
