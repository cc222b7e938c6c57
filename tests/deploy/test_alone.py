"""One service alone in the foreground, as a container runs it."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import msgspec
import pytest

from chassis.clock import SYSTEM
from chassis.errors import ConfigurationFault
from chassis.identity import Keyring
from deploy.alone import _spec, prepare, run
from deploy.healthy import admin_address, is_ready
from deploy.processes import SERVICES
from tests.support.ports import free_port
from tests.support.registry import opened, serving, until
from tests.support.system import ROOT, stagedoor


@contextmanager
def alone(name: str, home: Path, **settings: str) -> Iterator[subprocess.Popen[str]]:
    """`stagedoor run NAME` with `STAGEDOOR_…` set; killed where the test has not ended it."""
    environ = {f"STAGEDOOR_{key.upper()}": value for key, value in settings.items()}
    process = subprocess.Popen(
        [sys.executable, "-m", "deploy.cli", "run", name],
        cwd=ROOT,
        env={**os.environ, "STAGEDOOR_HOME": str(home), **environ},
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A prepared state directory without films: few services need them."""
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys" / "inside.json").write_bytes(msgspec.json.encode(Keyring.fresh(SYSTEM)))
    return tmp_path


@pytest.mark.system
async def test_a_service_is_found_under_the_name_it_was_given_and_drains_when_told(home):
    admin = free_port()
    async with serving() as url:
        settings = {"registry": url, "host": "localhost", "admin_port": str(admin)}
        with alone("experiments", home, instance="experiments-7", **settings) as process:
            registry = opened(url)
            _, (found,) = await until(
                lambda: registry.instances("experiments"), lambda answer: answer[1] != [], 20
            )
            assert (found.id, found.host) == ("experiments-7", "localhost")
            assert found.meta["admin"] == f"localhost:{admin}"
            assert await asyncio.to_thread(is_ready, f"localhost:{admin}")
            process.send_signal(signal.SIGTERM)
            assert await asyncio.to_thread(process.wait, 20) == 0
            assert (await registry.instances("experiments"))[1] == []
            await registry.close()


@pytest.mark.system
async def test_the_gateway_runs_alone_with_a_rules_document(home):
    port, admin = free_port(), free_port()
    rules = home / "rules.yaml"
    rules.write_text("rules:\n  - {name: hello, match: {path: /hello}, reply: {status: 204}}\n")
    settings = {"listen": f"localhost:{port}", "admin": f"localhost:{admin}", "rules": str(rules)}
    with alone("gateway", home, **settings) as process:

        async def ready() -> bool:
            return await asyncio.to_thread(is_ready, f"localhost:{admin}")

        await until(ready, bool, 20)
        async with httpx.AsyncClient() as http:
            answer = await http.get(f"http://localhost:{port}/hello")
        assert answer.status_code == 204
        process.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(process.wait, 20) == 0


@pytest.mark.system
def test_a_service_without_a_keyring_says_what_makes_one(tmp_path):
    with alone("experiments", tmp_path) as process:
        _, said = process.communicate(timeout=30)
    assert process.returncode == 2
    assert "stagedoor prepare" in said and "Traceback" not in said


def test_a_service_that_is_none_is_refused_with_those_there_are():
    with pytest.raises(ConfigurationFault, match=r"no service 'nobody'.*play_api"):
        run("nobody")


@pytest.mark.slow
async def test_preparing_makes_the_keyring_and_the_catalogue_once(tmp_path):
    environ, told = {"STAGEDOOR_HOME": str(tmp_path)}, []
    first = await prepare(environ, SYSTEM, told.append)
    keyring = tmp_path / "keys" / "inside.json"
    made = keyring.read_bytes()
    assert first.keyring == str(keyring)
    assert "3,200 titles" in first.catalogue and first.catalogue in told
    second = await prepare(environ, SYSTEM, told.append)
    assert keyring.read_bytes() == made
    assert second.catalogue == "catalogue: there already"


async def test_preparing_a_bucket_without_keys_names_both(tmp_path):
    environ = {"STAGEDOOR_HOME": str(tmp_path), "STAGEDOOR_OBJECTS": "s3://b?endpoint=http://h:1"}
    with pytest.raises(ConfigurationFault, match=r"(?s)AWS_ACCESS_KEY_ID.*AWS_SECRET_ACCESS_KEY"):
        await prepare(environ, SYSTEM, lambda line: None)


@pytest.mark.system
def test_the_command_prints_what_there_is(tmp_path):
    done = stagedoor(tmp_path, "prepare")
    assert done.returncode == 0, done.stderr
    assert f"keyring: {tmp_path}/keys/inside.json" in done.stdout
    assert "3,200 titles" in done.stdout


@pytest.mark.parametrize(
    ("environ", "address"),
    [
        ({"STAGEDOOR_HOST": "rights", "STAGEDOOR_ADMIN_PORT": "9000"}, "rights:9000"),
        ({"STAGEDOOR_ADMIN_PORT": "9000"}, "127.0.0.1:9000"),
        ({"STAGEDOOR_ADMIN": "gateway-1:9001", "STAGEDOOR_HOST": "x"}, "gateway-1:9001"),
    ],
)
def test_the_admin_port_is_where_the_process_was_told_to_open_it(environ, address):
    assert admin_address(environ) == address


def test_without_an_admin_port_nobody_can_be_asked():
    with pytest.raises(SystemExit, match="STAGEDOOR_ADMIN_PORT"):
        admin_address({})


def test_nobody_there_is_not_ready():
    assert not is_ready(f"127.0.0.1:{free_port()}", timeout_s=0.5)


def test_every_service_can_be_run_alone():
    assert [_spec(name).service for name in SERVICES] == list(SERVICES)
