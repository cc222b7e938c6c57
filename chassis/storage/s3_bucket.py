"""A bucket: obstore's clients for it, the threads that use them, and its first inspection.

obstore's blocking calls run in threads of ours, as on a local folder: its asynchronous ones touch
the interpreter from threads that nobody joins, and one abandoned at exit can abort the process.
"""

from __future__ import annotations

import asyncio
import urllib.request
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import TYPE_CHECKING, TypeVar
from urllib.error import HTTPError

import obstore
from obstore.exceptions import BaseError
from obstore.store import S3Store

from chassis.clock import Clock
from chassis.errors import StoreUnavailable
from chassis.storage.objects import STAGING, STALE_S
from chassis.storage.s3_answers import Answer, no_bucket
from chassis.storage.s3_place import REGION, S3Place

if TYPE_CHECKING:
    from obstore.store import ClientConfig, S3Config

T = TypeVar("T")

PATIENCE = 10
_THREADS = 8
_READ_RETRIES = 2
_MAKINGS = 4
_PAUSE_S = 0.1


class Bucket:
    """One bucket. `reads` repeats by itself, `writes` never; both take ordinary sizes, and
    `large` is as patient as a big body needs."""

    def __init__(self, place: S3Place, clock: Clock) -> None:
        patient_s = PATIENCE * place.timeout_s
        self.place = place
        self.reads = _store(place, patient_s, read_timeout_s=place.timeout_s, retries=_READ_RETRIES)
        self.writes = _store(place, place.timeout_s)
        self.large = _store(place, patient_s)
        self._clock = clock
        self._threads = ThreadPoolExecutor(_THREADS, f"objects {place.bucket}")
        self._opening: asyncio.Task[None] | None = None
        self._opened = False

    async def run(self, key: str, work: Callable[[], T], patience: float = 1) -> T:
        """Runs `work` in a thread, where it ends whatever happens to the caller.

        `patience` is how many times the usual the caller waits for it; infinite where the caller
        himself sets the pace.
        """
        if not self._opened:
            await self._open_together()
        return await self._run(key, work, patience)

    async def close(self) -> None:
        if self._opening is not None:
            self._opening.cancel()
        await asyncio.to_thread(self._threads.shutdown)

    async def _run(self, key: str, work: Callable[[], T], patience: float = 1) -> T:
        wait_s = 2 * patience * self.place.timeout_s  # as long again for its turn
        try:
            running = asyncio.get_running_loop().run_in_executor(self._threads, work)
        except RuntimeError as fault:
            raise StoreUnavailable(f"{self.place}: {fault}") from fault
        try:
            async with asyncio.timeout(wait_s):
                return await running
        except TimeoutError as fault:
            why = f"no answer within {wait_s:g} s: is it slow, or away?"
            raise StoreUnavailable(f"{self.place}: {why}") from fault
        except (BaseError, OSError) as fault:
            raise Answer.read(fault).failure(self.place, key) from fault

    async def _open_together(self) -> None:
        """Opens once for all who wait for it; all of them hear why when it fails."""
        if self._opening is None:
            self._opening = asyncio.get_running_loop().create_task(self._open())
            self._opening.add_done_callback(self._forget)
        opening, caller = self._opening, asyncio.current_task()
        try:
            await asyncio.shield(opening)
        except asyncio.CancelledError:
            if not opening.cancelled() or (caller is not None and caller.cancelling()):
                raise
            raise StoreUnavailable(f"{self.place}: closed before it was open") from None

    def _forget(self, opening: asyncio.Task[None]) -> None:
        self._opening = None
        self._opened = not opening.cancelled() and opening.exception() is None

    async def _open(self) -> None:
        """Looks for the bucket, makes it if allowed, and removes what crashed writers left."""
        for attempt in range(_MAKINGS):
            if await self._run(STAGING, self._is_there):
                return
            await self._clock.sleep(attempt * _PAUSE_S)  # several processes may be making it
            await self._run(STAGING, self._make)
        raise no_bucket(self.place)

    def _is_there(self) -> bool:
        try:
            found = obstore.list(self.reads, STAGING).collect()
        except (BaseError, OSError) as fault:
            if self.place.create and Answer.read(fault).no_bucket:
                return False
            raise
        for meta in found:
            if meta["last_modified"].timestamp() < self._clock.now() - STALE_S:
                obstore.delete(self.reads, meta["path"])
        return True

    def _make(self) -> None:
        """obstore makes no buckets, but signs the request that does."""
        bare = _store(self.place, self.place.timeout_s, prefix=False)
        url = obstore.sign(bare, "PUT", "", timedelta(seconds=60))
        request = urllib.request.Request(url, _location(self.place.region), method="PUT")
        try:
            urllib.request.urlopen(request, timeout=self.place.timeout_s).close()
        except HTTPError as refusal:
            refusal.close()


def _store(
    place: S3Place,
    timeout_s: float,
    *,
    read_timeout_s: float | None = None,
    retries: int = 0,
    prefix: bool = True,
) -> S3Store:
    """A client. A retry's answer may be of the try before it, so only reads have retries."""
    config: S3Config = {
        "access_key_id": place.access_key,
        "secret_access_key": place.secret_key,
        "region": place.region,
        "copy_if_not_exists": "multipart",
        "disable_bulk_delete": True,
    }
    if place.endpoint:
        config["endpoint"] = place.endpoint
    if place.session_token:
        config["session_token"] = place.session_token
    options: ClientConfig = {
        "allow_http": place.endpoint.startswith("http://"),
        "connect_timeout": timedelta(seconds=min(2.0, place.timeout_s)),
        "timeout": timedelta(seconds=timeout_s),
    }
    if read_timeout_s is not None:
        options["read_timeout"] = timedelta(seconds=read_timeout_s)
    return S3Store(
        place.bucket,
        prefix=place.prefix or None if prefix else None,
        config=config,
        client_options=options,
        retry_config={
            "max_retries": retries,
            "retry_timeout": timedelta(seconds=place.timeout_s),
            "backoff": {
                "init_backoff": timedelta(seconds=0.05),
                "max_backoff": timedelta(seconds=1),
                "base": 2,
            },
        },
    )


def _location(region: str) -> bytes | None:
    if region == REGION:
        return None
    return (
        f"<CreateBucketConfiguration><LocationConstraint>{region}</LocationConstraint>"
        "</CreateBucketConfiguration>"
    ).encode()
