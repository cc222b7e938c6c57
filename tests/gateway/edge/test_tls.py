"""TLS over real sockets: what is agreed, what is refused, and certificates that are replaced."""

from __future__ import annotations

import asyncio
import datetime
import json
import socket
import ssl
from collections.abc import Callable
from pathlib import Path

import pytest

from chassis.errors import ConfigurationFault
from gateway.edge.limits import Limits
from gateway.worker import Worker
from tests.support.certificates import Authority
from tests.support.gateways import GET, Raw, fields_of, one_rule, running, status_of
from tests.support.scripted import (
    Closes,
    Floods,
    Holds,
    Reads,
    ReadsAgain,
    Repeats,
    Scripted,
    Sends,
    StopsReading,
    answers,
    eventually,
)

REPLY = "rules: [{name: r, reply: {status: 418}}]"


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


def tls(*pairs: tuple[Path, Path], more: str = "") -> str:
    """What to listen on, with these certificates and keys."""
    options = "&".join(f"cert={cert}&key={key}" for cert, key in pairs)
    return f"tls://127.0.0.1:0?{options}{more}"


def spoken(client: Raw) -> ssl.SSLObject:
    found: ssl.SSLObject = client.writer.get_extra_info("ssl_object")
    return found


def shown(client: Raw) -> str:
    """The common name of the server's certificate."""
    certificate = client.writer.get_extra_info("peercert")
    return str(dict(pair[0] for pair in certificate["subject"])["commonName"])


async def refused(make: Callable[[], Raw]) -> None:
    """The handshake, or with TLS 1.3 the first word after it, fails."""
    with pytest.raises((OSError, asyncio.IncompleteReadError)):
        async with make() as client:
            client.send(GET)
            await client.head()


async def test_requests_are_served_and_the_instance_hears_of_the_scheme(
    tmp_path: Path, authority: Authority
) -> None:
    pair = authority.issue("localhost")
    async with (
        Scripted(answers()) as upstream,
        running(tmp_path, one_rule(upstream.port), listen=tls(pair)) as worker,
        Raw(worker.port, authority.client()) as client,
    ):
        for _ in range(3):
            client.send(GET)
            assert (await client.answer())[1] == b"ok"
    assert upstream.received.count(b"x-forwarded-proto: https\r\n") == 3
    assert worker.listener.counts.accepted == 1


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_http_11_is_agreed_and_nothing_else(
    version: ssl.TLSVersion, tmp_path: Path, authority: Authority
) -> None:
    context = authority.client()
    context.maximum_version = version
    context.set_alpn_protocols(["h2", "http/1.1"])
    async with (
        running(tmp_path, REPLY, listen=tls(authority.issue("localhost"))) as worker,
        Raw(worker.port, context) as client,
    ):
        client.send(GET)
        assert status_of((await client.answer())[0]) == 418
        assert spoken(client).selected_alpn_protocol() == "http/1.1"
        cipher = spoken(client).cipher()
    assert cipher is not None and cipher[1] in ("TLSv1.2", "TLSv1.3")
    assert "GCM" in cipher[0] or "CHACHA20" in cipher[0]


async def test_old_versions_and_weak_ciphers_are_refused(
    tmp_path: Path, authority: Authority
) -> None:
    old, weak = authority.client(), authority.client()
    with pytest.warns(DeprecationWarning):
        old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_1
    old.set_ciphers("ALL:@SECLEVEL=0")
    weak.maximum_version = ssl.TLSVersion.TLSv1_2
    weak.set_ciphers("ECDHE+AES+SHA256:!AESGCM")
    listen = tls(authority.issue("localhost"))
    async with running(tmp_path, REPLY, listen=listen) as worker:
        await refused(lambda: Raw(worker.port, old))
        await refused(lambda: Raw(worker.port, weak))
        await eventually(lambda: worker.listener.counts.handshakes == 2)


async def test_the_certificate_follows_the_name_that_is_asked_for(
    tmp_path: Path, authority: Authority
) -> None:
    pairs = [
        authority.issue("first.example"),
        authority.issue("second.example", "second.example", "*.second.example"),
        authority.issue("third.example"),
    ]
    context = authority.client()
    wanted = {
        "first.example": "first.example",
        "SECOND.example": "second.example",
        "deep.second.example": "second.example",
        "third.example": "third.example",
    }
    async with running(tmp_path, REPLY, listen=tls(*pairs)) as worker:
        for name, certificate in wanted.items():
            async with Raw(worker.port, context, name) as client:
                assert shown(client) == certificate
                client.send(GET)
                assert status_of((await client.answer())[0]) == 418
        context.check_hostname = False
        for name in ("unknown.example", "too.deep.second.example", "127.0.0.1"):
            async with Raw(worker.port, context, name) as client:
                assert shown(client) == "first.example"


