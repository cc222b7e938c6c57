"""The system's resolver: what it tells, and whom it holds up when it hangs."""

from __future__ import annotations

import asyncio
import threading

import pytest
import uvloop

from chassis.discovery.lookup import addresses, aside

NAME = "a look-up of the test"


class Hanging:
    """Work that ends when it is let go, or by itself so that a failing test ends too."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.thread: threading.Thread | None = None

    def __call__(self) -> str:
        self.thread = threading.current_thread()
        self.go.wait(10)
        return "late"


@pytest.fixture
def hanging():
    work = Hanging()
    yield work
    work.go.set()
    for thread in threading.enumerate():
        if thread.name == NAME:
            thread.join(10)
            assert not thread.is_alive()


async def test_the_system_resolves_names_and_plain_addresses() -> None:
    assert "127.0.0.1" in await addresses("localhost", 80)
    assert await addresses("127.0.0.5", 80) == {"127.0.0.5"}


@pytest.mark.parametrize("host", ["a..b", ".", "x" * 64])
async def test_what_is_no_name_is_said_to_whoever_waits(host: str) -> None:
    with pytest.raises(UnicodeError, match="label"):
        await addresses(host, 80)


async def test_each_has_a_thread_that_a_process_may_leave_behind(hanging: Hanging) -> None:
    looks = [asyncio.ensure_future(aside(hanging, NAME)) for _ in range(20)]
    assert await asyncio.get_running_loop().run_in_executor(None, lambda: "at once") == "at once"
    assert "127.0.0.1" in await addresses("localhost", 80)
    assert not any(look.done() for look in looks)
    assert all(thread.daemon for thread in threading.enumerate() if thread.name == NAME)
    hanging.go.set()
    assert await asyncio.gather(*looks) == ["late"] * 20


async def test_who_stops_waiting_hears_nothing_more(hanging: Hanging) -> None:
    told = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))
    look = asyncio.ensure_future(aside(hanging, NAME))
    await asyncio.sleep(0)
    look.cancel()
    with pytest.raises(asyncio.CancelledError):
        await look
    hanging.go.set()
    assert await aside(lambda: "the next", NAME) == "the next"
    assert told == []


def test_a_loop_ends_while_a_look_up_hangs_and_the_answer_goes_nowhere(hanging: Hanging) -> None:
    async def begin() -> asyncio.Task[str]:
        look = asyncio.create_task(aside(hanging, NAME))
        await asyncio.sleep(0)
        return look

    assert uvloop.run(begin()).cancelled()
    assert not hanging.go.is_set()
    assert [thread.name for thread in threading.enumerate()].count(NAME) == 1


async def test_a_process_that_may_have_no_more_threads_says_so() -> None:
    before = threading.stack_size(1 << 46)
    try:
        with pytest.raises(OSError, match="thread"):
            await aside(lambda: "never", NAME)
    finally:
        threading.stack_size(before)
