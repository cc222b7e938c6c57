from __future__ import annotations

from typing import ClassVar

import msgspec
import pytest

from chassis.contracts.keys import Key
from chassis.contracts.viewing import VIEWS
from chassis.errors import SchemaFault
from chassis.storage.shape import Shape
from tests.support.rows import Every


class NoKey(msgspec.Struct):
    id: str


class LostField(msgspec.Struct):
    key: ClassVar[Key] = Key("t", ("other",))
    id: str


class OptionalKey(msgspec.Struct):
    key: ClassVar[Key] = Key("t", ("id",))
    id: str | None


class StructuredKey(msgspec.Struct):
    key: ClassVar[Key] = Key("t", ("id",))
    id: tuple[str, ...]


class BadName(msgspec.Struct):
    key: ClassVar[Key] = Key('t"; DROP', ("id",))
    id: str


@pytest.mark.parametrize(
    ("row", "says"),
    [
        (NoKey, "ClassVar"),
        (LostField, "no field 'other'"),
        (OptionalKey, "never None"),
        (StructuredKey, "plain"),
        (BadName, "lower-case name"),
    ],
)
def test_a_row_type_that_cannot_be_stored_is_refused(row: type[msgspec.Struct], says: str) -> None:
    with pytest.raises(SchemaFault, match=says):
        Shape(row)


def test_columns_are_plain_where_they_can_be_and_json_elsewhere() -> None:
    kinds = {column.name: column.kind for column in Shape(Every).columns}
    assert kinds == {
        "region": "text",
        "shard": "integer",
        "grade": "integer",
        "name": "text",
        "ratio": "real",
        "live": "integer",
        "blob": "blob",
        "note": "text",
        "maybe": "integer",
        "colour": "text",
        "mode": "text",
        "intervals": "json",
        "cells": "json",
        "where": "json",
    }


def test_the_views_of_the_stream_have_a_shape() -> None:
    assert {Shape(view).key.table for view in VIEWS} >= {"continue_watching", "stream_frontier"}
