"""A real Prometheus against the running system agrees with the client, exactly."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from tests.support.counting import by_label, scrape, total
from tests.support.needs import missing
from tests.support.ports import free_port
from tests.support.system import System, eventually

MISSING = "prometheus is not installed: apt-get install prometheus"


class Prometheus:
    def __init__(self, url: str) -> None:
        self._url = url

    def query(self, expression: str) -> list[dict[str, Any]]:
        answer = httpx.get(f"{self._url}/api/v1/query", params={"query": expression}).json()
        assert answer["status"] == "success", answer
        result: list[dict[str, Any]] = answer["data"]["result"]
        return result

    def by(self, label: str, expression: str) -> dict[str, float]:
        return {one["metric"][label]: float(one["value"][1]) for one in self.query(expression)}

    def ready(self) -> bool:
        try:
            return httpx.get(f"{self._url}/-/ready").status_code == 200
        except httpx.TransportError:
            return False


@contextmanager
def prometheus(config: Path, data: Path) -> Iterator[Prometheus]:
    program = shutil.which("prometheus")
    if program is None:
        missing(MISSING)
    port = free_port()
    flags = [
        f"--config.file={config}",
        f"--storage.tsdb.path={data}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--log.level=error",
    ]
    process = subprocess.Popen([program, *flags], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    try:
        server = Prometheus(f"http://127.0.0.1:{port}")
        eventually(server.ready, within=20, what="prometheus")
        yield server
    finally:
        process.terminate()
        process.communicate(timeout=20)


def test_prometheus_counts_what_the_client_counted(system: System, tmp_path: Path) -> None:
    before = by_label(scrape(system, "gateway"), "gateway_requests_total", "code", route="play")
    played = total(scrape(system, "play_api"), "play_requests_total")
    report = system.ask("load", "--viewers", "16", "--seconds", "4", "--rate", "40", timeout=90)
    counted: dict[str, float] = dict(before)
    for outcome, count in report["outcomes"].items():
        code = outcome.partition(" ")[0]
        counted[code] = counted.get(code, 0) + count
    with prometheus(system.home / "prometheus" / "prometheus.yml", tmp_path / "data") as server:
        everything = len(system.targets())
        eventually(
            lambda: sum(server.by("instance", "up").values()) == everything,
            within=20,
            what="every process scraped",
        )
        seen = server.by("code", 'sum by (code) (gateway_requests_total{route="play"})')
        assert seen == {code: count for code, count in counted.items() if count}
        plays = server.query("sum(play_requests_total)")
        assert float(plays[0]["value"][1]) == played + report["plays"]


def test_every_process_tells_of_itself(system: System) -> None:
    targets = system.targets()
    assert len(targets) == 18
    for target in targets:
        text = httpx.get(f"http://{target['targets'][0]}/metrics").text
        assert "event_loop_lag_seconds" in text or target["labels"]["service"] == "supervisor"
        assert "open_fds" in text
