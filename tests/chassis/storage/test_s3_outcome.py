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
    complete,
    completed_by_another,
    contended,
    late,
    lost,
    outrun,
    refused,
    slow_down,
    withdrawn,
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


async def test_a_write_whose_repetition_finds_it_and_then_nothing_does_not_pass_for_anothers(
    objects: Objects, server: S3Server
) -> None:
    server.next_puts += [late, withdrawn]
    with pytest.raises(StoreUnavailable, match="k was removed while it was written"):
        await objects.create("k", b"mine")


async def test_what_existed_when_it_was_to_be_written_existed_even_if_it_is_gone_by_now(
    objects: Objects, server: S3Server
) -> None:
    server.objects["b/k"] = Stored(b"theirs", "their-token")
    server.next_puts += [withdrawn]
    with pytest.raises(AlreadyExists, match="the object k existed"):
        await objects.create("k", b"mine")


async def test_a_conflict_that_is_none_of_objects_says_nothing_about_the_key(
    objects: Objects, server: S3Server
) -> None:
    server.next_puts += [refused]
    with pytest.raises(StoreUnavailable, match="409 InvalidBucketState"):
        await objects.create("k", b"mine")
    assert server.count("PUT") == 1


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


async def pieces() -> AsyncIterator[bytes]:
    yield b"same"


async def test_pieces_are_put_together_again_after_a_conflict_with_a_write_that_failed(
    objects: Objects, server: S3Server
) -> None:
    server.next_completions += [complete, contended]
    await objects.create_from("k", pieces())
    assert server.objects["b/k"].body == b"same"
    assert list(server.objects) == ["b/k"]


async def test_the_same_pieces_of_somebody_else_are_still_theirs(
    objects: Objects, server: S3Server
) -> None:
    server.next_completions += [complete, completed_by_another]
    with pytest.raises(AlreadyExists):
        await objects.create_from("k", pieces())


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
