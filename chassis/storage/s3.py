"""Objects in an S3 bucket.

A conditional write is repeated here and not by obstore: when an answer leaves open whether the
write happened, what is at the key has to be looked at before anything else is done.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import AsyncIterable, AsyncIterator
from contextlib import suppress
from datetime import timedelta
from typing import Any, Final

import obstore
from obstore.exceptions import BaseError

from chassis.clock import SYSTEM, Clock
from chassis.errors import AlreadyExists, StoreUnavailable
from chassis.storage.objects import STAGING, Capabilities, ObjectInfo, check_key, check_ttl
from chassis.storage.pulling import Pull
from chassis.storage.s3_answers import Answer
from chassis.storage.s3_bucket import PATIENCE, Bucket
from chassis.storage.s3_outcome import Found, Judge, created, replaced
from chassis.storage.s3_place import S3Place

PART = 8 << 20
_TOKEN = "stagedoor-write"
_ATTEMPTS = 3
_BACKOFF_S = 0.1
_PAGE = 1000


class S3Objects:
    """The objects port on one bucket. Several processes may open it, each for itself.

    Nothing is asked of the server before the first call, which looks for the bucket:
    `ConfigurationFault` when it is missing and may not be made, or whenever the keys are refused.
    What is read, bodies over 8 MB and the pieces of `create_from` may take ten times `timeout_s`.
    """

    capabilities: Final = Capabilities(presigned=True)

    def __init__(self, place: S3Place, clock: Clock = SYSTEM) -> None:
        self._place = place
        self._clock = clock
        self._bucket = Bucket(place, clock)

    def __repr__(self) -> str:
        return f"S3Objects({self._place})"

    async def create(self, key: str, body: bytes) -> None:
        token = self._token()
        await self._write(key, body, "create", token, created(key, token))

    async def create_from(self, key: str, pieces: AsyncIterable[bytes]) -> None:
        check_key(key)
        with Pull(pieces) as pull:
            await self._bucket.run(key, lambda: self._create_from(key, pull), math.inf)

    async def replace(self, key: str, body: bytes, tag: str) -> str:
        token = self._token()
        return await self._write(key, body, {"e_tag": tag}, token, replaced(key, token, tag))

    async def get(self, key: str) -> bytes:
        check_key(key)
        reads = self._bucket.reads
        return await self._bucket.run(key, lambda: bytes(obstore.get(reads, key).bytes()), PATIENCE)

    async def get_range(self, key: str, start: int, length: int) -> bytes:
        if length <= 0 or start < -length:
            size = (await self.head(key)).size
            start = max(0, size + start) if start < 0 else start
            length = min(length, size - start)
            if length <= 0:
                return b""
        check_key(key)
        return await self._bucket.run(key, lambda: self._get_range(key, start, length), PATIENCE)

    async def head(self, key: str) -> ObjectInfo:
        check_key(key)
        reads = self._bucket.reads
        return await self._bucket.run(key, lambda: _info(obstore.head(reads, key)))

    async def list(self, prefix: str = "") -> AsyncIterator[ObjectInfo]:
        if prefix:
            check_key(prefix)
        pages = iter(obstore.list(self._bucket.reads, prefix or None, chunk_size=_PAGE))
        while page := await self._bucket.run(prefix, lambda: next(pages, None), PATIENCE):
            for meta in page:
                if not meta["path"].startswith(f"{STAGING}/"):
                    yield _info(meta)

    async def delete(self, key: str) -> None:
        check_key(key)
        await self._bucket.run(key, lambda: obstore.delete(self._bucket.reads, key))

    def presigned(self, key: str, ttl_s: int) -> str:
        lasting = timedelta(seconds=check_ttl(ttl_s))
        return obstore.sign(self._bucket.reads, "GET", check_key(key), lasting)

    async def close(self) -> None:
        await self._bucket.close()

    def _token(self) -> str:
        return self._clock.entropy(16).hex()

    async def _write(self, key: str, body: bytes, mode: Any, token: str, judge: Judge) -> str:
        """A conditional write, tried until its outcome is known; returns the object's tag."""
        check_key(key)
        patience = PATIENCE if len(body) > PART else 1
        for attempt in itertools.count(1):
            done = await self._bucket.run(key, lambda: self._put(key, body, mode, token), patience)
            if isinstance(done, str):
                return done
            if not (done.taken or done.unknown):
                raise done.failure(self._place, key)
            found = await self._bucket.run(key, lambda: self._found(key))
            tag = judge(done, found, attempt > 1)
            if tag is not None:
                return tag
            if attempt == _ATTEMPTS:
                why = done.failure(self._place, key)
                raise StoreUnavailable(f"{why}; it is not known whether {key} will be written")
            await self._clock.sleep(_BACKOFF_S * 2**attempt * (0.5 + self._clock.random()))
        raise AssertionError

    def _put(self, key: str, body: bytes, mode: Any, token: str) -> str | Answer:
        store = self._bucket.large if len(body) > PART else self._bucket.writes
        try:
            put = obstore.put(store, key, body, mode=mode, attributes={_TOKEN: token})
        except (BaseError, OSError) as fault:
            return Answer.read(fault)
        return put["e_tag"] or ""

    def _found(self, key: str) -> Found | None:
        try:
            got = obstore.get(self._bucket.reads, key, options={"head": True})
        except FileNotFoundError:
            return None
        return Found(str(got.attributes.get(_TOKEN, "")), got.meta["e_tag"] or "")

    def _get_range(self, key: str, start: int, length: int) -> bytes:
        end: Any = (start, start + length) if start >= 0 else {"suffix": -start}
        try:
            got = bytes(obstore.get(self._bucket.reads, key, options={"range": end}).bytes())
        except BaseError:
            size = obstore.head(self._bucket.reads, key)["size"]
            if size == 0 or start >= size:  # a range of nothing is a fault to S3
                return b""
            raise
        return got[:length]

    def _create_from(self, key: str, pull: Pull) -> None:
        """Parts cannot be put under a condition, but a copy on the server can.

        What fails is aborted, but a part that is on its way just then, or any of a process that is
        killed, may stay: let the bucket's lifecycle end incomplete uploads after a day.
        """
        staged = f"{STAGING}/{self._token()}"
        try:
            obstore.put(
                self._bucket.large,
                staged,
                iter(pull),
                use_multipart=True,
                chunk_size=PART,
                max_concurrency=2,
            )
            pull.check()
            self._publish(staged, key)
        finally:
            with suppress(BaseError, OSError):
                obstore.delete(self._bucket.reads, staged)

    def _publish(self, staged: str, key: str) -> None:
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                obstore.copy(self._bucket.large, staged, key, overwrite=False)
                return
            except BaseError as fault:
                answer = Answer.read(fault)
                if answer.contended and attempt < _ATTEMPTS:  # then this one did not happen
                    continue
                if answer.unknown and self._found(key) is not None:
                    if self._same(staged, key):
                        return
                    raise AlreadyExists(f"the object {key} exists") from fault
                if answer.taken and not answer.contended:
                    raise AlreadyExists(f"the object {key} exists") from fault
                raise

    def _same(self, one: str, other: str) -> bool:
        """Whether two objects hold the same bytes; a copy carries no token."""
        reads = self._bucket.reads
        size = obstore.head(reads, one)["size"]
        return size == obstore.head(reads, other)["size"] and all(
            self._get_range(one, start, PART) == self._get_range(other, start, PART)
            for start in range(0, size, PART)
        )


def _info(meta: obstore.ObjectMeta) -> ObjectInfo:
    return ObjectInfo(
        meta["path"], meta["size"], meta["last_modified"].timestamp(), meta["e_tag"] or ""
    )
