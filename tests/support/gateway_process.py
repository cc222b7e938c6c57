"""A gateway in a process of its own, as one starts it from the command line; or in several."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path

from tests.support.gateways import GET, Raw, status_of
from tests.support.ports import free_port


class GatewayProcess:
    """`port` takes requests, `admin_port` tells metrics."""

    def __init__(self, pid: int, port: int, admin_port: int) -> None:
        self.pid = pid
        self.port = port
        self.admin_port = admin_port

    def resident(self) -> int:
        """Its resident memory in bytes."""
        return self._memory("VmRSS")

    def peak(self) -> int:
        """The most that it was since `forget_peak`, as the kernel saw it; in bytes."""
        return self._memory("VmHWM")

    def forget_peak(self) -> None:
        Path(f"/proc/{self.pid}/clear_refs").write_text("5")

    def _memory(self, name: str) -> int:
        status = Path(f"/proc/{self.pid}/status").read_text()
        found = re.search(rf"{name}:\s+(\d+) kB", status)
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
    process = _start(folder, rules, options, descriptors)
    try:
        async with asyncio.timeout(60):
            ports = await asyncio.to_thread(_ports, process)
        yield GatewayProcess(process.pid, *ports)
    finally:
        ended = process.poll()
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()
    assert ended is None, f"the gateway ended by itself: {ended}"


def _start(folder: Path, rules: str, options: str, descriptors: int) -> subprocess.Popen[str]:
    """Not by the loop: uvloop lets a child inherit files that libraries have open."""
    file = folder / "rules.yaml"
    file.write_text(rules)
    limited = f"ulimit -n {descriptors}; " if descriptors else ""
    arguments = [
        *("bash", "-c", limited + 'exec "$0" -m deploy.cli gateway "$@"', sys.executable),
        *("--rules", str(file), "--home", str(folder / "home")),
        *("--listen", "tcp://127.0.0.1:0" + options, "--admin", "127.0.0.1:0"),
    ]
    return subprocess.Popen(
        arguments, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, close_fds=True
    )


def _ports(process: subprocess.Popen[str]) -> tuple[int, int]:
    """Those of the listener and of the admin port, as it says them once it serves."""
    assert process.stdout is not None
    for line in process.stdout:
        if len(found := re.findall(r"127\.0\.0\.1:(\d+)", line)) == 2:
            return int(found[0]), int(found[1])
    raise AssertionError("the gateway ended")


@asynccontextmanager
async def gateway_workers(
    folder: Path, rules: str, count: int, *, options: str = ""
) -> AsyncIterator[list[GatewayProcess]]:
    """So many on one port, as a container runs each; `options` are those of each one's listener."""
    (folder / "rules.yaml").write_text(rules)
    port = free_port()
    admins = [free_port() for _ in range(count)]
    with ExitStack() as stack:
        found: list[GatewayProcess] = []
        started: list[subprocess.Popen[bytes]] = []
        for admin in admins:
            process = _start_worker(folder, f"tcp://127.0.0.1:{port}{options}", admin)
            stack.callback(process.wait)
            stack.callback(process.kill)
            found.append(GatewayProcess(process.pid, port, admin))
            started.append(process)
        async with asyncio.timeout(60):
            await asyncio.gather(*map(_ready, found, started))
        yield found
        assert [process.poll() for process in started] == [None] * count, "a worker ended by itself"


def _start_worker(folder: Path, listen: str, admin: int) -> subprocess.Popen[bytes]:
    environ = {
        "STAGEDOOR_RULES": str(folder / "rules.yaml"),
        "STAGEDOOR_LISTEN": listen,
        "STAGEDOOR_ADMIN": f"127.0.0.1:{admin}",
        "STAGEDOOR_HOME": str(folder / f"home-{admin}"),
    }
    return subprocess.Popen(
        [sys.executable, "-m", "deploy.cli", "run", "gateway"],
        env={**os.environ, **environ},
        stdin=subprocess.DEVNULL,
    )


async def _ready(gateway: GatewayProcess, process: subprocess.Popen[bytes]) -> None:
    while True:
        assert process.poll() is None, "the worker ended before it was ready"
        try:
            async with Raw(gateway.admin_port) as client:
                client.send(GET.replace(b" / ", b" /ready "))
                if status_of(await client.head()) == 200:
                    return
        except (ConnectionError, EOFError):
            pass
        await asyncio.sleep(0.02)
