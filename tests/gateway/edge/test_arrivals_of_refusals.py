"""However the bytes of a refused request arrive, no instance is told anything ambiguous.

An instance may have heard a beginning (a head goes on before the end of its body is there), but
never a request that looks complete, and nothing of what came behind it.
"""

import asyncio
from pathlib import Path

import pytest

from tests.gateway.edge.test_refusals import MALFORMED, OTHERS
from tests.support import strict_http
from tests.support.gateways import GET, Raw, one_rule, running
from tests.support.scripted import Scripted, answers, eventually

REFUSED = MALFORMED | {name: request for name, (_, request) in OTHERS.items()}
SHORT = {name: request for name, request in REFUSED.items() if len(request) < 200}


def complete(heard: bytes) -> list[bytes]:
    """The targets of the requests that an instance could have taken for complete."""
    found: list[bytes] = []
    while True:
        try:
            message, heard = strict_http.parse(heard)
        except strict_http.Incomplete:
            return found
        found.append(message.target)


@pytest.mark.parametrize("name", REFUSED)
async def test_between_good_requests_in_one_segment_only_those_before_it_are_heard(
    name: str, tmp_path: Path
) -> None:
    async with (
        Scripted(answers()) as upstream,
        running(tmp_path, one_rule(upstream.port)) as worker,
        Raw(worker.port) as client,
    ):
        client.send(GET + REFUSED[name] + GET.replace(b" / ", b" /behind "))
        answer = await client.rest()
        await eventually(lambda: not worker.gateway.in_flight.now)
        assert answer.startswith(b"HTTP/1.1 200 OK")
        assert b"\r\nconnection: close\r\n" in answer
        assert complete(bytes(upstream.connections[0].received)) == [b"/"]
        assert all(not complete(bytes(one.received)) for one in upstream.connections[1:])
        assert b"/behind" not in upstream.received


@pytest.mark.parametrize("name", SHORT)
async def test_split_at_any_byte_it_is_refused_and_never_heard_whole(
    name: str, tmp_path: Path
) -> None:
    request = SHORT[name]
    async with (
        Scripted([]) as upstream,
        running(tmp_path, one_rule(upstream.port)) as worker,
    ):
        for at in range(1, len(request)):
            async with Raw(worker.port) as client:
                client.send(request[:at])
                await asyncio.sleep(0)
                await asyncio.sleep(0)
                client.send(request[at:])
                assert (await client.rest()).startswith((b"HTTP/1.1 4", b"HTTP/1.1 5"))
        await eventually(lambda: not worker.gateway.in_flight.now)
        assert all(not complete(bytes(one.received)) for one in upstream.connections)
