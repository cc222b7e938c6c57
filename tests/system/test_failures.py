"""Real processes killed under load: what viewers see, and that everything comes back by itself."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest

from tests.support.counting import scrape, total
from tests.support.system import ROOT, System, eventually

SECONDS = 8
DENIED = {"403 region", "403 not_entitled", "410 window_ended"}
"""What some films of the list answer in any case: their licence says so."""
STALLED = 0.05
"""The share of Plays that a busy machine may hold up beyond an optional step's 100 ms."""


def start_load(
    system: System, *, seconds: float = SECONDS, rate: float = 25
) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "deploy.cli", "load", "--json", "--viewers", "24"]
    command += ["--seconds", str(seconds), "--rate", str(rate)]
    return subprocess.Popen(
        command,
        cwd=ROOT,
        env={**os.environ, "STAGEDOOR_HOME": str(system.home)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finished(load: subprocess.Popen[str]) -> dict[str, Any]:
    out, err = load.communicate(timeout=120)
    assert load.returncode == 0, err
    report: dict[str, Any] = json.loads(out)
    assert sum(report["outcomes"].values()) == report["plays"]
    return report


def strays(report: dict[str, Any], killed: str) -> int:
    """How many parts were late besides the one that was killed; nothing else may ail them."""
    others = {part: n for part, n in report["degraded"].items() if not part.startswith(killed)}
    assert all("origin_timeout" in part for part in others), others
    return sum(others.values())


def plays_so_far(system: System) -> float:
    return total(scrape(system, "gateway"), "gateway_requests_total", route="play")


def under_way(system: System, load: subprocess.Popen[str]) -> None:
    """Waits until the load has really begun to play."""
    before = plays_so_far(system)
    eventually(lambda: plays_so_far(system) > before + 10, within=40, what="the load's first plays")
    assert load.poll() is None


def healthy_again(system: System) -> bool:
    done = system.stagedoor("play", "inception")
    return done.returncode == 0 and json.loads(done.stdout)["degraded"] == []


def leases(system: System) -> tuple[float, float]:
    """How many leases were granted and released so far."""
    series = scrape(system, "sessions")
    granted = total(series, "service_requests_total", operation="acquire", code="200")
    released = total(series, "service_requests_total", operation="give_back", code="200")
    return granted, released


def test_plays_go_on_without_recommendations_and_say_so(system: System) -> None:
    load = start_load(system)
    under_way(system, load)
    killed = system.processes()["recommendations-1"]["pid"]
    system.ask("kill", "recommendations", "--hold", "2")
    report = finished(load)
    assert set(report["outcomes"]) - DENIED == {"200"}
    assert strays(report, "recommendations") <= report["plays"] * STALLED
    assert sum(report["degraded"].values()) > 0
    eventually(lambda: healthy_again(system), within=20, what="plays without degraded parts")
    assert system.processes()["recommendations-1"]["pid"] != killed


@pytest.mark.parametrize("step", ["rights", "manifest"])
def test_a_critical_step_killed_is_a_503_that_names_it_and_leaves_no_lease(
    system: System, step: str
) -> None:
    granted, released = leases(system)
    load = start_load(system)
    under_way(system, load)
    system.ask("kill", step, "--hold", "2")
    report = finished(load)
    outcomes = report["outcomes"]
    assert set(outcomes) - DENIED == {"200", f"503 dependency:{step}"}
    assert strays(report, step) <= report["plays"] * STALLED

    def settled() -> bool:
        granted_now, released_now = leases(system)
        kept = (granted_now - granted) - (released_now - released)
        return kept == outcomes["200"]

    eventually(settled, within=10, what="every failed play's lease released")
    eventually(lambda: healthy_again(system), within=20, what="plays without degraded parts")


def test_killing_what_is_not_there_says_what_is(system: System) -> None:
    done = system.stagedoor("kill", "nonsense")
    assert done.returncode == 1
    assert "nonsense" in done.stderr and "recommendations" in done.stderr


def test_a_gateway_worker_killed_comes_back_and_the_other_serves_meanwhile(system: System) -> None:
    before = system.processes()["gateway-1"]["pid"]
    system.ask("kill", "gateway-1")
    eventually(lambda: healthy_again(system), within=10, what="a play through the other worker")
    eventually(
        lambda: system.processes()["gateway-1"]["pid"] not in (before, None),
        within=20,
        what="the worker's return",
    )
