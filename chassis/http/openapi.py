"""OpenAPI 3.1 from the operations themselves: what is served is what is described."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, Protocol

import msgspec

_PARAMETER = re.compile(r"{([a-z_]+)(?::[a-z]+)?}")
_PROBLEM = {
    "type": "object",
    "required": ["status", "code"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "code": {"type": "string"},
        "detail": {"type": "string"},
    },
}


class Described(Protocol):
    """What an operation tells of itself."""

    name: str
    method: str
    path: str
    summary: str
    request: type | None
    answer: type | None
    status: int
    auth: bool
    inside: bool


def describe(service: str, operations: Iterable[Described]) -> dict[str, Any]:
    """The document. Calls between services are tagged `inside`."""
    listed = list(operations)
    types = [t for o in listed for t in (o.request, o.answer) if t is not None]
    schemas, components = msgspec.json.schema_components(
        types, ref_template="#/components/schemas/{name}"
    )
    by_type = dict(zip(types, schemas, strict=True))
    paths: dict[str, dict[str, Any]] = {}
    for operation in listed:
        path = _PARAMETER.sub(r"{\1}", operation.path)
        paths.setdefault(path, {})[operation.method.lower()] = _operation(operation, by_type)
    return {
        "openapi": "3.1.0",
        "info": {"title": f"Stagedoor {service}", "version": "1"},
        "paths": paths,
        "components": {
            "schemas": {**components, "Problem": _PROBLEM},
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}},
        },
    }


def _operation(operation: Described, by_type: dict[type, dict[str, Any]]) -> dict[str, Any]:
    described: dict[str, Any] = {
        "operationId": operation.name,
        "summary": operation.summary,
        "tags": ["inside" if operation.inside else "public"],
        "parameters": [
            {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
            for name in _PARAMETER.findall(operation.path)
        ],
        "responses": {
            str(operation.status): _answer(operation, by_type),
            "default": {
                "description": "A problem (RFC 9457) with a stable code.",
                "content": {
                    "application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}
                },
            },
        },
    }
    if operation.request is not None:
        schema = by_type[operation.request]
        described["requestBody"] = {
            "required": True,
            "content": {"application/json": {"schema": schema}},
        }
    if operation.auth:
        described["security"] = [{"bearer": []}]
    return described


def _answer(operation: Described, by_type: dict[type, dict[str, Any]]) -> dict[str, Any]:
    if operation.answer is None:
        return {"description": operation.summary}
    schema = by_type[operation.answer]
    return {
        "description": operation.summary,
        "content": {"application/json": {"schema": schema}},
    }
