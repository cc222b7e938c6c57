"""The OpenAPI documents: what is described can be resolved, and is what is served."""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jsonschema_rs
import msgspec
import pytest

from chassis.contracts.wire import Wire
from chassis.http.openapi import describe
from tests.support.services import in_process

SERVICES = (
    "play_api",
    "microservices.identity",
    "microservices.membership",
    "microservices.profiles",
    "microservices.catalog",
    "microservices.rights",
    "microservices.sessions",
    "microservices.manifest",
    "microservices.licence",
    "microservices.steering",
    "microservices.bookmarks",
    "microservices.recommendations",
    "microservices.experiments",
    "microservices.beacon",
)


class Lamp(Wire, frozen=True):
    watts: int
    colour: str | None = None


def operation(**changes: Any) -> Any:
    described = {
        "name": "change",
        "method": "PUT",
        "path": "/v1/rooms/{room_id}/lamps/{number:int}",
        "summary": "Changes a lamp.",
        "request": Lamp,
        "answer": Lamp,
        "status": 200,
        "auth": True,
        "inside": False,
    }
    return SimpleNamespace(**{**described, **changes})


def refs(part: Any) -> Iterator[str]:
    if isinstance(part, dict):
        if isinstance(part.get("$ref"), str):
            yield part["$ref"]
        part = list(part.values())
    if isinstance(part, list):
        for inner in part:
            yield from refs(inner)


def resolve(document: dict[str, Any], ref: str) -> Any:
    found: Any = document
    for name in ref.removeprefix("#/").split("/"):
        found = found[name]
    return found


def test_an_operation_is_described_with_all_it_takes_and_gives() -> None:
    document = describe("rooms", [operation()])
    (path,) = document["paths"]
    described = document["paths"][path]["put"]
    assert path == "/v1/rooms/{room_id}/lamps/{number}"
    assert [one["name"] for one in described["parameters"]] == ["room_id", "number"]
    assert described["requestBody"]["required"] and described["security"] == [{"bearer": []}]
    assert set(described["responses"]) == {"200", "default"}
    assert described["tags"] == ["public"]


def test_nothing_is_described_that_is_not_taken_or_given() -> None:
    bare = operation(request=None, answer=None, auth=False, inside=True, status=204)
    described = describe("rooms", [bare])["paths"]["/v1/rooms/{room_id}/lamps/{number}"]["put"]
    assert not {"requestBody", "security"} & described.keys()
    assert "content" not in described["responses"]["204"]
    assert described["tags"] == ["inside"]


def test_methods_of_one_path_stand_together() -> None:
    document = describe("rooms", [operation(), operation(method="DELETE", name="drop")])
    (path,) = document["paths"].values()
    assert set(path) == {"put", "delete"}


def test_a_described_type_takes_its_own_values_and_no_others() -> None:
    document = describe("rooms", [operation()])
    schema = resolve(document, "#/components/schemas/Lamp")
    value = json.loads(msgspec.json.encode(Lamp(watts=5)))
    assert jsonschema_rs.is_valid(schema, value)
    assert not jsonschema_rs.is_valid(schema, {"watts": "five"})


@pytest.mark.parametrize("package", SERVICES)
async def test_each_services_document_holds_together(package: str, tmp_path: Path) -> None:
    build = importlib.import_module(f"{package}.app").build
    async with in_process(package.rpartition(".")[2], build, tmp_path) as running:
        document = (await running.http.get("/openapi.json")).json()
    for ref in refs(document):
        assert resolve(document, ref), ref
    for name, schema in document["components"]["schemas"].items():
        whole = {**schema, "components": document["components"]}
        assert jsonschema_rs.validator_for(whole), name
    operations = [one for path in document["paths"].values() for one in path.values()]
    names = [one["operationId"] for one in operations]
    assert sorted(names) == sorted(set(names))
    assert all(one["summary"] for one in operations)
