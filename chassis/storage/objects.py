"""The objects port: whole bodies under a path-like key, written once.

Keys are one or more segments of `A-Z a-z 0-9 _ = - .` joined by `/`; no segment begins with `.`,
and no key is also a folder of another. Other keys are a `BadRequest`.
"""

from __future__ import annotations

import os
import re
from collections.abc import AsyncIterable, AsyncIterator, Mapping
from typing import Protocol

import msgspec

from chassis.clock import SYSTEM, Clock
from chassis.errors import BadRequest, ConfigurationFault

_KEY = re.compile(r"[\w=-][\w.=-]*(?:/[\w=-][\w.=-]*)*\Z", re.ASCII)
KEY_LIMIT = 900
STAGING = ".staging"
STALE_S = 3600.0
TTL_LIMIT_S = 7 * 86400


class Capabilities(msgspec.Struct, frozen=True):
    """Where adapters may differ; everything else they do alike."""

    presigned: bool
    """`presigned` gives URLs; without it every call of it is a `Faulty`."""


class ObjectInfo(msgspec.Struct, frozen=True):
    """What is known of an object without reading it. `modified` is UNIX seconds.

    `tag` changes with the body; writing the very same body again may keep it.
    """

    key: str
    size: int
    modified: float
    tag: str = ""


class Objects(Protocol):
    """Bodies under keys. Every method raises `StoreUnavailable` when the store cannot do it now."""

    @property
    def capabilities(self) -> Capabilities: ...

    async def create(self, key: str, body: bytes) -> None:
        """Writes the object, durable on return; `AlreadyExists` when the key is taken.

        Readers see the whole body or no object. After `StoreUnavailable`, or when the caller is
        cancelled, the write may have happened or happen yet: `head` tells what is there by now.
        """
        ...

    async def create_from(self, key: str, pieces: AsyncIterable[bytes]) -> None:
        """`create` of a body of any size up to 5 GB, whose pieces are never all in memory.

        There is no object when the pieces fail, or the caller is cancelled before the last of
        them is written; from then on it is as with `create`.
        """
        ...

    async def replace(self, key: str, body: bytes, tag: str) -> str:
        """Puts `body` where the object still carries `tag`, and returns its new tag.

        `Conflict` when the object has changed since, `Missing` when there is none.
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

    def presigned(self, key: str, ttl_s: int) -> str:
        """A URL with which anybody reads the object for `ttl_s` seconds, a week at most.

        It is a secret for that long. `Faulty` where `capabilities.presigned` is False.
        """
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


def check_ttl(ttl_s: int) -> int:
    """`ttl_s` itself, or `BadRequest` saying what it may be."""
    if not 1 <= ttl_s <= TTL_LIMIT_S:
        raise BadRequest(f"a presigned URL lives for 1 to {TTL_LIMIT_S} seconds, not {ttl_s}")
    return ttl_s


def open_objects(
    url: str, clock: Clock = SYSTEM, environ: Mapping[str, str] | None = None
) -> Objects:
    """The adapter that `url` names.

    `file:///absolute/folder`, or `s3://bucket[/prefix][?endpoint=http://host:port&region=…]` with
    AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY in `environ`, the process's own by default. Open
    it in the process that uses it: not before a fork.
    """
    scheme = url.partition("://")[0]
    if scheme == "file":
        from chassis.storage.local import LocalObjects

        return LocalObjects.open(url, clock)
    if scheme == "s3":
        from chassis.storage.s3 import S3Objects
        from chassis.storage.s3_place import S3Place

        return S3Objects(S3Place.parse(url, os.environ if environ is None else environ), clock)
    raise ConfigurationFault(
        [f"unknown scheme {scheme!r}; write file:///absolute/folder or s3://bucket"],
        what="the objects URL",
    )
