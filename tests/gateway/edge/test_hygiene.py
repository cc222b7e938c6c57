"""Which fields pass through the edge, and which end there: both ways, over real sockets."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.support.gateways import GET, Raw, fields_of, one_rule, running, status_of
from tests.support.scripted import Closes, Reads, Scripted, Sends, answers

HOP_BY_HOP = (
    b"connection",
    b"keep-alive",
    b"proxy-authenticate",
    b"proxy-authorization",
    b"proxy-connection",
    b"te",
    b"transfer-encoding",
    b"upgrade",
)
CLAIMS = (
    b"client-cert",
    b"client-cert-chain",
    b"forwarded",
    b"grpc-timeout",
    b"traceparent",
    b"tracestate",
    b"true-client-ip",
    b"x-attempt",
    b"x-client-ip",
    b"x-cluster-client-ip",
    b"x-fault-context",
    b"x-forwarded-access-token",
    b"x-forwarded-client-cert",
    b"x-forwarded-for",
    b"x-forwarded-host",
    b"x-forwarded-port",
    b"x-forwarded-prefix",
    b"x-forwarded-proto",
    b"x-forwarded-scheme",
    b"x-forwarded-server",
    b"x-forwarded-user",
    b"x-original-forwarded-for",
    b"x-original-url",
    b"x-passport",
    b"x-priority",
    b"x-real-ip",
    b"x-request-id",
    b"x-request-timeout-ms",
    b"x-rewrite-url",
)


def spellings(name: bytes) -> tuple[bytes, ...]:
    """As people, and those who mean no good, write a name."""
    return name, name.upper(), name.title(), name.replace(b"-", b"_"), name.replace(b"-", b"_", 1)


async def passed(tmp_path: Path, *lines: bytes, version: bytes = b"1.1") -> bytes:
    """The head that an instance sees of a request with these lines."""
    sent = b"GET / HTTP/%b\r\nHost: a.example\r\n%b\r\n" % (
        version,
        b"".join(line + b"\r\n" for line in lines),
    )
    async with (
        Scripted(answers()) as upstream,
        running(tmp_path, one_rule(upstream.port)) as worker,
        Raw(worker.port) as client,
    ):
        client.send(sent)
        assert status_of((await client.answer())[0]) == 200
    return upstream.received


@pytest.mark.parametrize("name", CLAIMS)
async def test_what_only_the_edge_may_say_does_not_pass_however_it_is_written(
    name: bytes, tmp_path: Path
) -> None:
    lines = [spelt + b": forged" for spelt in spellings(name)]
    head = await passed(tmp_path, *lines, b"x-kept: 1")
    assert b"forged" not in head
    assert b"x-kept: 1\r\n" in head


async def test_hop_by_hop_fields_end_here(tmp_path: Path) -> None:
    lines = [name + b": chunked" for name in HOP_BY_HOP if name != b"transfer-encoding"]
    head = await passed(tmp_path, *lines, b"x-kept: 1")
    for name in HOP_BY_HOP:
        assert b"\r\n" + name + b":" not in head
    assert b"x-kept: 1\r\n" in head


@pytest.mark.parametrize(
    "value", [b"x-hop, close", b"X-HOP", b" ,, x-hop ,", b"keep-alive,\tx-hop"]
)
async def test_whatever_connection_names_ends_here(value: bytes, tmp_path: Path) -> None:
    head = await passed(tmp_path, b"Connection: " + value, b"X-Hop: 1", b"x-kept: 1")
    assert b"x-hop" not in head.lower()
    assert b"x-kept: 1\r\n" in head


async def test_connection_cannot_take_away_what_the_edge_says(tmp_path: Path) -> None:
    names = b"host, x-forwarded-for, x-forwarded-proto, traceparent, x-request-timeout-ms"
    head = await passed(tmp_path, b"Connection: " + names)
    for line in (
        rb"\r\nhost: a\.example\r\n",
        rb"\r\nx-forwarded-for: 127\.0\.0\.1\r\n",
        rb"\r\nx-forwarded-proto: http\r\n",
        rb"\r\nx-forwarded-host: a\.example\r\n",
        rb"\r\ntraceparent: 00-[0-9a-f]{32}",
        rb"\r\nx-request-timeout-ms: [0-9]+\r\n",
    ):
        assert len(re.findall(line, head)) == 1


async def test_a_trusted_proxys_words_are_written_anew(tmp_path: Path) -> None:
    sent = GET.replace(
        b"\r\n\r\n",
        b"\r\nX-Forwarded-For: 6.6.6.6, 2001:DB8::7\r\nX-Forwarded-Proto: https\r\n"
        b"X-Forwarded-Host: Shop.example\r\nX-Forwarded-Port: 443\r\n"
        b"X-Forwarded-User: forged\r\n\r\n",
    )
    async with (
        Scripted(answers()) as upstream,
        running(tmp_path, one_rule(upstream.port), trusted_hops=1) as worker,
        Raw(worker.port) as client,
    ):
        for _ in range(2):
            client.send(sent)
            await client.answer()
    assert b"forged" not in upstream.received and b"6.6.6.6" not in upstream.received
    assert (
        upstream.received.count(
            b"x-forwarded-for: 2001:db8::7, 127.0.0.1\r\nx-forwarded-proto: https\r\n"
            b"x-forwarded-port: 443\r\nx-forwarded-host: Shop.example\r\n"
        )
        == 2
    )


async def answered(tmp_path: Path, *lines: bytes, body: bytes = b"ok") -> tuple[bytes, bytes]:
    """What a client sees of an answer with these lines, and that its connection goes on."""
    answer = b"HTTP/1.1 200 OK\r\n" + b"".join(line + b"\r\n" for line in lines) + b"\r\n" + body
    async with (
        Scripted([Reads(), Sends(answer), Closes()]) as upstream,
        running(tmp_path, one_rule(upstream.port)) as worker,
        Raw(worker.port) as client,
    ):
        client.send(GET)
        first = await client.answer()
        client.send(GET)
        assert (await client.answer())[1] == first[1]
    return first


async def test_an_answers_hop_by_hop_fields_and_what_tells_of_the_inside_end_here(
    tmp_path: Path,
) -> None:
    head, body = await answered(
        tmp_path,
        b"Connection: close, X-Hop",
        b"X-Hop: 1",
        b"Keep-Alive: timeout=1",
        b"Proxy-Authenticate: Basic",
        b"Upgrade: h2c",
        b"X-Passport: secret",
        b"Endpoint-Load-Metrics: TEXT cpu_utilization=0.3",
        b"X-Kept: 1",
        b"Content-Length: 2",
    )
    assert fields_of(head) == {b"x-kept": b"1", b"content-length": b"2"}
    assert body == b"ok"


async def test_an_answers_connection_cannot_take_its_length_away(tmp_path: Path) -> None:
    head, body = await answered(tmp_path, b"Connection: Content-Length", b"Content-Length: 2")
    assert fields_of(head)[b"content-length"] == b"2"
    assert body == b"ok"
