"""What the Cassandra adapter decides without a server."""

from __future__ import annotations

from collections import Counter
from typing import Any, ClassVar

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chassis.contracts.keys import Key
from chassis.contracts.viewing import VIEWS
from chassis.errors import ConfigurationFault
from chassis.storage.cassandra_batches import LIMIT_BYTES, Packed, batches, last_of_each
from chassis.storage.cassandra_plan import StoredTable, planned, unfit
from chassis.storage.cassandra_url import address_of
from chassis.storage.shape import Shape

NEW, OLD = (5, 0, 6), (4, 1, 3)
UCS = "org.apache.cassandra.db.compaction.UnifiedCompactionStrategy"


class Thing(msgspec.Struct, frozen=True):
    key: ClassVar[Key] = Key("thing", ("id",), ("n",), ttl_s=60)
    id: str
    n: int
    label: str = "x"
    note: str | None = None
    flag: bool | None = True


def stored(**changes: Any) -> dict[str, StoredTable]:
    types = {
        "id": "text",
        "n": "bigint",
        "label": "text",
        "note": "text",
        "flag": "bigint",
        "_version": "bigint",
    }
    table = {
        "partition": ("id",),
        "clustering": ("n",),
        "types": types,
        "ttl_s": 60,
        "compaction": UCS,
    }
    return {"thing": StoredTable(**{**table, **changes})}


def plan(there: dict[str, StoredTable], release: tuple[int, ...] = NEW) -> Any:
    return planned([Shape(Thing)], there, "ks", release)


def test_a_url_says_where_and_how() -> None:
    address = address_of("cassandra://u:p%40ss@h1:9042,h2:9043/play?dc=eu&replication=3")
    assert address.hosts == (("h1", 9042), ("h2", 9043))
    assert (address.keyspace, address.dc, address.replication) == ("play", "eu", 3)
    assert (address.user, address.password) == ("u", "p@ss")
    assert address_of("cassandra://[::1]/play").hosts == (("::1", 9042),)


@pytest.mark.parametrize(
    "url",
    [
        "cassandra://h:1",
        "cassandra://h:1/Play",
        "cassandra://h:1/pl{service}y",
        "cassandra://h:x/play",
        "cassandra://,h/play",
        "cassandra:///play",
        "cassandra://u:secret@h:1/play?replication=0",
        "cassandra://u:secret@h:1/play?replication=two",
        "cassandra://h:1/play?timeout_s=-1",
        "cassandra://u:secret@h:1/play?dc=it's",
        "cassandra://h:1/play?consistency=one",
        "cassandra://h:1/play#x",
    ],
)
def test_a_wrong_url_says_how_to_write_one_and_keeps_the_password(url: str) -> None:
    with pytest.raises(ConfigurationFault, match="cassandra://host:9042") as raised:
        address_of(url)
    assert "secret" not in str(raised.value)


def test_an_address_never_shows_its_password() -> None:
    address = address_of("cassandra://u:secret@h:1/play")
    assert "secret" not in f"{address} {address!r}"


def test_what_is_as_it_should_be_needs_no_change() -> None:
    assert plan(stored()) == plan(stored(), OLD)
    assert not plan(stored()).changes and not plan(stored()).faults


def test_a_missing_table_is_made_for_rows_that_are_overwritten() -> None:
    (new,) = plan({}).changes
    (old,) = plan({}, OLD).changes
    assert "UnifiedCompactionStrategy" in new and "LeveledCompactionStrategy" in old
    assert 'PRIMARY KEY (("id"), "n")' in new and "default_time_to_live = 60" in new
    made = planned([Shape(view) for view in VIEWS], {}, "ks", NEW).changes
    assert len(made) == len(VIEWS) and not any("TimeWindow" in one for one in made)


def test_a_missing_column_and_another_time_to_live_are_changed() -> None:
    types = {name: kind for name, kind in stored()["thing"].types.items() if name != "label"}
    changes = plan(stored(types=types, ttl_s=0)).changes
    assert changes == (
        'ALTER TABLE "ks"."thing" ADD IF NOT EXISTS "label" text',
        'ALTER TABLE "ks"."thing" WITH default_time_to_live = 60',
    )


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"partition": ("n",), "clustering": ("id",)}, "its key is n, id, not id, n"),
        ({"partition": ("id", "n"), "clustering": ()}, "its partition is id, n, not id"),
        ({"types": {"id": "text", "n": "int", "_version": "bigint"}}, "thing.n is int, not bigint"),
        ({"types": {"id": "text", "_version": "bigint"}}, "thing.n is missing"),
        ({"types": {"id": "text", "n": "bigint"}}, "was not made by this program"),
        ({"types": {"id": "text", "n": "bigint", "_version": "bigint"}}, "thing.flag is missing"),
        ({"compaction": "a.b.TimeWindowCompactionStrategy"}, "compacted by time windows"),
    ],
)
def test_what_cannot_be_changed_is_named(changes: dict[str, Any], says: str) -> None:
    assert says in "\n".join(plan(stored(**changes)).faults)


@pytest.mark.parametrize(
    ("replication", "asked", "says"),
    [
        ({"class": "o.SimpleStrategy", "replication_factor": "3"}, None, "NetworkTopology"),
        ({"class": "o.NetworkTopologyStrategy", "us": "3"}, None, "no copy in the data centre"),
        ({"class": "o.NetworkTopologyStrategy", "eu": "1"}, 3, "keeps 1 copies"),
    ],
)
def test_copies_that_make_quorums_pointless_are_named(
    replication: dict[str, str], asked: int | None, says: str
) -> None:
    assert says in (unfit(replication, "eu", asked) or "")


def test_copies_in_the_data_centre_are_enough() -> None:
    both = {"class": "o.NetworkTopologyStrategy", "eu": "3", "us": "2"}
    assert unfit(both, "eu", None) is None
    assert unfit(both, "eu", 3) is None


Rows = st.lists(
    st.tuples(st.sampled_from([b"a", b"b", b"c", b"d"]), st.integers(0, 30_000)), max_size=40
)


@given(rows=Rows)
def test_every_row_travels_once_and_with_rows_of_the_same_nodes_in_batches_that_are_small(
    rows: list[tuple[bytes, int]],
) -> None:
    packed = [Packed(bytes(size) + b"%d" % n, place, 3) for n, (place, size) in enumerate(rows)]
    places = {one.fragment: one.routing for one in packed}

    def nodes(routing: bytes) -> tuple[str, ...]:
        return ("left",) if routing in (b"a", b"b") else ("right",)

    made = list(batches(packed, nodes))
    sent = Counter(fragment for batch in made for fragment in batch.fragments)
    assert sent == Counter(one.fragment for one in packed)
    for batch in made:
        assert batch.fragments
        assert {nodes(places[one]) for one in batch.fragments} == {nodes(batch.routing)}
        size = sum(map(len, batch.fragments))
        assert size <= LIMIT_BYTES or len(batch.fragments) == 1


def test_of_rows_with_one_key_in_one_write_the_last_stays() -> None:
    rows = [Packed(b"%d" % n, b"a", 1, n % 2) for n in range(5)]
    assert [row.fragment for row in last_of_each(rows)] == [b"4", b"3"]


@pytest.mark.parametrize("password", ["sec/ret", "sec#ret", "sec?ret", "sec[ret"])
def test_a_password_that_was_not_encoded_is_not_shown(password: str) -> None:
    with pytest.raises(ConfigurationFault, match="percent-encode") as caught:
        address_of(f"cassandra://us:{password}@a:1/keyspace")
    assert "sec" not in str(caught.value)
    assert "ret" not in str(caught.value)