# -- client certificates


async def test_a_client_certificate_is_needed_where_the_listener_says_so(
    tmp_path: Path, authority: Authority
) -> None:
    listen = tls(authority.issue("localhost"), more=f"&client_ca={authority.file}")
    probe = authority.issue("probe", organization="Example, Inc")
    (tmp_path / "other").mkdir()
    stranger = Authority(tmp_path / "other").issue("probe")
    now = datetime.datetime(2021, 1, 1, tzinfo=datetime.UTC)
    expired = authority.issue("expired", until=now)
    async with running(tmp_path, REPLY, listen=listen) as worker:
        async with Raw(worker.port, authority.client(show=probe)) as client:
            client.send(GET)
            assert status_of((await client.answer())[0]) == 418
            (connection,) = worker.listener.connections
            certificate = connection.peer.certificate
            assert certificate is not None
            assert certificate.subject == "CN=probe,O=Example\\, Inc"
            assert (certificate.common_name, certificate.names) == ("probe", ("probe",))
            assert len(certificate.fingerprint) == 64
        for shown_ in (None, stranger, expired):
            await refused(lambda s=shown_: Raw(worker.port, authority.client(show=s)))  # type: ignore[misc]
        await eventually(lambda: worker.listener.counts.handshakes == 3)


async def test_a_client_certificate_may_be_left_out_where_it_is_optional(
    tmp_path: Path, authority: Authority
) -> None:
    more = f"&client=optional&client_ca={authority.file}"
    (tmp_path / "other").mkdir()
    stranger = Authority(tmp_path / "other").issue("probe")
    listen = tls(authority.issue("localhost"), more=more)
    async with running(tmp_path, REPLY, listen=listen) as worker:
        async with Raw(worker.port, authority.client()) as client:
            client.send(GET)
            assert status_of((await client.answer())[0]) == 418
            assert next(iter(worker.listener.connections)).peer.certificate is None
        await refused(lambda: Raw(worker.port, authority.client(show=stranger)))


# -- other things than a handshake


async def test_http_without_tls_is_told_so(tmp_path: Path, authority: Authority) -> None:
    async with (
        running(tmp_path, REPLY, listen=tls(authority.issue("localhost"))) as worker,
        Raw(worker.port) as client,
    ):
        client.send(GET * 1000)
        head, body = await client.answer()
        assert (status_of(head), json.loads(body)["code"]) == (400, "tls_required")
        assert fields_of(head)[b"connection"] == b"close"
        assert worker.listener.counts.plain == 1


@pytest.mark.parametrize("data", [b"\x00\x01\x02", b"\x80\x2e\x01\x00\x02", b"\r\n\r\n"])
async def test_what_is_neither_is_closed_without_a_word(
    data: bytes, tmp_path: Path, authority: Authority
) -> None:
    async with (
        running(tmp_path, REPLY, listen=tls(authority.issue("localhost"))) as worker,
        Raw(worker.port) as client,
    ):
        client.send(data)
        assert await ended(client) == b""
        assert worker.listener.counts.plain == 1


async def ended(client: Raw) -> bytes:
    """What came until the connection ended, in order or by a reset."""
    try:
        return await client.rest()
    except ConnectionResetError:
        return b""


async def test_a_handshake_on_a_plain_port_is_a_bad_request(
    tmp_path: Path, authority: Authority
) -> None:
    hello = ssl.MemoryBIO()
    speaking = authority.client().wrap_bio(ssl.MemoryBIO(), hello, server_hostname="a.example")
    with pytest.raises(ssl.SSLWantReadError):
        speaking.do_handshake()
    async with running(tmp_path, REPLY) as worker, Raw(worker.port) as client:
        client.send(hello.read())
        assert status_of(await client.head()) == 400


async def test_silence_and_half_a_handshake_end_in_time(
    tmp_path: Path, authority: Authority
) -> None:
    listen = tls(authority.issue("localhost"), more="&handshake_s=0.1")
    async with (
        running(tmp_path, REPLY, listen=listen) as worker,
        Raw(worker.port) as silent,
        Raw(worker.port) as half,
    ):
        half.send(b"\x16\x03\x01\x02\x00\x01\x00")
        assert await ended(silent) == b""
        assert await ended(half) == b""
        counts = worker.listener.counts
        assert counts.slow + counts.handshakes == 2
        await eventually(lambda: worker.listener.arriving == 0)


