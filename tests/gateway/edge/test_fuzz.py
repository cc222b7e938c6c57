"""Inputs that nobody thought of, bounded here; `make fuzz` goes on for longer."""

import asyncio
import importlib.util
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.gateway.edge import fuzz
from tests.support import strict_http
from tests.support.gateways import Raw, one_rule, running
from tests.support.needs import missing
from tests.support.scripted import eventually
from tests.support.strict_http import Incomplete, Invalid, Message

SEEDS = fuzz.seeds()


@pytest.mark.parametrize("name", SEEDS)
def test_what_was_found_once_stays_found_wherever_it_is_split(name: str) -> None:
    data = SEEDS[name]
    check = fuzz.check_answer if name.startswith("answer") else fuzz.check_request
    for first in range(len(data) + 1):
        check(data, (first,))
        check(data, (first, first + 1, first + 3))


def test_mutants_of_the_corpus_are_read_alike_by_us_and_by_a_strict_parser() -> None:
    assert fuzz.run(3, seed=1) > 100


@pytest.mark.slow
def test_a_guided_fuzzer_finds_nothing() -> None:
    if importlib.util.find_spec("atheris") is None:
        missing("atheris is not installed: it has no build for this machine or this Python")
    found = subprocess.run(
        [sys.executable, "-m", "tests.gateway.edge.fuzz", "4", "1"],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert found.returncode == 0, found.stderr[-2_000:]


# -- structure, over real sockets

METHODS = [b"GET", b"POST", b"PUT", b"BREW", b"DESCRIBE", b"G@T", b""]
TARGETS = [b"/", b"/a%2f?b", b"http://a/c", b"http://b/", b"*", b"a", b"/x#y", b"/x y"]
VERSIONS = [b"HTTP/1.1"] * 6 + [b"HTTP/1.0", b"HTTP/2.0", b"http/1.1", b"RTSP/1.0"]
LINES = [
    b"X: y",
    b"X:",
    b"X-Text:  \xe9\xff ",
    b"Cookie: a=b",
    b"Content_Length: 3",
    b"Connection: close",
    b"Connection: keep-alive",
    b"Host: a",
    b"Host: b",
    b"Content-Length: 3",
    b"Content-Length: 0x3",
    b"Content-Length : 3",
    b"Transfer-Encoding: chunked",
    b"Transfer-Encoding: chunked ",
    b"Transfer-Encoding: \x0bchunked",
    b"Transfer_Encoding: chunked",
    b" folded",
    b"X\0: y",
    b": y",
]
BODIES = {
    b"": [b"", b"", b"\r\n"],
    b"Content-Length: 3": [b"abc", b"ab", b"abcd"],
    b"Transfer-Encoding: chunked": [
        b"3\r\nabc\r\n0\r\n\r\n",
        b"3;x=1\r\nabc\r\n2\r\nde\r\n0\r\nX: y\r\n\r\n",
        b"3\r\nabc\r\n",
        b"3\nabc\r\n0\r\n\r\n",
        b"3\r\nabcd\r\n0\r\n\r\n",
        b"0x3\r\nabc\r\n0\r\n\r\n",
        b"0\r\nContent-Length: 3\r\n\r\n",
    ],
}


@st.composite
def requests(draw: st.DrawFn) -> bytes:
    """A request, most often a good one."""
    framing = draw(st.sampled_from(list(BODIES)))
    lines = draw(st.lists(st.sampled_from(LINES[:7] if draw(st.booleans()) else LINES), max_size=3))
    usual = draw(st.integers(0, 3)) > 0
    line = b" ".join(
        (
            draw(st.sampled_from(METHODS[:5] if usual else METHODS)),
            draw(st.sampled_from(TARGETS[:3] if usual else TARGETS)),
            draw(st.sampled_from(VERSIONS[:1] if usual else VERSIONS)),
        )
    )
    head = [line, b"Host: a", *lines, *([framing] if framing else [])]
    end = draw(st.sampled_from([b"\r\n"] * 8 + [b"\n"]))
    return end.join(head) + end + end + draw(st.sampled_from(BODIES[framing]))


class Edge:
    """A gateway before a raw instance that answers what it can read and keeps all that it heard."""

    def __init__(self, folder: Path) -> None:
        self.heard: list[bytearray] = []
        self.told: list[Message] = []
        self.loop = asyncio.new_event_loop()
        self._folder = folder
        self._stop = asyncio.Event()
        self._started = self.loop.create_future()
        self._running = self.loop.create_task(self._run())
        self.port = self.loop.run_until_complete(self._started)

    async def _run(self) -> None:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        async with server, running(self._folder, one_rule(port)) as self.worker:
            self._started.set_result(self.worker.port)
            await self._stop.wait()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        unread = b""
        heard = bytearray()
        self.heard.append(heard)
        while data := await reader.read(65_536):
            heard += data
            unread += data
            try:
                message, unread = strict_http.parse(unread)
            except Incomplete:
                continue
            assert not unread, "the gateway never asks twice before an answer"
            self.told.append(message)
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        writer.close()

    def close(self) -> None:
        self._stop.set()
        self.loop.run_until_complete(self._running)
        self.loop.close()

    def ask(self, data: bytes, by: int, answers: int) -> list[Message]:
        """What the instance was told when a client sent `data`, and had `answers` or an end."""
        return self.loop.run_until_complete(self._ask(data, by, answers))

    async def _ask(self, data: bytes, by: int, answers: int) -> list[Message]:
        self.told.clear()
        async with Raw(self.port) as client:
            for start in range(0, len(data), by):
                client.send(data[start : start + by])
                await asyncio.sleep(0)
            for _ in range(answers):
                await client.answer()
        await eventually(lambda: not self.worker.listener.connections)
        return list(self.told)


@pytest.fixture(scope="module")
def edge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Edge]:
    found = Edge(tmp_path_factory.mktemp("edge"))
    yield found
    found.close()


def expected(data: bytes) -> tuple[list[Message], int]:
    """What a strict reader lets through of a connection's bytes, and how many answers come."""
    found: list[Message] = []
    answers = 0
    while True:
        try:
            message, data = strict_http.parse(data)
        except (Incomplete, Invalid):
            return found, answers
        answers += 1
        if message.target != b"*":
            found.append(message)
        if not message.keeps:
            return found, answers


@settings(max_examples=150, deadline=None)
@given(st.lists(requests(), min_size=1, max_size=3), st.sampled_from([1, 7, 1 << 20]))
def test_an_instance_is_told_what_a_strict_reader_reads_and_nothing_else(
    edge: Edge, asked: list[bytes], by: int
) -> None:
    data = b"".join(asked)
    wanted, answers = expected(data)
    told = edge.ask(data, by, answers)
    assert [(one.method, one.target, one.body) for one in told] == [
        (one.method, one.target, one.body) for one in wanted
    ]
    for one in told:
        assert one.host == b"a"
        assert not {b"content_length", b"transfer_encoding"} & {name for name, _ in one.fields}
