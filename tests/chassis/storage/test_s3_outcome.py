"""Who wrote an object, when the answer does not say: on a server that does as it is told."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from chassis.errors import AlreadyExists, ConfigurationFault, Conflict, Missing, StoreUnavailable
from chassis.storage import Objects, open_objects
from stream_pipeline.sinks.archive import ArchiveSink
from stream_pipeline.sinks.segment import Limits
from tests.support.s3_server import (
    Put,
    S3Server,
    Stored,
    broken,
    contended,
    late,
    lost,
    outrun,
    slow_down,
)

KEYS = {"AWS_ACCESS_KEY_ID": "known", "AWS_SECRET_ACCESS_KEY": "only-here"}


@pytest.fixture
async def server() -> AsyncIterator[S3Server]:
    async with S3Server() as server:
        yield server


@pytest.fixture
async def objects(server: S3Server) -> AsyncIterator[Objects]:
    objects = open_objects(f"s3://b?endpoint={server.endpoint}&timeout_s=2", environ=KEYS)
    yield objects
    await objects.close()


@pytest.mark.parametrize("fate", [lost, broken, late, slow_down, contended])
async def test_a_write_that_happened_is_ours_however_the_answer_got_lost(
    objects: Objects, server: S3Server, fate: Put
) -> None:
    server.next_puts.append(fate)
    await objects.create("k", b"mine")
    assert server.objects["b/k"].body == b"mine"


async def test_a_write_that_arrives_after_its_own_repetition_is_one_write(
    objects: Objects, server: S3Server
) -> None:
    server.next_puts += [late, lost]
    await objects.create("k", b"mine")
    assert server.count("PUT") == 2
    assert server.objects["b/k"].body == b"mine"


async def test_what_somebody_else_wrote_meanwhile_is_theirs(
    objects: Objects, server: S3Server
) -> None:
    server.next_puts.append(outrun)
    with pytest.raises(AlreadyExists):
        await objects.create("k", b"theirs")
    assert server.objects["b/k"].token == "their-token"


async def test_the_same_body_of_somebody_else_is_still_theirs(
    objects: Objects, server: S3Server
) -> None:
    server.objects["b/k"] = Stored(b"same", "their-token")
    with pytest.raises(AlreadyExists):
        await objects.create("k", b"same")


@pytest.mark.parametrize("fate", [slow_down, contended])
async def test_a_server_that_stays_busy_is_asked_three_times_and_left_alone(
    objects: Objects, server: S3Server, fate: Put
) -> None:
    server.next_puts += [fate] * 4
    with pytest.raises(StoreUnavailable, match="not known whether k will be written"):
        await objects.create("k", b"")
    assert server.count("PUT") == 3


@pytest.mark.parametrize("fate", [lost, broken, late, slow_down, contended])
async def test_a_replacement_is_ours_however_the_answer_got_lost(
    objects: Objects, server: S3Server, fate: Put
) -> None:
    await objects.create("k", b"1")
    server.next_puts.append(fate)
    tag = await objects.replace("k", b"2", (await objects.head("k")).tag)
    assert server.objects["b/k"].body == b"2"
    assert await objects.replace("k", b"3", tag) != tag


async def test_a_replacement_that_somebody_else_made_first_is_a_conflict(
    objects: Objects, server: S3Server
) -> None:
    await objects.create("k", b"1")
    tag = (await objects.head("k")).tag
    server.next_puts.append(outrun)
    with pytest.raises(Conflict):
        await objects.replace("k", b"2", tag)
    assert server.objects["b/k"].body == b"theirs"


async def test_a_replacement_of_what_vanished_names_what_is_missing(
    objects: Objects, server: S3Server
) -> None:
    with pytest.raises(Missing, match="k"):
        await objects.replace("k", b"2", '"tag"')


async def test_a_slow_down_is_told_as_such(objects: Objects, server: S3Server) -> None:
    server.next_puts += [slow_down] * 3
    with pytest.raises(StoreUnavailable, match="503 SlowDown: slow down"):
        await objects.create("k", b"")


async def test_a_store_that_ignores_conditions_is_refused_by_the_archive(
    objects: Objects, server: S3Server
) -> None:
    archive = ArchiveSink(objects, Limits())
    await archive.prepare("tried")
    server.conditions = False
    with pytest.raises(ConfigurationFault, match="create-only writes"):
        await archive.prepare("tried-again")
    assert server.objects == {}
