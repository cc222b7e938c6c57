"""A Consul agent with a configuration of the test's own, such as one that asks for tokens."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import httpx

from tests.support import real
from tests.support.ports import free_port

_PORTS = ("http", "dns", "server", "serf_lan", "serf_wan", "grpc", "grpc_tls")
_READY_S = 20.0


class Agent:
    """Runs while entered, on free ports of the loopback, and has elected itself leader."""

    def __init__(self, folder: Path, config: Mapping[str, Any]) -> None:
        self._folder = folder
        ports = {name: free_port() for name in _PORTS}
        self._config = {
            **config,
            "server": True,
            "bootstrap_expect": 1,
            "data_dir": str(folder / "data"),
            "bind_addr": "127.0.0.1",
            "client_addr": "127.0.0.1",
            "disable_update_check": True,
            "performance": {"raft_multiplier": 1},
            "ports": ports,
        }
        self.url = f"consul://127.0.0.1:{ports['http']}"
        self.http = f"http://127.0.0.1:{ports['http']}"

    def __enter__(self) -> Agent:
        file = self._folder / "agent.json"
        file.write_text(json.dumps(self._config), encoding="utf-8")
        command = [str(real.program("consul")), "agent", f"-config-file={file}", "-node=test"]
        with (self._folder / "agent.log").open("wb") as log:
            self._process = subprocess.Popen(
                [*command, "-disable-host-node-id"], stdout=log, stderr=subprocess.STDOUT
            )
        self.wait_until(self._has_a_leader)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        fault: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._process.kill()
        self._process.wait()

    def wait_until(self, condition: Callable[[], bool]) -> None:
        """Blocks until it holds; fails with what the agent said when that takes too long."""
        give_up = time.monotonic() + _READY_S
        while not condition():
            assert self._process.poll() is None and time.monotonic() < give_up, self._said()
            time.sleep(0.05)

    def _has_a_leader(self) -> bool:
        try:
            return bool(httpx.get(f"{self.http}/v1/status/leader").json())
        except (httpx.HTTPError, ValueError):
            return False

    def _said(self) -> str:
        return (self._folder / "agent.log").read_text(encoding="utf-8", errors="replace")[-2000:]
