"""The objects port: whole bodies under a path-like key, written once.

Keys are one or more segments of `A-Z a-z 0-9 _ = - .` joined by `/`; no segment begins with `.`,
and no key is also a folder of another. Other keys are a `BadRequest`.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from typing import Protocol

import msgspec

from chassis.clock import SYSTEM, Clock
from chassis.errors import BadRequest, ConfigurationFault

_KEY = re.compile(r"[\w=-][\w.=-]*(?:/[\w=-][\w.=-]*)*\Z", re.ASCII)
KEY_LIMIT = 900


class ObjectInfo(msgspec.Struct, frozen=True):
    """What is known of an object without reading it. `modified` is UNIX seconds."""

    key: str
    size: int
    modified: float


class Objects(Protocol):
    """Bodies under keys. Every method raises `StoreUnavailable` when the store cannot do it now."""

    async def create(self, key: str, body: bytes) -> None:
        """Writes the object, durable on return; `AlreadyExists` when the key is taken.

        Readers see the whole body or no object. A caller that is cancelled does not know whether
        the write happened: `head` tells.
        """
        ...

    async def get(self, key: str) -> bytes:
        """The body; `Missing` when there is none."""
        ...

    async def get_range(self, key: str, start: int, length: int) -> bytes:
        """Up to `length` bytes from `start`; a negative `start` counts from the end."""
        ...

    async def head(self, key: str) -> ObjectInfo:
        """`Missing` when there is no such object."""
        ...

    def list(self, prefix: str = "") -> AsyncIterator[ObjectInfo]:
        """The objects below `prefix` (whole segments, no trailing slash), in key order."""
        ...

    async def delete(self, key: str) -> None:
        """Removes the object; harmless when there is none."""
        ...

    async def close(self) -> None: ...


def check_key(key: str) -> str:
    """`key` itself, or `BadRequest` saying what a key may hold."""
    if len(key) > KEY_LIMIT or not _KEY.match(key):
        raise BadRequest(
            f"object key {key[:100]!r}: write segments of letters, digits and _ = - . joined by /,"
            f" {KEY_LIMIT} characters at most"
        )
    return key


def open_objects(url: str, clock: Clock = SYSTEM) -> Objects:
    """The adapter that `url` names: `file:///absolute/folder`."""
    scheme = url.partition("://")[0]
    if scheme == "file":
        from chassis.storage.local import LocalObjects

        return LocalObjects.open(url, clock)
    raise ConfigurationFault(
        [f"{url!r}: unknown scheme; write file:///absolute/folder"], what="the objects URL"
    )