async def test_a_flood_of_silent_connections_keeps_nobody_out(
    tmp_path: Path, authority: Authority
) -> None:
    listen = tls(authority.issue("localhost"), more="&arriving=20")
    async with running(tmp_path, REPLY, listen=listen) as worker:
        flood = [socket.create_connection(("127.0.0.1", worker.port)) for _ in range(100)]
        try:
            await eventually(lambda: worker.listener.counts.cut >= 80)
            assert worker.listener.arriving <= 20
            async with Raw(worker.port, authority.client()) as client:
                client.send(GET)
                assert status_of((await client.answer())[0]) == 418
            for one in flood:
                one.setblocking(False)
            await eventually(lambda: sum(map(is_over, flood)) >= 80)
        finally:
            for one in flood:
                one.close()
        await eventually(lambda: worker.listener.arriving == 0)


def is_over(one: socket.socket) -> bool:
    """Whether the other side has closed."""
    try:
        return one.recv(1) == b""
    except BlockingIOError:
        return False
    except ConnectionError:
        return True


async def test_connections_and_handshakes_count_together_against_the_limit(
    tmp_path: Path, authority: Authority
) -> None:
    listen = tls(authority.issue("localhost"), more="&connections=1")
    async with (
        running(tmp_path, REPLY, listen=listen) as worker,
        Raw(worker.port, authority.client()) as first,
    ):
        first.send(GET)
        await first.answer()
        await refused(lambda: Raw(worker.port, authority.client()))
        assert worker.listener.counts.full == 1


async def test_renegotiation_is_refused(tmp_path: Path, authority: Authority) -> None:
    listen = tls(authority.issue("localhost"))
    async with running(tmp_path, REPLY, listen=listen) as worker:
        process = await asyncio.create_subprocess_exec(
            *("openssl", "s_client", "-tls1_2", "-connect", f"127.0.0.1:{worker.port}"),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        async with asyncio.timeout(10):
            told, _ = await process.communicate(b"R\n")
        assert b"RENEGOTIATING" in told and b"no renegotiation" in told


# -- how it ends


async def test_a_large_body_passes_both_ways_and_a_slow_reader_holds_it_back(
    tmp_path: Path, authority: Authority
) -> None:
    size = 8 << 20
    head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size
    post = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % size
    script = [Repeats([Reads(b"end"), Sends(head), Floods(size)])]
    async with (
        Scripted(script) as upstream,
        running(
            tmp_path, one_rule(upstream.port), listen=tls(authority.issue("localhost"))
        ) as worker,
        Raw(worker.port, authority.client()) as client,
    ):
        client.send(post + b"x" * (size - 3) + b"end")
        answer, body = await client.answer()
        assert (status_of(answer), len(body)) == (200, size)
        assert len(upstream.received.partition(b"\r\n\r\n")[2]) == size


async def test_an_instance_that_does_not_read_holds_the_client_back(
    tmp_path: Path, authority: Authority
) -> None:
    size = 32 << 20
    script = [Reads(), StopsReading(), Holds(go := asyncio.Event()), ReadsAgain()]
    async with (
        Scripted(script) as upstream,
        running(
            tmp_path, one_rule(upstream.port), listen=tls(authority.issue("localhost"))
        ) as worker,
        Raw(worker.port, authority.client()) as client,
    ):
        client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % size)
        client.send(b"x" * size)
        await eventually(lambda: is_held(worker))
        assert len(upstream.received) < size // 2
        go.set()
        await eventually(lambda: len(upstream.received) > size, 20)


def is_held(worker: Worker) -> bool:
    """Whether a connection is not being read from."""
    return any(not one.transport.is_reading() for one in worker.listener.connections)


async def test_what_switches_protocols_goes_through_both_ways(
    tmp_path: Path, authority: Authority
) -> None:
    switch = b"HTTP/1.1 101 S\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\nhello"
    ask = GET.replace(b"\r\n\r\n", b"\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n")
    async with (
        Scripted([Reads(), Sends(switch), Reads(b"ping"), Sends(b"pong")]) as upstream,
        running(
            tmp_path, one_rule(upstream.port), listen=tls(authority.issue("localhost"))
        ) as worker,
    ):
        async with Raw(worker.port, authority.client()) as client:
            client.send(ask)
            assert status_of(await client.head()) == 101
            assert await client.exactly(5) == b"hello"
            client.send(b"ping")
            assert await client.exactly(4) == b"pong"
            client.writer.close()
            await eventually(lambda: upstream.connections[0].ended)
        await eventually(lambda: not worker.listener.connections)


