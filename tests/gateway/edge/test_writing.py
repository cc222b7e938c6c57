"""In which order a client's connection writes what is to be written now and soon."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from gateway.edge.connection import EdgeConnection
from tests.support.gateways import GET, Raw, running
from tests.support.scripted import Scripted, answers
from tests.support.upstream import FakeTransport

RULES = """
clusters: {up: {instances: ["127.0.0.1:PORT"]}}
rules:
  - {name: here, match: {path: /here}, reply: {status: 200, body: here}}
  - {name: there, match: {path_prefix: /}, forward: up}
"""


class Written(FakeTransport):
    """Keeps each write apart, and what ended them."""

    def __init__(self) -> None:
        super().__init__()
        self.writes: list[bytes] = []

    def write(self, data: bytes) -> None:
        self.writes.append(data)

    def write_eof(self) -> None:
        self.writes.append(b"<eof>")

    def can_write_eof(self) -> bool:
        return True

    def close(self) -> None:
        self.writes.append(b"<close>")

    def abort(self) -> None:
        self.writes.append(b"<abort>")

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None: ...


@pytest.mark.parametrize(
    ("ends", "written"),
    [
        (lambda down: down.write(b"now"), [b"soonnow"]),
        (lambda down: down.close(), [b"soon", b"<close>"]),
        (lambda down: down.cut(), [b"soon", b"<abort>"]),
        (lambda down: down.hand_over(), [b"soon"]),
        (lambda down: down.answered(False, 0.0), [b"soon", b"<eof>"]),
        (lambda down: down.write_soon(b" more"), []),
        (lambda down: down.connection_lost(None), []),
    ],
)
async def test_nothing_overtakes_what_is_to_be_written_soon(
    ends: Callable[[EdgeConnection], object], written: list[bytes], tmp_path: Path
) -> None:
    async with running(tmp_path, RULES.replace("PORT", "1")) as worker:
        transport = Written()
        down = EdgeConnection(worker.listener)
        down.connection_made(transport)
        down.write_soon(b"soon")
        ends(down)
        assert transport.writes == written
        await asyncio.sleep(0)
        soon = [] if written or worker.listener.connections == set() else [b"soon more"]
        assert transport.writes == written + soon
        down.connection_lost(None)


async def test_an_answer_from_here_stays_behind_one_from_there(tmp_path: Path) -> None:
    async with (
        Scripted(answers()) as upstream,
        running(tmp_path, RULES.replace("PORT", str(upstream.port))) as worker,
        Raw(worker.port) as client,
    ):
        for _ in range(3):
            client.send(GET + GET.replace(b"/ ", b"/here ") + GET)
            assert [(await client.answer())[1] for _ in range(3)] == [b"ok", b"here", b"ok"]
