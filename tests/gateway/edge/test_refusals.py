"""Each line of the refusal list, against a recording upstream that must hear nothing of it."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest

from gateway.edge.limits import Limits
from tests.support.gateways import GET, Raw, one_rule, running, status_of
from tests.support.scripted import OK, Reads, Scripted, Sends, Step, answers, eventually

H = b"Host: a\r\n"


def get(*lines: bytes, target: bytes = b"/", version: bytes = b"HTTP/1.1") -> bytes:
    head = b"GET " + target + b" " + version + b"\r\n" + H
    return head + b"".join(line + b"\r\n" for line in lines) + b"\r\n"


def chunked(body: bytes) -> bytes:
    return b"POST / HTTP/1.1\r\n" + H + b"Transfer-Encoding: chunked\r\n\r\n" + body


MALFORMED = {
    "two equal Content-Length": get(b"Content-Length: 1", b"Content-Length: 1") + b"x",
    "two different Content-Length": get(b"Content-Length: 1", b"Content-Length: 2") + b"xx",
    "Content-Length with a list": get(b"Content-Length: 1, 1") + b"x",
    "Content-Length with a sign": get(b"Content-Length: +1") + b"x",
    "Content-Length in hexadecimal": get(b"Content-Length: 0x1") + b"x",
    "Content-Length empty": get(b"Content-Length: "),
    "Content-Length beyond what a signed number holds": get(b"Content-Length: 9223372036854775808"),
    "Content-Length with a blank inside": get(b"Content-Length: 1 1") + b"x" * 11,
    "Content-Length in scientific notation": get(b"Content-Length: 1e1") + b"x" * 10,
    "Content-Length beyond 64 bits": get(b"Content-Length: 99999999999999999999"),
    "Content-Length then Transfer-Encoding": get(
        b"Content-Length: 5", b"Transfer-Encoding: chunked"
    )
    + b"0\r\n\r\n",
    "Transfer-Encoding then Content-Length": get(
        b"Transfer-Encoding: chunked", b"Content-Length: 5"
    )
    + b"0\r\n\r\n",
    "Transfer-Encoding on 1.0": get(b"Transfer-Encoding: chunked", version=b"HTTP/1.0"),
    "Transfer-Encoding not ending in chunked": get(b"Transfer-Encoding: chunked, gzip"),
    "Transfer-Encoding with chunked twice": get(b"Transfer-Encoding: chunked, chunked"),
    "Transfer-Encoding empty": get(b"Transfer-Encoding: "),
    "Transfer-Encoding with a parameter": get(b"Transfer-Encoding: chunked;q=1"),
    "Transfer-Encoding identity": get(b"Transfer-Encoding: identity"),
    "Transfer-Encoding xchunked": get(b"Transfer-Encoding: xchunked"),
    "Transfer-Encoding with a control character": get(b"Transfer-Encoding: \x0bchunked"),
    "two Transfer-Encoding": get(b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked"),
    "a Content-Length of thousands of digits": get(b"Content-Length: " + b"0" * 5000 + b"1"),
    "obs-fold": get(b"X: a", b" b"),
    "obs-fold before any field": b"GET / HTTP/1.1\r\n X: a\r\nHost: a\r\n\r\n",
    "bare LF": b"GET / HTTP/1.1\nHost: a\n\n",
    "bare LF behind a field": b"GET / HTTP/1.1\r\nHost: a\nX: y\r\n\r\n",
    "bare LF at the end": b"GET / HTTP/1.1\r\nHost: a\r\n\n",
    "bare LF before the request": b"\n" + GET,
    "bare CR before the request": b"\r" + GET,
    "bare CR in a value": get(b"X: a\rb"),
    "CR CR LF": get(b"X: a\r"),
    "space before the colon": get(b"X : a"),
    "tab before the colon": get(b"X\t: a"),
    "NUL in a value": get(b"X: a\0b"),
    "control character in a value": get(b"X: a\x01b"),
    "DEL in a value": get(b"X: a\x7fb"),
    "empty field name": get(b": a"),
    "field name that is no token": get(b"X(y): a"),
    "field name beyond ASCII": get(b"X\xe9: a"),
    "no Host": b"GET / HTTP/1.1\r\nX: y\r\n\r\n",
    "no Host on 1.0": b"GET / HTTP/1.0\r\n\r\n",
    "two Hosts": get(b"Host: a"),
    "an empty Host": b"GET / HTTP/1.1\r\nHost: \r\n\r\n",
    "a malformed Host": b"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n",
    "a Host with user information": b"GET / HTTP/1.1\r\nHost: u@a\r\n\r\n",
    "absolute form and Host that disagree": get(target=b"http://b/"),
    "a fragment": get(target=b"/a#b"),
    "two blanks before the target": get(target=b" /"),
    "two blanks behind the target": get(target=b"/ "),
    "a byte beyond ASCII in the target": get(target=b"/\xe9"),
    "another protocol": get(version=b"RTSP/1.0"),
    "a request line without a version": b"GET /\r\n" + H + b"\r\n",
    "a method that runs into its target": b"A" * 20 + b"/x HTTP/1.1\r\n" + H + b"\r\n",
    "a space in the target": get(target=b"/a b"),
    "a tab in the target": get(target=b"/a\tb"),
    "a control character in the target": get(target=b"/a\x01"),
    "a target that is no path": get(target=b"a"),
    "an asterisk for GET": get(target=b"*"),
    "a lower-case protocol name": get(version=b"http/1.1"),
    "a blank behind the version": get(version=b"HTTP/1.1 "),
    "a method that is no token": b"G@T / HTTP/1.1\r\n" + H + b"\r\n",
    "bytes that are no HTTP": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"x" * 40,
    "an empty chunk size": chunked(b"\r\nabc\r\n0\r\n\r\n"),
    "a chunk size with 0x": chunked(b"0x3\r\nabc\r\n0\r\n\r\n"),
    "a chunk size with a sign": chunked(b"+3\r\nabc\r\n0\r\n\r\n"),
    "a chunk size beyond 64 bits": chunked(b"fffffffffffffffff\r\nabc\r\n0\r\n\r\n"),
    "a blank behind the chunk size": chunked(b"3 \r\nabc\r\n0\r\n\r\n"),
    "a chunk size with LF": chunked(b"3\nabc\r\n0\r\n\r\n"),
    "a chunk extension with LF": chunked(b"3;a\nabc\r\n0\r\n\r\n"),
    "a chunk extension with a control character": chunked(b"3;\x01\r\nabc\r\n0\r\n\r\n"),
    "a chunk longer than it said": chunked(b"3\r\nabcd\r\n0\r\n\r\n"),
    "a chunk that ends with LF": chunked(b"3\r\nabc\n0\r\n\r\n"),
    "a chunk that ends with CR": chunked(b"3\r\nabc\r0\r\n\r\n"),
    "a chunk extension that is not closed": chunked(b'3;a="\r\nabc\r\n0\r\n\r\n'),
    "a chunk extension with a blank": chunked(b"3; a\r\nabc\r\n0\r\n\r\n"),
    "a last chunk with LF": chunked(b"3\r\nabc\r\n0\r\n\n"),
    "a Transfer-Encoding trailer": chunked(b"0\r\nTransfer-Encoding: chunked\r\n\r\n"),
    "a trailer with a blank before the colon": chunked(b"0\r\nX : y\r\n\r\n"),
    "a folded trailer": chunked(b"0\r\nX: y\r\n z\r\n\r\n"),
    "a Content-Length trailer": chunked(b"0\r\nContent-Length: 4\r\n\r\n"),
}

OTHERS = {
    "CONNECT": (405, b"CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n"),
    "TRACE": (405, b"TRACE / HTTP/1.1\r\n" + H + b"Connection: close\r\n\r\n"),
    "the HTTP/2 preface": (505, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    "HTTP/2.0": (505, get(version=b"HTTP/2.0")),
    "HTTP/1.2": (505, get(version=b"HTTP/1.2")),
    "HTTP/0.9": (505, get(version=b"HTTP/0.9")),
    "a coding that is not known": (501, get(b"Transfer-Encoding: gzip, chunked")),
    "an expectation that is not known": (417, get(b"Expect: a-pony")),
    "a method of 33 characters": (501, b"A" * 33 + b" / HTTP/1.1\r\n" + H + b"\r\n"),
    "a long target": (414, get(target=b"/" + b"a" * 20_000)),
    "a long header block": (431, get(b"X: " + b"a" * 40_000)),
    "too many fields": (431, get(*[b"X: a"] * 120)),
}


async def refused(
    folder: Path, request: bytes, by: int = 0, script: Sequence[Step] | None = None
) -> tuple[int, bytes, bytes]:
    """The status, the rest of the answer, and everything that the upstream heard."""
    async with (
        Scripted(script or answers()) as upstream,
        running(folder, one_rule(upstream.port)) as worker,
        Raw(worker.port) as client,
    ):
        for start in range(0, len(request), by or len(request)):
            client.send(request[start : start + (by or len(request))])
            await asyncio.sleep(0)
        answer = await client.rest()
    return status_of(answer), answer, upstream.received


@pytest.mark.parametrize("name", MALFORMED)
async def test_what_is_malformed_is_refused_before_an_upstream_hears_it(
    name: str, tmp_path: Path
) -> None:
    status, answer, heard = await refused(tmp_path, MALFORMED[name])
    assert (status, heard) == (400, b"")
    assert b"connection: close" in answer
    assert b'"code":' in answer


@pytest.mark.parametrize("name", MALFORMED)
async def test_what_is_malformed_is_refused_however_it_arrives(name: str, tmp_path: Path) -> None:
    """Byte by byte a head is forwarded before a later chunk goes wrong: never as complete."""
    silent = [Reads(b"the end of the body")]
    status, _, heard = await refused(tmp_path, MALFORMED[name], by=1, script=silent)
    assert status == 400
    assert not heard.endswith(b"0\r\n\r\n")


@pytest.mark.parametrize("name", OTHERS)
async def test_other_refusals_have_their_own_status(name: str, tmp_path: Path) -> None:
    expected, request = OTHERS[name]
    status, answer, heard = await refused(tmp_path, request)
    assert (status, heard) == (expected, b"")
    assert b"connection: close" in answer


@pytest.mark.parametrize("name", ["two Hosts", "obs-fold", "a chunk longer than it said"])
async def test_a_bad_request_behind_good_ones_ends_the_connection_after_their_answers(
    name: str, tmp_path: Path
) -> None:
    status, answer, heard = await refused(tmp_path, GET + GET + MALFORMED[name] + GET)
    assert status == 200
    assert answer.count(b"HTTP/1.1 200 OK") == 2
    assert answer.count(b"HTTP/1.1 400 ") == 1
    assert heard.count(b"GET / HTTP/1.1") == 2


async def test_a_body_over_the_limit_is_refused_unread(tmp_path: Path) -> None:
    request = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 11\r\n\r\n"
    async with (
        Scripted(answers()) as upstream,
        running(tmp_path, one_rule(upstream.port), limits=Limits(body=10)) as worker,
        Raw(worker.port) as client,
    ):
        client.send(request)
        assert status_of(await client.rest()) == 413
    assert upstream.received == b""


async def test_a_body_over_the_rules_limit_is_refused_while_it_streams(tmp_path: Path) -> None:
    async with (
        Scripted([Reads(b"0\r\n\r\n"), Sends(OK)]) as upstream,
        running(tmp_path, one_rule(upstream.port, body_limit="10")) as worker,
        Raw(worker.port) as client,
    ):
        client.send(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
        for sent in range(1, 4):
            client.send(b"5\r\nabcde\r\n")
            await eventually(lambda sent=sent: upstream.received.count(b"abcde") == min(sent, 2))
        assert status_of(await client.rest()) == 413
    assert not upstream.received.endswith(b"0\r\n\r\n")


@pytest.mark.parametrize("name", ["CONNECT", "TRACE"])
async def test_a_method_that_is_not_allowed_is_told_what_is(name: str, tmp_path: Path) -> None:
    _, answer, _ = await refused(tmp_path, OTHERS[name][1])
    assert b"\r\nallow: DELETE, GET, HEAD, OPTIONS, PATCH, POST, PUT\r\n" in answer


async def test_trace_is_forwarded_where_a_rule_lists_it_and_nowhere_else(tmp_path: Path) -> None:
    rules = (
        'clusters: {{up: {{instances: ["127.0.0.1:{port}"]}}}}\nrules:\n'
        "  - {{name: all, match: {{path_prefix: /}}, forward: up}}\n"
        "  - {{name: seen, match: {{path_prefix: /seen, methods: [TRACE]}}, forward: up}}\n"
    )
    async with (
        Scripted(answers()) as upstream,
        running(tmp_path, rules.format(port=upstream.port)) as worker,
        Raw(worker.port) as client,
    ):
        client.send(b"TRACE /other HTTP/1.1\r\nHost: a\r\n\r\n")
        assert status_of((await client.answer())[0]) == 405
        client.send(b"TRACE /seen/it HTTP/1.1\r\nHost: a\r\n\r\n")
        assert (await client.answer())[1] == b"ok"
    assert upstream.received.startswith(b"TRACE /seen/it HTTP/1.1\r\n")
