"""`stagedoor gateway` as a process: what it serves, what it says, and how it cannot start."""

from __future__ import annotations

import http.client
import json
import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support.certificates import Authority
from tests.support.system import ROOT

REPLY = "rules: [{name: r, reply: {status: 299, body: hello}}]"
FREE = "127.0.0.1:0"


def command(folder: Path, *options: str) -> list[str]:
    return [sys.executable, "-m", "deploy.cli", "gateway", "--home", str(folder / "home"), *options]


@pytest.fixture
def rules(tmp_path: Path) -> Path:
    file = tmp_path / "rules.yaml"
    file.write_text(REPLY)
    return file


@contextmanager
def started(
    folder: Path, rules: Path, listens: Sequence[str], environ: dict[str, str] | None = None
) -> Iterator[dict[str, Any]]:
    """What a gateway says of itself while it runs; it must end in order when told."""
    told = [f"--listen={one}" for one in listens]
    process = subprocess.Popen(
        command(folder, "--rules", str(rules), "--admin", FREE, "--json", *told),
        cwd=ROOT,
        env=environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line, process.stderr.read() if process.stderr else ""
        yield json.loads(line)
        process.send_signal(signal.SIGTERM)
        _, complaint = process.communicate(timeout=30)
        assert (process.returncode, complaint) == (0, "")
    finally:
        process.kill()
        process.communicate()


def ask(
    url: str, method: str = "GET", path: str = "/", context: ssl.SSLContext | None = None
) -> tuple[int, bytes]:
    where = url.partition("://")[2]
    connection = (
        http.client.HTTPConnection(where, timeout=10)
        if context is None
        else http.client.HTTPSConnection(where, timeout=10, context=context)
    )
    try:
        connection.request(method, path, headers={"Host": "a.example"})
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def test_one_process_serves_plain_tls_and_a_unix_socket(tmp_path: Path, rules: Path) -> None:
    authority = Authority(tmp_path)
    cert, key = authority.issue("127.0.0.1")
    context = authority.client()
    context.check_hostname = False
    path = tmp_path / "gateway.sock"
    listens = [FREE, f"tls://{FREE}?cert={cert}&key={key}", f"unix://{path}?mode=600"]
    with started(tmp_path, rules, listens) as told:
        plain, tls, unix = told["listening"]
        assert (plain[:7], tls[:8], unix) == ("http://", "https://", f"unix://{path}")
        assert ask(plain) == (299, b"hello")
        assert ask(tls, context=context) == (299, b"hello")
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))
            client.sendall(b"GET / HTTP/1.0\r\nHost: a\r\n\r\n")
            assert client.recv(65536).endswith(b"hello")
        assert ask(told["admin"], path="/ready")[0] == 200
        for method in ("PURGE", "M-SEARCH", "POST", "OPTIONS"):
            assert ask(plain, method, "/a/b%2f..;c?d=&e")[0] == 299
    assert not path.exists()
    log = "".join(file.read_text() for file in (tmp_path / "home" / "log").iterdir())
    assert "PRIVATE" not in log and ".key" not in log


@pytest.mark.slow
def test_the_environment_says_it_as_well(tmp_path: Path, rules: Path) -> None:
    environ = {"STAGEDOOR_LISTEN": f"{FREE} [::1]:0", "PATH": "/usr/bin:/bin"}
    with started(tmp_path, rules, [], environ) as told:
        plain, other = told["listening"]
        assert ask(plain) == (299, b"hello")
        assert other.startswith("http://[::1]:")
        assert ask(other) == (299, b"hello")


WRONG = {
    "no rules": (["--rules", "none.yaml"], "none.yaml:1: the rules file cannot be read"),
    "the files": (["--listen", f"tls://{FREE}?cert=none.pem"], "none.pem cannot be read"),
    "a folder": (["--listen", "unix:///none/s"], "cannot listen on /none/s"),
    "an address": (["--listen", "192.0.2.1:1"], "cannot listen on 192.0.2.1:1"),
    "a registry": (["--registry", "redis://a"], "consul://"),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_one_message_and_exit_status_2(
    name: str, tmp_path: Path, rules: Path
) -> None:
    options, said = WRONG[name]
    given = ["--rules", str(rules), "--listen", FREE, "--admin", FREE]
    for flag in options[::2]:
        at = given.index(flag) if flag in given else len(given)
        given[at : at + 2] = []
    done = subprocess.run(
        command(tmp_path, *given, *options),
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 2, done.stderr
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_several_wrong_flags_are_said_at_once(tmp_path: Path, rules: Path) -> None:
    done = subprocess.run(
        command(
            tmp_path,
            *("--rules", str(rules), "--listen", "a", "--listen", "tls://b:c", "--admin", "d"),
            *("--trust", "e"),
        ),
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 2
    for said in ("'a'", "needs ?cert", "'tls://b:c': write", "admin address 'd'", "proxy 'e'"):
        assert said in done.stderr
