"""What the kernel tells of an accept queue."""

from __future__ import annotations

import socket

from chassis.http.serving import bind
from gateway.edge.accept_queue import overflows, queue_of


def test_who_waits_is_counted_and_how_many_may() -> None:
    with bind("127.0.0.1", 0, backlog=5) as listening:
        assert queue_of(listening) == (0, 5)
        with (
            socket.create_connection(listening.getsockname()),
            socket.create_connection(listening.getsockname()),
        ):
            assert queue_of(listening) == (2, 5)
            listening.accept()[0].close()
            assert queue_of(listening) == (1, 5)


def test_a_full_queue_is_counted() -> None:
    before = overflows()
    assert before is not None
    with bind("127.0.0.1", 0, backlog=1) as listening:
        waiting = [socket.socket() for _ in range(8)]
        for one in waiting:
            one.setblocking(False)
            one.connect_ex(listening.getsockname())
        assert queue_of(listening) == (2, 1)
        for one in waiting:
            one.close()
    after = overflows()
    assert after is not None and after >= before + 6


def test_a_unix_socket_has_no_such_queue() -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listening:
        assert queue_of(listening) is None
