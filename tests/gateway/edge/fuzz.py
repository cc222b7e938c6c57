"""Bytes against the reader of requests and the reader of answers, for as long as one likes.

`python -m tests.gateway.edge.fuzz SECONDS [SEED]` mutates the corpus; with `atheris` installed it
is guided by what the mutants reach. What breaks a promise is printed, to be kept in the corpus.
"""

from __future__ import annotations

import importlib.util
import inspect
import itertools
import random
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from chassis.errors import StagedoorError
from chassis.http import connection, framing
from gateway.edge import boundary, fields, reader, request, request_line
from gateway.edge.limits import Limits
from gateway.edge.reader import READ, Reader
from tests.support import strict_http
from tests.support.upstream import Recorder, connected

CORPUS = Path(__file__).parent / "corpus"
NASTY = (b"\r", b"\n", b"\r\n", b"\0", b" ", b"\t", b":", b";", b",", b"0", b"\x7f", b"\xff", b"#")


def seeds() -> dict[str, bytes]:
    """The corpus by name: `request-…` and `answer-…`."""
    return {file.name: file.read_bytes() for file in sorted(CORPUS.iterdir())}


def read(data: bytes, cuts: tuple[int, ...] = ()) -> tuple[object, ...]:
    """What the edge makes of the first request in `data` when it comes in these pieces."""
    reading = Reader(Limits(head=4_096, target=1_000))
    waiting, heard = b"", b""
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    for start, end in itertools.pairwise(edges):
        waiting += data[start:end]
        if not waiting or reading.phase == READ:
            continue
        try:
            waiting = reading.read(waiting)
        except StagedoorError as failure:
            return "refused", failure.status
        heard += reading.take()
    if reading.phase < READ:
        return ("incomplete",)
    return (
        "read",
        reading.method,
        reading.target,
        reading.is_11,
        heard,
        tuple(reading.trailers),
        waiting,
    )


def check_request(data: bytes, cuts: tuple[int, ...]) -> None:
    """What is read does not depend on the pieces, and is what a strict parser reads."""
    told = read(data)
    split = read(data, cuts)
    if told[0] == "refused" or split[0] == "refused":
        assert told[0] == split[0], (data, cuts, told, split)
    else:
        assert told == split, (data, cuts, told, split)
    try:
        message, rest = strict_http.parse(data)
    except strict_http.Invalid:
        assert told[0] != "read", (data, told)
    except strict_http.Incomplete:
        assert told[0] != "read", (data, told)
    else:
        if told[0] == "read":
            expected = (message.method, message.target, message.minor == 1, message.body)
            assert told[1:5] == expected, (data, told, message)
            assert told[5:] == (tuple(message.trailers), rest), (data, told, message)


def answer(data: bytes, cuts: tuple[int, ...] = ()) -> tuple[object, ...]:
    """What an upstream connection makes of an answer that comes in these pieces, and whether it
    would carry another request."""
    asked, _ = connected()
    heard = Recorder()
    asked.start(heard, b"GET / HTTP/1.1\r\nhost: a\r\n\r\n", method=b"GET")
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    for start, end in itertools.pairwise(edges):
        if end > start and not heard.over.is_set():
            asked.data_received(data[start:end])
    if not heard.over.is_set():
        return ("incomplete",)
    if heard.failure is not None:
        return ("failed",)
    return "answered", heard.status, heard.body, tuple(heard.trailers), asked.reusable


def check_answer(data: bytes, cuts: tuple[int, ...]) -> None:
    """What is heard does not depend on the pieces; a connection with bytes behind the answer is
    never used again."""
    told = answer(data)
    split = answer(data, cuts)
    if told[0] == "answered":
        assert split[0] == "answered", (data, cuts, told, split)
        assert told[1:4] == split[1:4], (data, cuts, told, split)
        if told[4]:
            assert answer(data[:-1])[0] != "answered" or not answer(data[:-1])[4], (data, told)


def check(data: bytes) -> None:
    """One input of a fuzzer: what it is, where it is cut, and the bytes."""
    if len(data) > 3:
        checks = check_answer if data[0] & 1 else check_request
        checks(data[3:], (data[1], data[2] * 7, data[1] * data[2]))


def mutants(draw: random.Random) -> Iterator[bytes]:
    """Endlessly many inputs near the corpus."""
    found = [(name.startswith("answer"), data) for name, data in seeds().items()]
    while True:
        is_answer, data = draw.choice(found)
        for _ in range(draw.randrange(4)):
            at = draw.randrange(len(data) + 1)
            piece = draw.choice(NASTY)
            other = draw.choice(found)[1]
            data = draw.choice(
                (
                    data[:at] + piece + data[at:],
                    data[:at] + data[at + 1 :],
                    data[:at] + piece + data[at + len(piece) :],
                    data[:at] + other[draw.randrange(len(other) + 1) :],
                )
            )
        yield bytes((is_answer, draw.randrange(256), draw.randrange(256))) + data


def run(seconds: float, seed: int) -> int:
    """Checks mutants for so long; how many."""
    until = time.monotonic() + seconds
    for count, data in enumerate(mutants(random.Random(seed))):
        check(data)
        if time.monotonic() > until:
            return count
    raise AssertionError("there are always more")


def main(arguments: list[str]) -> None:
    seconds = int(arguments[0]) if arguments else 60
    if importlib.util.find_spec("atheris") is None:
        print(f"{run(seconds, time.time_ns())} inputs checked, unguided: atheris is not installed")  # noqa: T201
        return
    import atheris

    for owner in (boundary, connection, fields, framing, reader, request, request_line):
        for part in (owner, *filter(inspect.isclass, vars(owner).values())):
            for function in filter(inspect.isfunction, list(vars(part).values())):
                if function.__module__ == owner.__name__:
                    atheris.instrument_func(function)
    with tempfile.TemporaryDirectory() as folder:
        for name, data in seeds().items():
            kind = bytes((name.startswith("answer"), 40, 3))
            (Path(folder) / name).write_bytes(kind + data)
        options = [f"-max_total_time={seconds}", "-max_len=2000", "-verbosity=0"]
        options += [f"-seed={arguments[1]}"] if len(arguments) > 1 else []
        atheris.Setup([sys.argv[0], *options, folder], check)
        atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv[1:])
