"""What every adapter of the tables port does."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any, ClassVar

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chassis.clock import SYSTEM, ManualClock
from chassis.contracts.keys import Key
from chassis.errors import ConfigurationFault, Faulty, SchemaFault, StoreUnavailable, Unprocessable
from chassis.storage import Tables, open_tables
from tests.support.cancelling import interrupted
from tests.support.keyspaces import shared
from tests.support.rows import Alone, Colour, Every, Fleeting, Grade, OnlyKey, Place, Waning

ROWS = (Place, Every, Alone, OnlyKey, Fleeting, Waning)
ADAPTERS = ("sqlite", "cassandra")
Open = Callable[[], Tables]


@pytest.fixture(params=ADAPTERS)
def opener(request: pytest.FixtureRequest, tmp_path: Path, clock: ManualClock) -> Open:
    """Opens the same store each time, as several processes would."""
    if request.param == "sqlite":
        return lambda: open_tables(f"sqlite://{tmp_path}/store/rows.db", clock)
    keyspace = shared()
    keyspace.empty(*[row.key.table for row in ROWS])
    return lambda: open_tables(keyspace.url)


@pytest.fixture
def clock() -> ManualClock:
    """Time of the embedded store; a server has its own."""
    return ManualClock()


@pytest.fixture
async def tables(opener: Open) -> AsyncIterator[Tables]:
    tables = opener()
    await tables.prepare(*ROWS)
    yield tables
    await tables.close()


async def test_many_rows_are_read_in_the_order_of_their_keys(tables: Tables) -> None:
    places = [Place("p", f"t{number}", number) for number in range(300)]
    for at in range(0, 300, 50):
        await tables.put(*places[at : at + 50])
    keys = [(one.profile_id, one.title_id) for one in reversed(places)]
    keys[100:100] = [("p", "absent"), ("nobody", "t1"), keys[0]]
    wanted: list[Place | None] = [*reversed(places)]
    wanted[100:100] = [None, None, places[-1]]
    assert await tables.get_many(Place, keys) == wanted
    assert await tables.get_many(Place, []) == []


async def test_a_row_is_read_back_with_every_kind_of_column(tables: Tables) -> None:
    row = Every(
        region="eu",
        shard=-3,
        grade=Grade.HIGH,
        name="Amélie 🎬",
        ratio=0.1,
        live=False,
        blob=b"\x00\xff",
        note="",
        maybe=False,
        colour=Colour.BLUE,
        mode="off",
        intervals=((0, 5), (9, 12)),
        cells={"b": 1.5, "a": 2.0},
        where=Place("p", "t", 7),
    )
    await tables.put(row)
    found = await tables.get(Every, "eu", -3, Grade.HIGH, "Amélie 🎬")
    assert found == row
    assert type(found.live) is bool
    assert type(found.grade) is Grade


async def test_absent_values_stay_absent(tables: Tables) -> None:
    await tables.put(Every(region="eu", shard=1, grade=Grade.LOW, name="x"))
    found = await tables.get(Every, "eu", 1, Grade.LOW, "x")
    assert found is not None
    assert (found.note, found.maybe, found.where, found.cells) == (None, None, None, {})


async def test_a_missing_row_is_none(tables: Tables) -> None:
    assert await tables.get(Place, "p", "t") is None
    assert await tables.version(Place, "p", "t") is None


async def test_a_partial_key_is_refused(tables: Tables) -> None:
    with pytest.raises(TypeError, match="profile_id, title_id"):
        await tables.get(Place, "p")


async def test_the_last_put_wins(tables: Tables) -> None:
    await tables.put(Place("p", "t", 2), Alone("a", 1), Place("p", "t", 1))
    assert await tables.get(Place, "p", "t") == Place("p", "t", 1)
    await tables.put(Place("p", "t", 3))
    assert await tables.get(Place, "p", "t") == Place("p", "t", 3)
    assert await tables.get(Alone, "a") == Alone("a", 1)


async def test_a_row_of_nothing_but_key_can_be_put_again(tables: Tables) -> None:
    await tables.put(OnlyKey("a", "x"))
    await tables.put(OnlyKey("a", "x"))
    await tables.put_versioned([(OnlyKey("a", "y"), 4)])
    assert await tables.page(OnlyKey, "a") == [OnlyKey("a", "x"), OnlyKey("a", "y")]


async def test_a_row_of_nothing_but_key_can_be_replaced_by_itself(tables: Tables) -> None:
    assert not await tables.replace(OnlyKey("b", "x"), OnlyKey("b", "x"))
    assert await tables.insert(OnlyKey("b", "x"))
    assert await tables.replace(OnlyKey("b", "x"), OnlyKey("b", "x"))
    assert await tables.delete(OnlyKey, "b", "x", only=OnlyKey("b", "x"))
    assert not await tables.delete(OnlyKey, "b", "x", only=OnlyKey("b", "x"))


async def test_a_page_is_one_partition_in_clustering_order(tables: Tables) -> None:
    await tables.put(*[Place("p", f"t{n}", n) for n in (3, 1, 2)], Place("other", "t0"))
    assert [row.title_id for row in await tables.page(Place, "p")] == ["t1", "t2", "t3"]
    assert [row.title_id for row in await tables.page(Place, "p", reverse=True, limit=2)] == [
        "t3",
        "t2",
    ]
    assert await tables.page(Place, "p", limit=0) == []


async def test_paging_goes_on_behind_the_last_row_seen(tables: Tables) -> None:
    rows = [
        Every(region="eu", shard=1, grade=grade, name=name)
        for grade in Grade
        for name in ("a", "b", "c")
    ]
    await tables.put(*rows)
    for reverse in (False, True):
        seen: list[Every] = []
        after = None
        while page := await tables.page(Every, "eu", 1, limit=2, after=after, reverse=reverse):
            seen += page
            after = (page[-1].grade, page[-1].name)
        assert seen == (rows[::-1] if reverse else rows)


async def test_a_scan_meets_every_row_once(tables: Tables) -> None:
    rows = {Place(f"p{n % 7}", f"t{n}", n) for n in range(700)}
    await tables.put(*rows, together=False)
    found = [row async for row in tables.scan(Place)]
    assert len(found) == 700
    assert set(found) == rows


async def test_a_lower_or_equal_version_is_skipped(tables: Tables) -> None:
    await tables.put_versioned([(Place("p", "t", 5), 50), (Place("p", "u", 1), 1)])
    await tables.put_versioned([(Place("p", "t", 4), 40), (Place("p", "u", 2), 2)])
    await tables.put_versioned([(Place("p", "t", 5), 50)])
    assert await tables.get(Place, "p", "t") == Place("p", "t", 5)
    assert await tables.get(Place, "p", "u") == Place("p", "u", 2)
    assert await tables.version(Place, "p", "t") == 50


async def test_of_two_rows_under_one_version_the_first_stays_where_the_store_says_so(
    tables: Tables,
) -> None:
    await tables.put_versioned([(Place("p", "t", 5), 50)])
    await tables.put_versioned([(Place("p", "t", 9), 50)])
    found = await tables.get(Place, "p", "t")
    either = Place("p", "t", 9)
    assert found == Place("p", "t", 5) or (
        not tables.capabilities.first_of_equal_versions and found == either
    )
    assert await tables.version(Place, "p", "t") == 50


async def test_versions_take_the_size_of_microseconds_since_the_epoch(tables: Tables) -> None:
    version = 1_900_000_000_000_000
    await tables.put_versioned([(Alone("a", 1), version), (Alone("a", 2), version + 1)])
    assert await tables.version(Alone, "a") == version + 1
    assert await tables.get(Alone, "a") == Alone("a", 2)


Batches = st.lists(
    st.lists(st.tuples(st.sampled_from("abcd"), st.integers(0, 9)), max_size=6), max_size=8
)


_EXAMPLES = itertools.count()


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(batches=Batches, replays=st.lists(st.integers(0, 7), max_size=5))
def test_versioned_batches_in_any_order_and_number_end_as_the_highest_of_each_key(
    opener: Open, batches: list[list[tuple[str, int]]], replays: list[int]
) -> None:
    keys = f"{next(_EXAMPLES)}-"

    async def run() -> None:
        tables = opener()
        await tables.prepare(Alone)
        again = [batches[at] for at in replays if at < len(batches)]
        model: dict[str, int] = {}
        for batch in batches + again:
            named = [(keys + key, version) for key, version in batch]
            await tables.put_versioned([(Alone(key, version), version) for key, version in named])
            for key, version in named:
                model[key] = max(version, model.get(key, -1))
        found = [row async for row in tables.scan(Alone) if row.id.startswith(keys)]
        assert {row.id: row.value for row in found} == model
        for key, version in model.items():
            assert await tables.version(Alone, key) == version
        await tables.close()

    asyncio.run(run())


async def test_of_many_inserts_of_one_key_one_wins(opener: Open, tables: Tables) -> None:
    other = opener()
    both = (tables, other)
    won = await asyncio.gather(*[both[n % 2].insert(Alone("a", n)) for n in range(16)])
    assert sum(won) == 1
    assert await tables.get(Alone, "a") == Alone("a", won.index(True))
    await other.close()


async def test_replace_needs_the_row_as_it_was(tables: Tables) -> None:
    old = Every(region="eu", shard=1, grade=Grade.LOW, name="x", cells={"a": 1.0, "b": 2.0})
    same = msgspec.structs.replace(old, cells={"b": 2.0, "a": 1.0})
    new = msgspec.structs.replace(old, note="changed", maybe=True)
    assert not await tables.replace(old, new)
    assert await tables.insert(old)
    assert await tables.replace(same, new)
    assert not await tables.replace(old, new)
    assert await tables.get(Every, "eu", 1, Grade.LOW, "x") == new


async def test_of_many_replaces_of_one_row_one_wins(tables: Tables) -> None:
    await tables.insert(Alone("a", 0))
    tries = [tables.replace(Alone("a", 0), Alone("a", n)) for n in range(1, 17)]
    assert sum(await asyncio.gather(*tries)) == 1


async def test_replace_never_moves_a_row(tables: Tables) -> None:
    with pytest.raises(Faulty, match="one type and key"):
        await tables.replace(Alone("a"), Alone("b"))


async def test_delete_says_whether_there_was_a_row(tables: Tables) -> None:
    await tables.insert(Alone("a", 1))
    assert not await tables.delete(Alone, "a", only=Alone("a", 2))
    assert await tables.delete(Alone, "a", only=Alone("a", 1))
    assert not await tables.delete(Alone, "a", only=Alone("a", 1))
    assert not await tables.delete(Alone, "b")
    await tables.put(Alone("b", 1))
    assert await tables.delete(Alone, "b")
    assert await tables.get(Alone, "b") is None
    await tables.put(Alone("b", 2))
    assert await tables.get(Alone, "b") == Alone("b", 2)


@pytest.mark.parametrize(
    "bad", [Alone("a", 1 << 70), Alone("a", "text"), Alone("\ud800", 1), Alone(None)]
)
async def test_a_value_that_cannot_be_stored_fails_its_caller_alone(
    tables: Tables, bad: Alone
) -> None:
    puts = [tables.put(Alone(f"k{n}", n)) for n in range(5)]
    spoilt = tables.put(Alone("first", 1), bad)
    results = await asyncio.gather(*puts, spoilt, tables.put(Alone("z")), return_exceptions=True)
    assert isinstance(results[5], Unprocessable)
    assert [result for result in results if result is not None] == [results[5]]
    assert await tables.get(Alone, "first") is None
    assert len([row async for row in tables.scan(Alone)]) == 6


async def test_an_unstorable_row_spoils_its_whole_versioned_batch_and_no_other(
    tables: Tables,
) -> None:
    spoilt = [(Alone("b"), 1), (Alone(None), 1), (Alone("a"), 1), (Place("p", "t"), 1)]
    results = await asyncio.gather(
        tables.put_versioned(spoilt),
        tables.put_versioned([(Alone("c"), 1)]),
        return_exceptions=True,
    )
    assert isinstance(results[0], Unprocessable)
    assert [row async for row in tables.scan(Alone)] == [Alone("c")]
    assert [row async for row in tables.scan(Place)] == []


async def test_a_cancelled_write_happens_whole_or_not_at_all(tables: Tables) -> None:
    writes = [
        asyncio.create_task(tables.put(Place(f"p{n}", "a", n), Place(f"p{n}", "b", n)))
        for n in range(40)
    ]
    await asyncio.sleep(0)
    for write in writes[::2]:
        write.cancel()
    results = await asyncio.gather(*writes, return_exceptions=True)
    await tables.put(Place("later", "a"))
    for n, result in enumerate(results):
        rows = await tables.page(Place, f"p{n}")
        assert len(rows) in ((0, 2) if isinstance(result, asyncio.CancelledError) else (2,))


WRITES: dict[str, Callable[[Tables, str], Coroutine[Any, Any, object]]] = {
    "put": lambda tables, key: tables.put(Place(key, "a", 1), Place(key, "b", 1), Alone(key, 1)),
    "put apart": lambda tables, key: tables.put(
        Place(key, "a", 1), Place(f"{key}2", "b", 1), together=False
    ),
    "put_versioned": lambda tables, key: tables.put_versioned(
        [(Place(f"{key}{n}", "a", n), n) for n in range(40)]
    ),
    "insert": lambda tables, key: tables.insert(Alone(key, 1)),
    "replace": lambda tables, key: tables.replace(Alone("kept", 1), Alone("kept", 1)),
    "delete": lambda tables, key: tables.delete(Place, key, "a"),
    "delete only": lambda tables, key: tables.delete(Alone, key, only=Alone(key, 1)),
    "get": lambda tables, key: tables.get(Place, key, "a"),
    "get_many": lambda tables, key: tables.get_many(Place, [(key, "a")] * 3),
    "page": lambda tables, key: tables.page(Place, key),
    "version": lambda tables, key: tables.version(Place, key, "a"),
}


@pytest.mark.parametrize("name", WRITES)
async def test_a_call_cancelled_at_any_await_holds_nothing_up(tables: Tables, name: str) -> None:
    await tables.insert(Alone("kept", 1))
    for turns in range(12):
        call = asyncio.create_task(WRITES[name](tables, f"{name}-{turns}"))
        for _ in range(turns):
            await asyncio.sleep(0)
        call.cancel()
        await asyncio.gather(call, return_exceptions=True)
    awaits = 0
    while await interrupted(WRITES[name](tables, f"{name}-at-{awaits}"), awaits):
        awaits += 1
    await WRITES[name](tables, f"{name}-after")
    await tables.put(Place("after", "a", 1))
    assert await tables.get(Place, "after", "a") == Place("after", "a", 1)
    if name == "put":
        for key in (*range(12), *(f"at-{at}" for at in range(awaits))):
            rows = await tables.page(Place, f"{name}-{key}")
            alone = await tables.get(Alone, f"{name}-{key}")
            assert (len(rows), alone is not None) in ((0, False), (2, True))


@pytest.mark.parametrize("size", [0, 1, 70_000, 1_000_000])
async def test_values_of_any_size_come_back_as_they_were(tables: Tables, size: int) -> None:
    note = ("é🎬\0\n'\"%s" * size)[:size]
    row = Every(region="eu", shard=1, grade=Grade.LOW, name=f"{size}", blob=bytes(size), note=note)
    await tables.put(row)
    assert await tables.get(Every, "eu", 1, Grade.LOW, f"{size}") == row
    (found,) = await tables.page(Every, "eu", 1)
    assert found == row


NUMBERS = [-(1 << 63), -1, 0, 1, (1 << 63) - 1]


async def test_numbers_go_to_the_ends_of_64_bits_and_keep_their_order(tables: Tables) -> None:
    rows = [Every(region="eu", shard=n, grade=Grade.LOW, name="x") for n in NUMBERS]
    await tables.put(*rows)
    assert await tables.get_many(Every, [("eu", n, Grade.LOW, "x") for n in NUMBERS]) == rows
    await tables.put(*[Alone(f"{n}", n) for n in NUMBERS])
    assert [await tables.get(Alone, f"{n}") for n in NUMBERS] == [Alone(f"{n}", n) for n in NUMBERS]
    ratios = [0.0, -1.5, 5e-324, 1.7976931348623157e308, float("inf")]
    spread = [
        Every(region="r", shard=n, grade=Grade.LOW, name="x", ratio=r) for n, r in enumerate(ratios)
    ]
    await tables.put(*spread)
    assert [(await tables.page(Every, "r", n))[0].ratio for n in range(5)] == ratios


TEXTS = ["", " ", "Z", "a", "ä", "日本", "🎬", "\x00"]


async def test_texts_are_ordered_by_their_bytes(tables: Tables) -> None:
    await tables.put(*[Place("p", text) for text in TEXTS])
    found = [row.title_id for row in await tables.page(Place, "p")]
    assert found == sorted(TEXTS, key=str.encode)
    after = [row.title_id for row in await tables.page(Place, "p", after=("a",))]
    assert after == [text for text in found if text.encode() > b"a"]


async def test_an_empty_text_is_a_partition_where_the_store_says_so(tables: Tables) -> None:
    if tables.capabilities.empty_partitions:
        await tables.put(Alone("", 1))
        assert await tables.get(Alone, "") == Alone("", 1)
        return
    for write in (tables.put(Alone("", 1)), tables.put_versioned([(Alone("", 1), 1)])):
        with pytest.raises(Unprocessable):
            await write


async def test_many_rows_may_be_put_where_they_need_not_appear_together(tables: Tables) -> None:
    rows = [Place(f"p{n % 500}", f"title-{n:04d}", n) for n in range(2_000)]
    await tables.put(*rows, together=False)
    assert {row async for row in tables.scan(Place)} == set(rows)
    await tables.put_versioned([(Place(f"q{n % 500}", f"t{n}", n), n) for n in range(2_000)])
    assert len([row async for row in tables.scan(Place)]) == 4_000


async def test_a_version_that_is_none_is_refused(tables: Tables) -> None:
    for version in (-1, 1 << 63):
        with pytest.raises(Unprocessable):
            await tables.put_versioned([(Alone("a"), version)])
    assert await tables.get(Alone, "a") is None


async def test_rows_deleted_by_condition_may_be_inserted_again_and_again(tables: Tables) -> None:
    for n in range(5):
        assert await tables.insert(Alone("a", n))
        assert not await tables.insert(Alone("a", n))
        assert await tables.replace(Alone("a", n), Alone("a", n + 1))
        assert await tables.delete(Alone, "a", only=Alone("a", n + 1))
    assert await tables.get(Alone, "a") is None


async def test_of_many_deletes_of_one_row_one_wins(opener: Open, tables: Tables) -> None:
    other = opener()
    await tables.insert(Alone("a", 1))
    tries = [(tables, other)[n % 2].delete(Alone, "a", only=Alone("a", 1)) for n in range(8)]
    assert sum(await asyncio.gather(*tries)) == 1
    await other.close()


async def test_a_closed_store_says_that_it_is(opener: Open, tables: Tables) -> None:
    closed = opener()
    await closed.prepare(*ROWS)
    assert await closed.get(Alone, "a") is None
    await closed.close()
    for call in (closed.get(Alone, "a"), closed.put(Alone("a")), closed.insert(Alone("a"))):
        with pytest.raises(StoreUnavailable, match="is closed"):
            await call
    assert await tables.get(Alone, "a") is None


async def test_other_openings_of_the_store_see_what_was_committed(
    opener: Open, tables: Tables
) -> None:
    other = opener()
    await other.prepare(*ROWS)
    assert await other.get(Alone, "a") is None
    await tables.put(Alone("a", 1))
    assert await other.get(Alone, "a") == Alone("a", 1)
    await other.close()


async def test_close_finishes_the_writes_under_way_and_may_be_repeated(opener: Open) -> None:
    tables = opener()
    await tables.prepare(Alone)
    writes = [asyncio.create_task(tables.put(Alone(f"k{n}"))) for n in range(50)]
    await asyncio.sleep(0)
    await tables.close()
    await tables.close()
    await asyncio.gather(*writes)
    again = opener()
    assert len([row async for row in again.scan(Alone)]) == 50
    await again.close()


async def gone(
    tables: Tables, clock: ManualClock, *key: str, kind: type[Fleeting | Waning] = Fleeting
) -> None:
    """Waits until the row has expired."""
    async with asyncio.timeout(10):
        while await tables.get(kind, *key) is not None:
            clock.tick(0.2)
            await SYSTEM.sleep(0.02)


async def test_a_row_whose_time_is_over_is_as_if_it_had_never_been(
    tables: Tables, clock: ManualClock
) -> None:
    await tables.put(Fleeting("a", "put", 1))
    await tables.put_versioned([(Fleeting("a", "versioned", 2), 5)])
    assert await tables.insert(Fleeting("b", "inserted", 3))
    assert await tables.get(Fleeting, "a", "put") == Fleeting("a", "put", 1)
    assert await tables.version(Fleeting, "a", "versioned") == 5
    await gone(tables, clock, "b", "inserted")
    await gone(tables, clock, "a", "versioned")
    await gone(tables, clock, "a", "put")
    assert await tables.version(Fleeting, "a", "versioned") is None
    assert await tables.get_many(Fleeting, [("a", "put"), ("b", "inserted")]) == [None, None]
    assert await tables.page(Fleeting, "a") == []
    assert [row async for row in tables.scan(Fleeting)] == []
    old = Fleeting("b", "inserted", 3)
    assert not await tables.replace(old, Fleeting("b", "inserted", 4))
    assert not await tables.delete(Fleeting, "b", "inserted", only=old)
    assert not await tables.delete(Fleeting, "a", "put")
    assert await tables.insert(Fleeting("b", "inserted", 5))
    await tables.put_versioned([(Fleeting("a", "versioned", 6), 6)])
    assert await tables.get(Fleeting, "a", "versioned") == Fleeting("a", "versioned", 6)


async def test_a_row_that_is_over_lives_more_briefly_however_it_was_written(
    tables: Tables, clock: ManualClock
) -> None:
    over = [Waning("a", tag, True) for tag in ("put", "versioned", "inserted")]
    stays = Waning("a", "stays")
    await tables.put(over[0], stays)
    await tables.put_versioned([(over[1], 1), (Waning("a", "kept"), 1)])
    assert await tables.insert(over[2])
    with pytest.raises(Faulty, match="waning: rows that may live more briefly"):
        await tables.replace(stays, Waning("a", "stays", True))
    assert len(await tables.page(Waning, "a")) == 5
    for row in over:
        await gone(tables, clock, "a", row.tag, kind=Waning)
    assert await tables.page(Waning, "a") == [Waning("a", "kept"), stays]
    assert await tables.insert(over[2])
    await tables.put_versioned([(Waning("a", "versioned"), 2), (Waning("a", "kept", True), 2)])
    await gone(tables, clock, "a", "kept", kind=Waning)
    assert await tables.get(Waning, "a", "versioned") == Waning("a", "versioned")


async def test_a_replaced_row_lives_on_from_then(tables: Tables, clock: ManualClock) -> None:
    first, second = Fleeting("a", "first", 1), Fleeting("a", "first", 2)
    assert await tables.insert(first)
    clock.tick(2)
    assert await tables.replace(first, second)
    clock.tick(2)
    assert await tables.get(Fleeting, "a", "first") == second
    await gone(tables, clock, "a", "first")
    assert await tables.page(Fleeting, "a") == []


class Narrow(msgspec.Struct, frozen=True):
    key: ClassVar[Key] = Key("widened", ("id",))
    id: str
    value: int = 0


class Wider(msgspec.Struct, frozen=True):
    key: ClassVar[Key] = Key("widened", ("id",))
    id: str
    value: int = 0
    label: str = "it's new"
    tags: tuple[str, ...] = ("x",)


class Other(msgspec.Struct, frozen=True):
    key: ClassVar[Key] = Key("alone", ("value",))
    id: int
    value: int
    must: str


class Nowhere(msgspec.Struct, frozen=True):
    key: ClassVar[Key] = Key("nowhere", ("id",))
    id: str


async def test_prepare_adds_columns_that_have_a_default(opener: Open) -> None:
    tables = opener()
    await tables.prepare(Narrow)
    await tables.put(Narrow("a", 1))
    await tables.insert(Narrow("c", 3))
    newer = opener()
    await newer.prepare(Wider)
    old = Wider("a", 1, "it's new", ("x",))
    assert await newer.get(Wider, "a") == old
    await tables.put(Narrow("b", 2))
    assert await newer.get(Wider, "b") == Wider("b", 2)
    third = Wider("c", 3)
    assert not await newer.replace(Wider("c", 4), third)
    assert await newer.replace(third, Wider("c", 5, "else"))
    assert await newer.delete(Wider, "c", only=Wider("c", 5, "else"))
    await newer.close()
    await tables.close()


async def test_prepare_names_every_difference_and_changes_nothing(
    opener: Open, tables: Tables
) -> None:
    await tables.put(Alone("a", 1))
    other = opener()
    with pytest.raises(SchemaFault) as fault:
        await other.prepare(Other)
    for said in ("its key is id, not value", "alone.id is text", "alone.must is missing"):
        assert said in str(fault.value).replace("TEXT", "text")
    assert await tables.get(Alone, "a") == Alone("a", 1)
    await other.close()


async def test_of_a_table_that_is_not_there_it_is_said_what_makes_it(opener: Open) -> None:
    """Somebody dropped it, or its row type was never given to `prepare`."""
    tables = opener()
    with pytest.raises(Faulty, match=r"is made again, empty, when the process.*prepare"):
        await tables.get(Nowhere, "a")
    await tables.close()


@pytest.mark.parametrize("url", ["rows.db", "sqlite://rows.db", "sqlite:///", "mysql://h/x", ""])
def test_a_wrong_url_says_how_to_write_one(url: str) -> None:
    with pytest.raises(ConfigurationFault, match="sqlite:///"):
        open_tables(url)
