"""JSON bodies whose field names may have any case, as Consul takes them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

import msgspec

from chassis.errors import BadRequest

B = TypeVar("B")


def decoded(body: bytes, kind: type[B], what: str) -> B:
    """`BadRequest` says why `body` is no `kind`."""
    try:
        return msgspec.convert(_lowered(msgspec.json.decode(body)), kind)
    except (msgspec.DecodeError, msgspec.ValidationError) as fault:
        raise BadRequest(f"the {what} cannot be used: {fault}") from fault


def _lowered(value: Any) -> Any:
    """Field names in lower case, at every level but inside `meta`."""
    if isinstance(value, list):
        return [_lowered(item) for item in value]
    if not isinstance(value, Mapping):
        return value
    low = {name.lower(): item for name, item in value.items()}
    return {name: item if name == "meta" else _lowered(item) for name, item in low.items()}
