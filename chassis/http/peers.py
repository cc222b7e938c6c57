"""Calls from one service to another: typed, found by discovery, isolated by a policy.

`peers.to(CALL, timeout_s=…)` prepares a call once; the result is awaited with a request and the
context of the work it belongs to. The layers, outermost first: the policy (deadline, bulkhead,
breaker, per-try timeout), then the choice of an instance, then the connection. An attempt that
provably was not processed goes to another instance once, inside the same timeout.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic

import msgspec

from chassis.clock import Clock
from chassis.contracts.wire import Ans, Call, Req
from chassis.deadline import HEADER as DEADLINE_HEADER
from chassis.discovery import Instance
from chassis.discovery.balancer import Balancer
from chassis.discovery.directory import Directory
from chassis.errors import (
    NoInstances,
    OriginFailure,
    OriginGarbled,
    Retryable,
    StagedoorError,
)
from chassis.http.api import Context
from chassis.http.connection import Connection
from chassis.http.framing import Headers
from chassis.http.pool import Address, Pool
from chassis.http.problems import failure_from
from chassis.identity import PASSPORT_HEADER
from chassis.resilience import BreakerConfig, Policy, TimerWheel, policy
from chassis.telemetry import TRACEPARENT, Telemetry, Trace

ANSWER_LIMIT = 16 << 20

Ask = Callable[[Req, Context], Awaitable[Ans]]
"""What awaits like a `Peer`: the shape in which services take the calls they make."""


class Peers:
    """All prepared calls of one process, over shared pools."""

    def __init__(
        self, directory: Directory, wheel: TimerWheel, telemetry: Telemetry, clock: Clock
    ) -> None:
        self.directory = directory
        self.clock = clock
        self.telemetry = telemetry
        self._wheel = wheel
        self._pools: dict[tuple[str, int], Pool] = {}
        self._balancers: dict[str, Balancer] = {}
        self.policies: list[Policy] = []

    def to(
        self,
        call: Call[Req, Ans],
        *,
        timeout_s: float,
        bulkhead: int = 64,
        breaker: BreakerConfig | None = None,
    ) -> Peer[Req, Ans]:
        """Prepares `call`. `timeout_s` bounds one attempt, the context's deadline the whole."""
        command = f"{call.service}.{call.name}"
        guarded = policy(
            command,
            timeout_s=timeout_s,
            bulkhead=bulkhead,
            breaker=breaker or BreakerConfig(),
            wheel=self._wheel,
            clock=self.clock,
        )
        self.policies.append(guarded)
        self.directory.watch(call.service)
        balancer = self._balancers.setdefault(call.service, Balancer())
        return Peer(call, command, guarded, balancer, self)

    def pool(self, instance: Instance) -> Pool:
        key = (instance.host, instance.port)
        pool = self._pools.get(key)
        if pool is None:
            pool = self._pools[key] = Pool(Address(*key), clock=self.clock)
        return pool

    async def prune(self) -> None:
        """Closes the pools of instances that are gone."""
        live = {
            (instance.host, instance.port)
            for service in self._balancers
            for instance in self.directory.instances(service)
        }
        for key in self._pools.keys() - live:
            await self._pools.pop(key).close()

    async def close(self) -> None:
        for pool in self._pools.values():
            await pool.close()


