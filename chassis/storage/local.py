"""Objects in a local folder, through obstore, with the durability that it leaves to us.

obstore's local store never fsyncs. An object is first written under `.staging/`, fsynced, then
linked to its key, which fails when the key is taken, and then the folders are fsynced: after a
crash at any instant the key holds the whole body or nothing.
"""

from __future__ import annotations

import asyncio
import errno
import os
import re
from collections.abc import AsyncIterable, AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Final, TypeVar

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError
from obstore.store import LocalStore

from chassis.clock import SYSTEM, Clock
from chassis.disk.files import (
    alone_in,
    make_folder,
    path_of,
    sync_file,
    sync_folder,
    unavailable,
)
from chassis.errors import (
    AlreadyExists,
    Conflict,
    Faulty,
    Missing,
    StagedoorError,
    StoreUnavailable,
)
from chassis.storage.objects import STAGING, STALE_S, Capabilities, ObjectInfo, check_key
from chassis.storage.pulling import Pull

T = TypeVar("T")

_THREADS = 4
_ERRNO = re.compile(r"\(os error (\d+)\)")


class LocalObjects:
    """The objects port on a folder of one file system. Several processes may open it."""

    capabilities: Final = Capabilities(presigned=False)

    def __init__(self, folder: Path, clock: Clock = SYSTEM) -> None:
        make_folder(folder / STAGING)
        self._folder = folder
        self._clock = clock
        self._store = LocalStore(folder)
        self._threads = ThreadPoolExecutor(_THREADS, f"objects {folder.name}")
        self._durable: set[Path] = set()
        self._sweep()

    @classmethod
    def open(cls, url: str, clock: Clock = SYSTEM) -> LocalObjects:
        return cls(path_of(url, what="the objects URL", example="file:///var/lib/objects"), clock)

    def __repr__(self) -> str:
        return f"LocalObjects({self._folder})"

    async def create(self, key: str, body: bytes) -> None:
        await self._do(key, lambda: self._create(key, lambda staged: self._fill(staged, body)))

    async def create_from(self, key: str, pieces: AsyncIterable[bytes]) -> None:
        with Pull(pieces) as pull:
            await self._do(
                key, lambda: self._create(key, lambda staged: self._fill_from(staged, pull))
            )

    async def replace(self, key: str, body: bytes, tag: str) -> str:
        return await self._do(key, lambda: self._replace(key, body, tag))

    def presigned(self, key: str, ttl_s: int) -> str:
        raise Faulty(f"{self} has no presigned URLs: look at capabilities.presigned first")

    async def get(self, key: str) -> bytes:
        return await self._do(key, lambda: bytes(obstore.get(self._store, key).bytes()))

    async def get_range(self, key: str, start: int, length: int) -> bytes:
        return await self._do(key, lambda: self._get_range(key, start, length))

    async def head(self, key: str) -> ObjectInfo:
        return await self._do(key, lambda: _info(obstore.head(self._store, key)))

    async def list(self, prefix: str = "") -> AsyncIterator[ObjectInfo]:
        for info in await self._do(prefix or "any", lambda: self._list(prefix)):
            yield info

    async def delete(self, key: str) -> None:
        await self._do(key, lambda: self._delete(key))

    async def close(self) -> None:
        await asyncio.to_thread(self._threads.shutdown)

    async def _do(self, key: str, work: Callable[[], T]) -> T:
        """Runs `work` in a thread, where it ends whatever happens to the caller."""
        check_key(key)
        try:
            running = asyncio.get_running_loop().run_in_executor(self._threads, work)
        except RuntimeError as fault:
            raise StoreUnavailable(f"{self._folder}: {fault}") from fault
        try:
            return await running
        except (BaseError, OSError) as fault:
            raise self._translated(fault, key) from fault

    def _create(self, key: str, fill: Callable[[str], object]) -> None:
        staged = self._staged()
        try:
            fill(staged)
            sync_file(self._folder / staged)
            obstore.rename(self._store, staged, key, overwrite=False)
        except AlreadyExistsError:
            self._make_durable(key)  # whoever lost may rely on what won
            raise
        finally:
            (self._folder / staged).unlink(missing_ok=True)
        self._make_durable(key)

    def _replace(self, key: str, body: bytes, tag: str) -> str:
        staged = self._staged()
        try:
            self._fill(staged, body)
            sync_file(self._folder / staged)
            with alone_in(self._folder / STAGING):
                if obstore.head(self._store, key)["e_tag"] != tag:
                    raise Conflict(f"the object {key} has changed since")
                (self._folder / staged).replace(self._folder / key)
                new = obstore.head(self._store, key)["e_tag"]
        finally:
            (self._folder / staged).unlink(missing_ok=True)
        sync_folder((self._folder / key).parent)
        return new or ""

    def _staged(self) -> str:
        return f"{STAGING}/{os.getpid()}-{self._clock.entropy(8).hex()}"

    def _fill(self, staged: str, body: bytes) -> None:
        obstore.put(self._store, staged, body, use_multipart=False)

    def _fill_from(self, staged: str, pieces: Pull) -> None:
        with (self._folder / staged).open("wb") as file:
            for piece in pieces:
                file.write(piece)
        pieces.check()

    def _make_durable(self, key: str) -> None:
        """Fsyncs the key's folder, and once the folders above it, which may be as new."""
        folder = (self._folder / key).parent
        sync_folder(folder)
        while folder != self._folder and folder not in self._durable:
            sync_folder(folder.parent)
            self._durable.add(folder)
            folder = folder.parent

    def _get_range(self, key: str, start: int, length: int) -> bytes:
        size = obstore.head(self._store, key)["size"]
        start = max(0, size + start) if start < 0 else start
        if start >= size or length <= 0:
            return b""
        length = min(length, size - start)
        return bytes(obstore.get_range(self._store, key, start=start, length=length))

    def _list(self, prefix: str) -> Sequence[ObjectInfo]:
        found = obstore.list(self._store, prefix or None).collect()
        infos = [_info(meta) for meta in found if not meta["path"].startswith(f"{STAGING}/")]
        return sorted(infos, key=lambda info: info.key)

    def _delete(self, key: str) -> None:
        with suppress(FileNotFoundError), alone_in(self._folder / STAGING):
            obstore.delete(self._store, key)
            sync_folder((self._folder / key).parent)

    def _sweep(self) -> None:
        """Removes what crashed writers left; a young file may be another process's work."""
        for staged in (self._folder / STAGING).iterdir():
            with suppress(OSError):
                if staged.stat().st_mtime < self._clock.now() - STALE_S:
                    staged.unlink()

    def _translated(self, fault: Exception, key: str) -> StagedoorError:
        if isinstance(fault, AlreadyExistsError):
            return AlreadyExists(f"the object {key} exists")
        if isinstance(fault, FileNotFoundError):
            return Missing(f"there is no object {key}")
        number = _ERRNO.search(str(fault))
        code = getattr(fault, "errno", None) or (int(number[1]) if number else 0)
        if code == errno.ENOTDIR:
            return AlreadyExists(f"the object {key}: a folder of it is an object itself")
        return unavailable(OSError(code, str(fault).splitlines()[0]), self._folder / key)


def _info(meta: obstore.ObjectMeta) -> ObjectInfo:
    return ObjectInfo(
        meta["path"], meta["size"], meta["last_modified"].timestamp(), meta["e_tag"] or ""
    )
