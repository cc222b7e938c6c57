"""What is asked wrongly gets one clear message, a status, and changes nothing."""

from __future__ import annotations

import json
import socket
import subprocess
import time
from pathlib import Path

import httpx
import pytest

from tests.support.system import System, eventually, stagedoor


def refused(done: subprocess.CompletedProcess[str], *said: str) -> None:
    assert done.returncode not in (0, -15), done.stdout
    assert "Traceback" not in done.stderr
    for part in said:
        assert part in done.stderr, done.stderr


def test_a_second_system_in_the_same_place_is_told_of_the_first(system: System) -> None:
    done = stagedoor(system.home, "up", "--port", "0", "--registry-port", "0", "--admin-port", "0")
    refused(done, "already running", system.gateway, "STAGEDOOR_HOME")
    assert system.ask("ps")


def test_a_port_in_use_is_named(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        for flag in ("--port", "--registry-port", "--admin-port"):
            ports = {"--port": "0", "--registry-port": "0", "--admin-port": "0", flag: str(port)}
            flags = [part for pair in ports.items() for part in pair]
            refused(stagedoor(tmp_path / "home", "up", *flags), str(port), "choose another port")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["up", "--port", "http"], "--port"),
        (["up", "--port", "70000"], "70000"),
        (["up", "--prot", "1"], "--prot"),
        (["up", "--instances", "rights"], "NAME=N"),
        (["up", "--instances", "wrongs=2"], "wrongs"),
        (["up", "--instances", "rights=²"], "NAME=N"),
        (["rules", "explain", "GET", "http://[::1", "--rules", "deploy/rules.yaml"], "http://[::1"),
        (["frobnicate"], "frobnicate"),
        (["load", "--viewers", "0"], "--viewers"),
        (["load", "--seconds", "-1"], "--seconds"),
        (["kill"], "name"),
    ],
)
def test_a_flag_that_makes_no_sense_is_named(
    tmp_path: Path, arguments: list[str], said: str
) -> None:
    done = stagedoor(tmp_path / "home", *arguments)
    refused(done, said)
    assert done.returncode == 2


@pytest.mark.parametrize("command", [["ps"], ["demo"], ["load"], ["kill", "rights"], ["down"]])
def test_without_a_running_system_every_command_says_how_to_start_one(
    tmp_path: Path, command: list[str]
) -> None:
    refused(stagedoor(tmp_path / "home", *command), "make run")


def test_a_state_directory_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    in_the_way = tmp_path / "file"
    in_the_way.write_text("")
    refused(stagedoor(in_the_way / "home", "up"), str(in_the_way), "STAGEDOOR_HOME")


@pytest.mark.parametrize(
    ("file", "said"), [("data/identity.db", "no SQLite database"), ("rules.yaml", "rules.yaml:2:")]
)
def test_what_cannot_start_is_named_with_its_reason_long_before_patience_ends(
    tmp_path: Path, file: str, said: str
) -> None:
    broken = tmp_path / "home" / file
    broken.parent.mkdir(parents=True)
    broken.write_text("this: [is neither\n" * 100)
    ports = ["--port", "0", "--registry-port", "0", "--admin-port", "0"]
    began = time.monotonic()
    refused(stagedoor(tmp_path / "home", "up", *ports), said)
    assert time.monotonic() - began < 25


def test_a_bad_rules_edit_changes_nothing_and_a_good_one_is_live_at_once(system: System) -> None:
    rules = system.home / "rules.yaml"
    original = rules.read_text()

    def status(path: str) -> int:
        return httpx.get(f"{system.gateway}{path}").status_code

    def with_rule(rule: str) -> str:
        return original.replace("\nrules:\n", f"\nrules:\n  - {rule}\n", 1)

    try:
        rules.write_text(with_rule("{name: hello, match: {path: /hello}, forward: nowhere}"))
        assert status("/hello") == 404
        assert status("/.well-known/jwks.json") == 200
        rules.write_text(with_rule("{name: hello, match: {path: /hello}, reply: {status: 204}}"))
        eventually(lambda: status("/hello") == 204, within=3, what="the new rule")
        assert status("/.well-known/jwks.json") == 200
    finally:
        rules.write_text(original)
    eventually(lambda: status("/hello") == 404, within=3, what="the old rules")


@pytest.mark.parametrize("name", ["nobody", "a/b", "../rights", ""])
def test_whoever_cannot_be_killed_is_told_who_can(system: System, name: str) -> None:
    refused(system.stagedoor("kill", name), "there is no process", "recommendations")


def test_a_trace_that_nobody_remembers_is_said_so(system: System) -> None:
    refused(system.stagedoor("explain", "0" * 32), "remembers")
    done = system.stagedoor("explain", "0" * 32, "--json")
    assert (json.loads(done.stdout), done.returncode) == ([], 1)


def test_films_go_nowhere_where_nothing_can_be_written() -> None:
    refused(stagedoor(Path("/proc/nowhere"), "catalog", "ingest"), "/proc/nowhere")


def test_a_film_list_that_is_broken_is_refused_whole(tmp_path: Path) -> None:
    broken = tmp_path / "films.csv"
    broken.write_text("title,released\nHeat,1995-12-15\n")
    home = tmp_path / "home"
    refused(stagedoor(home, "catalog", "ingest", str(broken)), "films.csv", "nothing was changed")
    refused(stagedoor(home, "catalog", "ingest", str(tmp_path / "none.csv")), "none.csv")
