"""The driver: one session, and its answers brought to the event loop.

The driver answers on a thread of its own. Answers gather in a queue and the loop is woken once
for all that have gathered, however many there are. Nothing above this file sees the driver.
"""

from __future__ import annotations

import asyncio
import struct
from collections import deque
from collections.abc import Sequence
from typing import Any, NamedTuple

from cassandra.cluster import ResponseFuture
from cassandra.policies import FallthroughRetryPolicy, RetryPolicy
from cassandra.protocol import BatchMessage, ExecuteMessage
from cassandra.query import BatchType, SimpleStatement, tuple_factory

from chassis.errors import StoreUnavailable
from chassis.storage.cassandra_connect import QUORUM, SERIAL, Connected, connect
from chassis.storage.cassandra_faults import translated
from chassis.storage.cassandra_url import Address

AT_ONCE = 8_192
"""Requests under way, the others wait: the driver blocks the loop when a connection has no more
than 32,768."""
_PLAIN_TAIL = struct.Struct(">HB")
_TIMED_TAIL = struct.Struct(">HBq")
_SERIAL_TAIL = struct.Struct(">HBH")
_WITH_TIMESTAMP = 0x20
_WITH_SERIAL = 0x10


class Answer(NamedTuple):
    """Rows of stored values; `names` of the columns; `more` asks for the next page."""

    rows: Sequence[tuple[Any, ...]]
    names: Sequence[str]
    more: bytes | None


class Write(BatchMessage):  # type: ignore[misc]  # the driver has no types
    """Statements that were packed already."""

    def __init__(self, kind: BatchType, count: int, packed: bytes, tail: bytes) -> None:
        super().__init__(kind, (), QUORUM)
        self._body = bytes([kind.value]) + count.to_bytes(2, "big") + packed + tail

    def send_body(self, f: Any, protocol_version: int) -> None:
        f.write(self._body)


class Request(NamedTuple):
    """What the driver is to send, and how it may repeat it."""

    message: Any
    routing: bytes | None
    retries: Any
    statement: Any


