from __future__ import annotations

import asyncio
import threading

import pytest

from chassis.disk.commit import GroupCommit
from chassis.errors import StoreUnavailable
from tests.support.waiting import until


class Held:
    """A commit that waits for `go`, and remembers its batches."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.batches: list[list[int]] = []

    def __call__(self, items: list[int]) -> list[int | Exception]:
        self.batches.append(items)
        assert self.go.wait(10)
        return [ValueError(str(item)) if item < 0 else item * 10 for item in items]


async def test_what_gathers_during_a_commit_is_committed_as_one_in_order() -> None:
    held = Held()
    commits = GroupCommit[int, int]("c", held)
    first = commits.submit(1)
    await until(lambda: held.batches)
    rest = [commits.submit(n) for n in range(2, 9)]
    held.go.set()
    assert await first == 10
    assert await asyncio.gather(*rest) == [n * 10 for n in range(2, 9)]
    assert held.batches == [[1], list(range(2, 9))]
    await commits.close()


async def test_a_batch_is_bounded() -> None:
    held = Held()
    commits = GroupCommit[int, int]("c", held, limit=3)
    held.go.set()
    assert await asyncio.gather(*[commits.submit(n) for n in range(10)]) == [
        n * 10 for n in range(10)
    ]
    assert max(map(len, held.batches)) <= 3
    await commits.close()


async def test_an_outcome_that_is_an_exception_reaches_its_caller_only() -> None:
    held = Held()
    held.go.set()
    commits = GroupCommit[int, int]("c", held)
    results = await asyncio.gather(*map(commits.submit, (1, -2, 3)), return_exceptions=True)
    assert results[::2] == [10, 30]
    assert isinstance(results[1], ValueError)
    await commits.close()


async def test_a_commit_that_raises_fails_its_batch_and_not_the_next() -> None:
    def commit(items: list[int]) -> list[int]:
        if 0 in items:
            raise OSError("no")
        return items

    commits = GroupCommit[int, int]("c", commit, limit=1)
    with pytest.raises(OSError, match="no"):
        await commits.submit(0)
    assert await commits.submit(1) == 1
    await commits.close()


async def test_a_cancelled_caller_changes_nothing_for_the_others() -> None:
    held = Held()
    commits = GroupCommit[int, int]("c", held)
    futures = [commits.submit(n) for n in range(4)]
    futures[1].cancel()
    held.go.set()
    assert [await futures[n] for n in (0, 2, 3)] == [0, 20, 30]
    assert [item for batch in held.batches for item in batch] == [0, 1, 2, 3]
    await commits.close()


async def test_close_commits_what_was_submitted_and_refuses_the_rest() -> None:
    held = Held()
    commits = GroupCommit[int, int]("c", held, limit=2)
    futures = [commits.submit(n) for n in range(5)]
    closing = [asyncio.create_task(commits.close()) for _ in range(2)]
    await asyncio.sleep(0)
    with pytest.raises(StoreUnavailable, match="c is closed"):
        commits.submit(9)
    held.go.set()
    await asyncio.gather(*closing)
    assert [await future for future in futures] == [0, 10, 20, 30, 40]
    assert not [thread for thread in threading.enumerate() if thread.name == "c"]


async def test_closing_one_that_was_never_used_is_harmless() -> None:
    commits = GroupCommit[int, int]("c", Held())
    await commits.close()
    with pytest.raises(StoreUnavailable):
        commits.submit(1)