async def test_a_refusal_is_read_by_a_client_that_still_sends(
    tmp_path: Path, authority: Authority
) -> None:
    """It sends all that it has before it reads: no reset may take the answer away from it."""
    listen = tls(authority.issue("localhost"), more="&body=1000&linger_s=20")
    head = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3000000\r\n\r\n"
    async with running(tmp_path, REPLY, listen=listen) as worker:

        def post() -> bytes:
            raw = socket.create_connection(("127.0.0.1", worker.port), timeout=10)
            with authority.client().wrap_socket(raw, server_hostname="localhost") as client:
                client.sendall(head)
                for _ in range(300):
                    client.sendall(b"x" * 10_000)
                return client.recv(65536)

        assert status_of(await asyncio.to_thread(post)) == 413


async def test_a_client_that_leaves_in_order_or_by_force_cancels_the_upstream(
    tmp_path: Path, authority: Authority
) -> None:
    async with (
        Scripted([Reads()]) as upstream,
        running(
            tmp_path, one_rule(upstream.port), listen=tls(authority.issue("localhost"))
        ) as worker,
    ):
        for leave in ("close", "abort"):
            async with Raw(worker.port, authority.client()) as client:
                client.send(GET)
                count = len(upstream.connections)
                await eventually(lambda c=count: len(upstream.connections) > c)  # type: ignore[misc]
                getattr(client.writer.transport, leave)()
                await eventually(lambda: upstream.connections[-1].ended)
        await eventually(lambda: not worker.listener.connections)
        await eventually(lambda: worker.gateway.in_flight.now == 0)


async def test_an_answer_cut_short_does_not_look_whole(
    tmp_path: Path, authority: Authority
) -> None:
    """Without a length, only the absence of a close_notify says so."""
    half = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n"
    async with (
        Scripted([Reads(), Sends(half), Closes()]) as upstream,
        running(
            tmp_path, one_rule(upstream.port), listen=tls(authority.issue("localhost"))
        ) as worker,
    ):
        raw = socket.create_connection(("127.0.0.1", worker.port))

        def read() -> bytes:
            with authority.client().wrap_socket(
                raw, server_hostname="localhost", suppress_ragged_eofs=False
            ) as client:
                client.sendall(b"GET / HTTP/1.0\r\nHost: a\r\n\r\n")
                data = b""
                while piece := client.recv(65536):
                    data += piece
                return data

        with pytest.raises(OSError):
            await asyncio.to_thread(read)


# -- certificates that are replaced


async def test_new_files_serve_new_connections_without_a_restart(
    tmp_path: Path, authority: Authority
) -> None:
    listen = tls(authority.issue("localhost"))
    async with (
        running(tmp_path, REPLY, listen=listen) as worker,
        Raw(worker.port, authority.client()) as old,
    ):
        before = old.writer.get_extra_info("peercert")["serialNumber"]
        authority.issue("localhost")
        await eventually(lambda: certificates(worker).replaced == 1)
        async with Raw(worker.port, authority.client()) as new:
            assert new.writer.get_extra_info("peercert")["serialNumber"] != before
        old.send(GET)
        assert status_of((await old.answer())[0]) == 418


def certificates(worker: Worker):  # type: ignore[no-untyped-def]
    found = worker.listener.certificates
    assert found is not None
    return found


async def test_unusable_new_files_are_said_and_the_old_ones_go_on(
    tmp_path: Path, authority: Authority
) -> None:
    cert, key = authority.issue("localhost")
    good = cert.read_bytes(), key.read_bytes()
    async with running(tmp_path, REPLY, listen=tls((cert, key))) as worker:
        for number, spoil in enumerate(
            (
                lambda: key.write_bytes(authority.issue("other")[1].read_bytes()),
                lambda: key.write_bytes(b"nonsense"),
                cert.unlink,
            ),
            start=1,
        ):
            spoil()
            await eventually(lambda n=number: certificates(worker).refused == n)  # type: ignore[misc]
            async with Raw(worker.port, authority.client()) as client:
                client.send(GET)
                assert status_of((await client.answer())[0]) == 418
        cert.write_bytes(good[0])
        key.write_bytes(good[1])
        await eventually(lambda: certificates(worker).replaced == 1)
        instance = worker.telemetry.instance
    log = (tmp_path / "home" / "log" / f"{instance}.jsonl").read_text()
    whys = [
        json.loads(line)["why"] for line in log.splitlines() if '"certificates_refused"' in line
    ]
    assert [str(key) in why or str(cert) in why for why in whys] == [True] * 3
    assert "does not belong" in whys[0] and "no private key" in whys[1]
    assert "PRIVATE" not in log and "nonsense" not in log