class Peer(Generic[Req, Ans]):
    """One prepared call. Await it with a request and a context."""

    def __init__(
        self,
        call: Call[Req, Ans],
        command: str,
        guarded: Policy,
        balancer: Balancer,
        peers: Peers,
    ) -> None:
        self.call = call
        self.command = command
        self.policy = guarded
        self._balancer = balancer
        self._peers = peers
        self._decoder = msgspec.json.Decoder(call.answer)
        self._start_line = f"POST {call.path} HTTP/1.1\r\nhost: ".encode()

    def __repr__(self) -> str:
        return f"Peer({self.command}, {self.policy!r})"

    async def __call__(self, request: Req, context: Context) -> Ans:
        """The peer's answer.

        Raises `PeerRefusal` (its 4xx), a `Refusal` (ours, nothing was sent), or an
        `OriginFailure`.
        """
        clock, telemetry = self._peers.clock, self._peers.telemetry
        trace = context.trace.child(clock)
        begun, outcome = clock.now(), "success"
        try:
            body = msgspec.json.encode(request)
            return await self.policy.call(
                self._attempts, body, context, trace, deadline=context.deadline
            )
        except StagedoorError as failure:
            outcome = failure.outcome
            raise
        finally:
            telemetry.span(trace, f"call {self.command}", begun, outcome, {})

    async def _attempts(self, body: bytes, context: Context, trace: Trace) -> Ans:
        tried: tuple[str, ...] = ()
        while True:
            instance = self._pick(tried)
            try:
                return await self._attempt(instance, body, context, trace)
            except OriginFailure as failure:
                if tried or failure.retryable is not Retryable.ALWAYS:
                    raise
                tried = (instance.id,)

    def _pick(self, tried: tuple[str, ...]) -> Instance:
        clock = self._peers.clock
        instances = self._peers.directory.instances(self.call.service)
        instance = self._balancer.pick(instances, clock.monotonic(), clock.random, tried)
        if instance is None:
            raise NoInstances(f"no instance of {self.call.service} is registered")
        return instance

    async def _attempt(
        self, instance: Instance, body: bytes, context: Context, trace: Trace
    ) -> Ans:
        clock = self._peers.clock
        started, ok = clock.monotonic(), None
        self._balancer.started(instance)
        try:
            answer = await self._exchange(instance, body, context, trace)
            result = self._decode(answer)
            ok = True
            return result
        except OriginFailure:
            ok = False
            raise
        except StagedoorError:
            ok = True
            raise
        finally:
            now = clock.monotonic()
            self._balancer.finished(instance, now - started, ok, now)

    async def _exchange(
        self, instance: Instance, body: bytes, context: Context, trace: Trace
    ) -> _Answer:
        pool = self._peers.pool(instance)
        connection = pool.take() or await pool.connect()
        answer = _Answer(pool, connection)
        connection.start(
            answer, self._head(instance, body, context, trace), method=b"POST", body=body
        )
        try:
            await answer.done
        finally:
            answer.leave()
        return answer

    def _head(self, instance: Instance, body: bytes, context: Context, trace: Trace) -> bytes:
        parts = [
            self._start_line,
            instance.address.encode(),
            b"\r\ncontent-type: application/json\r\ncontent-length: %d\r\n" % len(body),
            TRACEPARENT + b": " + trace.header() + b"\r\n",
        ]
        timeout = context.deadline.header()
        if timeout is not None:
            parts.append(DEADLINE_HEADER + b": " + timeout + b"\r\n")
        if context.passport_bytes:
            parts.append(PASSPORT_HEADER + b": " + context.passport_bytes + b"\r\n")
        parts.append(b"\r\n")
        return b"".join(parts)

    def _decode(self, answer: _Answer) -> Ans:
        body = b"".join(answer.parts)
        if answer.status >= 400:
            raise failure_from(answer.status, answer.headers, body)
        try:
            return self._decoder.decode(body)
        except msgspec.MsgspecError as fault:
            raise OriginGarbled(f"{self.command} answered something else: {fault}") from None


class _Answer:
    """Collects one answer; gives the connection back when it is complete."""

    __slots__ = ("_connection", "_pool", "_size", "done", "headers", "parts", "status")

    def __init__(self, pool: Pool, connection: Connection) -> None:
        self._pool = pool
        self._connection: Connection | None = connection
        self._size = 0
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.status = 0
        self.headers: Headers = []
        self.parts: list[bytes] = []

    def on_interim(self, status: int, headers: Headers) -> None:
        pass

    def on_head(self, status: int, reason: bytes, headers: Headers) -> None:
        self.status = status
        self.headers = headers

    def on_data(self, data: bytes) -> None:
        self.parts.append(data)
        self._size += len(data)
        if self._size > ANSWER_LIMIT:
            self._fail(OriginGarbled(f"the answer is larger than {ANSWER_LIMIT} bytes"))

    def on_end(self, trailers: Headers) -> None:
        self._give()
        if not self.done.done():
            self.done.set_result(None)

    def on_failure(self, failure: OriginFailure) -> None:
        self._fail(failure)

    def on_writable(self) -> None:
        pass

    def leave(self) -> None:
        """Nobody waits any more: an unfinished exchange ends its connection."""
        if self._connection is not None:
            self._connection.abort()
            self._give()

    def _fail(self, failure: OriginFailure) -> None:
        self.leave()
        if not self.done.done():
            self.done.set_exception(failure)

    def _give(self) -> None:
        if self._connection is not None:
            connection, self._connection = self._connection, None
            self._pool.give(connection)
