"""The system's resolver, asked so that one that hangs holds up nobody else.

It cannot be told to stop. In the event loop's own pool a few names that nobody answers for would
take every thread there is, and the end of the process would wait for them: so each look-up has a
thread to itself, which the process may leave behind.
"""

from __future__ import annotations

import asyncio
import errno
import socket
import threading
from collections.abc import Callable, Collection
from contextlib import suppress
from typing import TypeVar

from chassis.settling import settle

T = TypeVar("T")


async def addresses(host: str, port: int) -> Collection[str]:
    """The addresses of a host by the system's hosts file, its name servers, its families of
    addresses. `OSError` when it has none or nobody can tell, `UnicodeError` when it is no name."""
    return await aside(lambda: _resolve(host, port), f"the look-up of {host}")


async def aside(work: Callable[[], T], name: str) -> T:
    """What `work` gives, from a thread of its own that goes on when nobody waits any more."""
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[T] = loop.create_future()
    thread = threading.Thread(target=_run, args=(work, loop, answer), name=name, daemon=True)
    try:
        thread.start()
    except RuntimeError as fault:
        raise OSError(errno.EAGAIN, str(fault)) from fault
    return await answer


def _resolve(host: str, port: int) -> set[str]:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG)
    return {str(place[0]) for *_, place in found}


def _run(work: Callable[[], T], loop: asyncio.AbstractEventLoop, answer: asyncio.Future[T]) -> None:
    outcome: T | Exception
    try:
        outcome = work()
    except Exception as fault:
        outcome = fault
    with suppress(RuntimeError):  # the loop has gone, and with it who waited
        loop.call_soon_threadsafe(settle, answer, outcome)