class Link:
    """One session of the driver, opened at first use. For one event loop.

    A request that finds `at_once` under way waits for its turn, as long as it would for an answer.
    """

    def __init__(self, address: Address, at_once: int = AT_ONCE) -> None:
        self.address = address
        self.ready: dict[str, Any] = {}
        self._at_once = at_once
        self._connected: Connected | None = None
        self._opening: asyncio.Future[Connected] | None = None
        self._ending: asyncio.Future[None] | None = None
        self._preparing: dict[str, asyncio.Future[Any]] = {}
        self._closed = False
        self._answers: deque[tuple[asyncio.Future[Answer], Answer | None, Any]] = deque()
        self._woken = False
        self._under_way = 0
        self._waiting: deque[tuple[asyncio.Future[Answer], asyncio.TimerHandle, Request]] = deque()
        self._plain, self._once = RetryPolicy(), FallthroughRetryPolicy()

    def __repr__(self) -> str:
        return f"Link({self.address}, under_way={self._under_way}, waiting={len(self._waiting)})"

    async def open(self) -> None:
        """Connects unless it has; in a thread, as it blocks. A failure is tried again next time."""
        if self._connected is not None:
            return
        if self._closed:
            raise self._ended()
        if self._opening is None or self._opening.done():
            self._opening = asyncio.ensure_future(asyncio.to_thread(connect, self.address))
            self._opening.add_done_callback(_heard)
        connected = await self._translated(asyncio.shield(self._opening))
        if self._closed:
            raise self._ended()
        self._connected = connected

    async def prepared(self, cql: str) -> Any:
        """The prepared statement, made at its first use; look into `ready` before."""
        await self.open()
        preparing = self._preparing.get(cql)
        if preparing is None:
            work = asyncio.to_thread(self._driver.session.prepare, cql)
            preparing = self._preparing[cql] = asyncio.ensure_future(work)
            preparing.add_done_callback(lambda done: self._prepared(cql, done))
        return await self._translated(asyncio.shield(preparing))

    async def run(self, cql: str, *, timeout_s: float | None = None) -> Answer:
        """A statement that is used once, such as one that makes a table."""
        await self.open()
        answer = self._driver.session.execute_async(
            SimpleStatement(cql, fetch_size=None), timeout=timeout_s or self.address.timeout_s
        )
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._hear(answer, future)
        return await future

    def read(
        self,
        statement: Any,
        values: Sequence[bytes] = (),
        routing: bytes | None = None,
        *,
        fetch: int | None = None,
        more: bytes | None = None,
    ) -> asyncio.Future[Answer]:
        """Sends unless too many are under way, then it waits; `values` without their lengths.
        `more` asks for the next page."""
        message = ExecuteMessage(
            statement.query_id,
            values,
            QUORUM,
            fetch_size=fetch,
            paging_state=more,
            skip_meta=bool(statement.result_metadata),
            result_metadata_id=statement.result_metadata_id,
        )
        return self._sent(Request(message, routing, self._plain, statement))

    def write(
        self,
        fragments: Sequence[bytes],
        routing: bytes,
        *,
        logged: bool = False,
        timed: bool = False,
    ) -> asyncio.Future[Answer]:
        """Sends fragments as one batch, repeated by the driver where that is harmless: always.

        `timed` rows take the present time of this process as their timestamp.
        """
        if timed:
            stamp = self._driver.cluster.timestamp_generator()
            tail = _TIMED_TAIL.pack(QUORUM, _WITH_TIMESTAMP, stamp)
        else:
            tail = _PLAIN_TAIL.pack(QUORUM, 0)
        kind = BatchType.LOGGED if logged else BatchType.UNLOGGED
        message = Write(kind, len(fragments), b"".join(fragments), tail)
        return self._sent(Request(message, routing, self._plain, None))

    def swap(self, fragment: bytes, routing: bytes) -> asyncio.Future[Answer]:
        """Sends one conditional statement, sent once: its first value is whether it was applied."""
        tail = _SERIAL_TAIL.pack(QUORUM, _WITH_SERIAL, SERIAL)
        message = Write(BatchType.UNLOGGED, 1, fragment, tail)
        return self._sent(Request(message, routing, self._once, None))

    def replicas(self, routing: bytes) -> tuple[str, ...]:
        """Who keeps a partition: rows with the same keepers may travel together."""
        metadata = self._driver.cluster.metadata
        if len(metadata.all_hosts()) == 1:
            return ()
        hosts = metadata.get_replicas(self.address.keyspace, routing)
        return tuple(sorted(str(host.endpoint) for host in hosts))

    async def learn(self) -> None:
        """Looks up which node keeps what, once the keyspace is there."""
        keyspace = self.address.keyspace
        await self._translated(
            asyncio.to_thread(self._driver.cluster.refresh_keyspace_metadata, keyspace, 0)
        )

    async def agree(self, wait_s: float) -> None:
        """Waits until every node that is up knows the same schema."""
        wait = self._driver.cluster.control_connection.wait_for_schema_agreement
        if not await self._translated(asyncio.to_thread(wait, None, None, wait_s)):
            raise StoreUnavailable(f"{self.address}: its nodes do not agree on the schema")

    async def close(self) -> None:
        """Ends the session, also one that is still being opened and also when the caller does not
        wait for it; what is under way fails."""
        self._closed, self._connected = True, None
        while self._waiting:
            self._give_up(self._waiting.popleft()[0], self._ended())
        if self._ending is None and self._opening is not None:
            self._ending = asyncio.ensure_future(_end(self._opening))
        if self._ending is not None:
            await asyncio.shield(self._ending)

    @property
    def release(self) -> tuple[int, ...]:
        """The server's version."""
        return self._driver.release

    @property
    def _driver(self) -> Connected:
        if self._connected is None:
            raise self._ended()
        return self._connected

    def _ended(self) -> StoreUnavailable:
        return StoreUnavailable(f"{self.address} is closed")

    async def _translated(self, work: Any) -> Any:
        try:
            return await work
        except Exception as fault:
            raise translated(fault, self.address) from fault

    def _prepared(self, cql: str, done: asyncio.Future[Any]) -> None:
        self._preparing.pop(cql, None)
        _heard(done)
        if not done.cancelled() and done.exception() is None:
            self.ready[cql] = done.result()

    def _sent(self, request: Request) -> asyncio.Future[Answer]:
        driver = self._driver
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Answer] = loop.create_future()
        if self._under_way < self._at_once and not self._waiting:
            self._send(driver, request, future)
            return future
        late = StoreUnavailable(f"{self.address}: too many requests are under way")
        timer = loop.call_later(self.address.timeout_s, self._give_up, future, late)
        self._waiting.append((future, timer, request))
        return future

    def _send(self, driver: Connected, request: Request, future: asyncio.Future[Answer]) -> None:
        answer = ResponseFuture(
            driver.session,
            request.message,
            SimpleStatement("", routing_key=request.routing, keyspace=self.address.keyspace),
            self.address.timeout_s,
            prepared_statement=request.statement,
            retry_policy=request.retries,
            row_factory=tuple_factory,
            load_balancer=driver.balancer,
        )
        answer.send_request()
        self._hear(answer, future)

    def _send_waiting(self) -> None:
        """Sends those whose turn it is now; whoever was cancelled, or has waited too long, is
        passed over."""
        while self._waiting and self._under_way < self._at_once:
            future, timer, request = self._waiting.popleft()
            timer.cancel()
            if future.done():
                continue
            try:
                self._send(self._driver, request, future)
            except Exception as fault:
                future.set_exception(translated(fault, self.address))

    @staticmethod
    def _give_up(future: asyncio.Future[Answer], failure: StoreUnavailable) -> None:
        if not future.done():
            future.set_exception(failure)

    def _hear(self, answer: Any, future: asyncio.Future[Answer]) -> None:
        self._under_way += 1
        args = (future, answer, future.get_loop())
        answer.add_callbacks(self._landed, self._failed, callback_args=args, errback_args=args)

    # These two run on the driver's thread.
    def _landed(self, rows: Any, future: Any, answer: Any, loop: Any) -> None:
        names = answer._col_names or ()
        self._wake(loop, (future, Answer(rows or (), names, answer._paging_state), None))

    def _failed(self, fault: Exception, future: Any, answer: Any, loop: Any) -> None:
        self._wake(loop, (future, None, fault))

    def _wake(self, loop: asyncio.AbstractEventLoop, entry: Any) -> None:
        self._answers.append(entry)
        if self._woken:
            return
        self._woken = True
        try:
            loop.call_soon_threadsafe(self._drain)
        except RuntimeError:  # the loop has ended, and nobody waits
            self._woken = False

    def _drain(self) -> None:
        self._woken = False
        answers = self._answers
        while answers:
            future, answer, fault = answers.popleft()
            self._under_way -= 1
            if future.done():
                continue
            if answer is not None:
                future.set_result(answer)
            else:
                failure = translated(fault, self.address)
                failure.__cause__ = fault
                future.set_exception(failure)
        self._send_waiting()


async def _end(opening: asyncio.Future[Connected]) -> None:
    await asyncio.wait([opening])
    if not opening.cancelled() and opening.exception() is None:
        await asyncio.to_thread(opening.result().cluster.shutdown)


def _heard(done: asyncio.Future[Any]) -> None:
    """A failure that nobody waits for any more is no news."""
    if not done.cancelled():
        done.exception()
