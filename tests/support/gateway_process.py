"""A gateway in a process of its own, as one starts it from the command line."""

from __future__ import annotations

import asyncio
import contextlib
import re
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from tests.support.gateways import Raw


class GatewayProcess:
    """`port` takes requests, `admin_port` tells metrics."""

    def __init__(self, pid: int, port: int, admin_port: int) -> None:
        self.pid = pid
        self.port = port
        self.admin_port = admin_port

    def resident(self) -> int:
        """Its resident memory in bytes."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        found = re.search(r"VmRSS:\s+(\d+) kB", status)
        assert found is not None
        return int(found[1]) * 1024

    async def metric(self, name: str, **labels: str) -> int:
        """The value of a metric's series that has these labels among its own."""
        async with Raw(self.admin_port) as client:
            client.send(b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n")
            page = (await client.answer())[1].decode()
        for line in page.splitlines():
            wanted = [f'{label}="{value}"' for label, value in labels.items()]
            if line.startswith((name + "{", name + " ")) and all(one in line for one in wanted):
                return int(float(line.rpartition(" ")[2]))
        raise AssertionError(f"no series of {name} with {labels}")


@asynccontextmanager
async def gateway_process(
    folder: Path, rules: str, *, options: str = "", descriptors: int = 0
) -> AsyncIterator[GatewayProcess]:
    """`options` are the listener's; `descriptors` is how many files it may have open."""
    file = folder / "rules.yaml"
    file.write_text(rules)
    limited = f"ulimit -n {descriptors}; " if descriptors else ""
    process = await asyncio.create_subprocess_exec(
        "bash",
        "-c",
        limited + 'exec "$0" -m deploy.cli gateway "$@"',
        sys.executable,
        *("--rules", str(file), "--home", str(folder / "home")),
        *("--listen", "tcp://127.0.0.1:0" + options, "--admin", "127.0.0.1:0"),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    try:
        async with asyncio.timeout(60):
            ports: list[str] = []
            while len(ports) < 2:
                line = await process.stdout.readline()
                assert line, "the gateway ended"
                ports = re.findall(r"127\.0\.0\.1:(\d+)", line.decode())
        yield GatewayProcess(process.pid, int(ports[0]), int(ports[1]))
    finally:
        await _end(process)


async def _end(process: asyncio.subprocess.Process) -> None:
    """AssertionError when it has ended before: what a client met then is no fault of a listener."""
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(process.wait(), 0.01)
    ended = process.returncode
    if ended is None:
        process.kill()
        await process.wait()
    await asyncio.sleep(0)
    assert ended is None, f"the gateway ended by itself: {ended}"