async def test_certificates_replaced_under_load_lose_no_request(
    tmp_path: Path, authority: Authority
) -> None:
    rounds = 3
    listen = tls(authority.issue("localhost"))
    async with (
        Scripted(answers()) as upstream,
        running(tmp_path, one_rule(upstream.port), listen=listen) as worker,
    ):
        done = asyncio.Event()
        serials: set[str] = set()

        async def visit() -> int:
            count = 0
            while not done.is_set():
                async with Raw(worker.port, authority.client()) as client:
                    serials.add(client.writer.get_extra_info("peercert")["serialNumber"])
                    for _ in range(5):
                        client.send(GET)
                        assert (await client.answer())[1] == b"ok"
                        count += 1
            return count

        visitors = [asyncio.create_task(visit()) for _ in range(4)]
        for number in range(1, rounds + 1):
            authority.issue("localhost")
            await eventually(lambda n=number: certificates(worker).replaced == n, 10)  # type: ignore[misc]
            await eventually(lambda n=number: len(serials) > n, 10)  # type: ignore[misc]
        done.set()
        counts = await asyncio.gather(*visitors)
        assert min(counts) > 0
        assert worker.listener.counts.handshakes == 0


# -- at the start


def at(year: int) -> datetime.datetime:
    return datetime.datetime(year, 1, 1, tzinfo=datetime.UTC)


async def test_everything_that_is_wrong_with_the_files_is_said_at_once(
    tmp_path: Path, authority: Authority
) -> None:
    good = authority.issue("good")
    other = authority.issue("other")
    expired = authority.issue("expired", until=at(2021))
    early = authority.issue("early", since=at(2119))
    locked = authority.issue("locked", passphrase="secret")
    (tmp_path / "empty.pem").touch()
    pairs = [
        good,
        expired,
        early,
        locked,
        (good[0], other[1]),
        (tmp_path / "missing.pem", good[1]),
        (tmp_path / "empty.pem", good[1]),
        (good[0], tmp_path / "empty.pem"),
        (tmp_path, good[1]),
    ]
    with pytest.raises(ConfigurationFault) as caught:
        async with running(tmp_path, REPLY, listen=tls(*pairs)):
            pass
    faults = "\n".join(caught.value.faults)
    assert len(caught.value.faults) == 8
    for said in (
        "expired.pem expired at 2021-01-01",
        "early.pem is valid from 2119-01-01",
        "locked.key asks for a passphrase",
        "other.key does not belong",
        "missing.pem cannot be read: No such file",
        "empty.pem holds no certificate",
        "empty.pem holds no private key",
        "cannot be read: Is a directory",
    ):
        assert said in faults
    assert "secret" not in faults


async def test_a_client_ca_that_is_none_is_said(tmp_path: Path, authority: Authority) -> None:
    (tmp_path / "empty.pem").touch()
    listen = tls(authority.issue("localhost"), more=f"&client_ca={tmp_path}/empty.pem")
    with pytest.raises(ConfigurationFault, match="client CA"):
        async with running(tmp_path, REPLY, listen=listen):
            pass


async def test_the_metrics_tell_of_listeners_and_certificates(
    tmp_path: Path, authority: Authority
) -> None:
    listen = tls(authority.issue("localhost")) + " 127.0.0.1:0"
    limits = Limits()
    async with (
        running(tmp_path, REPLY, listen=listen, limits=limits) as worker,
        Raw(worker.port, authority.client()) as client,
    ):
        client.send(GET)
        await client.answer()
        told = worker.telemetry.metrics.render().decode()
    name = 'listener="tls://127.0.0.1:0"'
    assert f'gateway_connections{{{name},state="open"}} 1.0' in told
    assert f'gateway_connections_total{{{name},result="accepted"}} 1.0' in told
    assert f"gateway_certificate_expires_seconds{{{name}}} 4.7" in told
    assert 'gateway_connections{listener="127.0.0.1:0",state="open"} 0.0' in told
