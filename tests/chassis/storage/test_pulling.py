from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator

import pytest

from chassis.storage.pulling import Abandoned, Pull


async def pieces() -> AsyncIterator[bytes]:
    yield b"a"
    yield b"b"


async def test_a_thread_reads_the_pieces_in_order() -> None:
    with Pull(pieces()) as pull:
        assert await asyncio.to_thread(list, pull) == [b"a", b"b"]


async def test_what_the_pieces_raise_comes_out_of_the_block_also_when_it_is_a_timeout() -> None:
    async def slow() -> AsyncIterator[bytes]:
        yield b"a"
        raise TimeoutError("too slow")

    with pytest.raises(TimeoutError, match="too slow"), Pull(slow()) as pull:
        await asyncio.to_thread(list, pull)


def test_a_thread_does_not_wait_for_a_loop_that_has_gone() -> None:
    loop = asyncio.new_event_loop()

    async def opened() -> Pull:
        return Pull(pieces())

    pull = loop.run_until_complete(opened())
    ended: list[BaseException] = []

    def read() -> None:
        try:
            list(pull)
        except Abandoned as fault:
            ended.append(fault)

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    until = time.monotonic() + 10
    while not loop._ready and time.monotonic() < until:  # type: ignore[attr-defined]
        pass  # until the thread waits for the first piece
    loop.close()
    thread.join(10)
    assert not thread.is_alive()
    assert len(ended) == 1
