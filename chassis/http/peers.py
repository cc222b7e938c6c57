"""Calls from one service to another: typed, found by discovery, isolated by a policy.

`peers.to(CALL, timeout_s=…)` prepares a call once; the result is awaited with a request and the
context of the work it belongs to. The layers, outermost first: the policy (deadline, bulkhead,
breaker, per-try timeout), then the choice of an instance, then the connection. An attempt that
provably was not processed goes to another instance once, inside the same timeout; so does one of
an idempotent call that a kept connection lost before any answer, since its other side may close
that at any time.
"""

from __future__ import annotations

import asyncio
from typing import Any, Generic, NamedTuple

import msgspec

from chassis.clock import Clock
from chassis.contracts.wire import NOT_DECODED, Ans, Call, Req
from chassis.discovery import Instance
from chassis.discovery.balancer import Balancer, Standing
from chassis.discovery.directory import Directory
from chassis.errors import (
    NoInstances,
    OriginFailure,
    OriginGarbled,
    OriginReset,
    PeerRefusal,
    RequestFailure,
    Retryable,
    StagedoorError,
)
from chassis.http import calls
from chassis.http.api import Context, MethodNotAllowed
from chassis.http.call_attempt import CallAttempt
from chassis.http.connection import Connection
from chassis.http.pool import Address, Pool
from chassis.http.problems import UNTOLD, failure_from
from chassis.resilience import BreakerConfig, Policy, TimerWheel, policy
from chassis.telemetry import Span, Telemetry, Trace

_NOT_UNDERSTOOD = frozenset({"no_such_path", MethodNotAllowed.code, UNTOLD})
_NOT_BELIEVED = 401
_ROUTES_KEPT = 64
_encode = msgspec.json.Encoder().encode


class Peers:
    """All prepared calls of one process, over shared pools."""

    def __init__(
        self, directory: Directory, wheel: TimerWheel, telemetry: Telemetry, clock: Clock
    ) -> None:
        self.directory = directory
        self.clock = clock
        self.telemetry = telemetry
        self.wheel = wheel
        self._pools: dict[tuple[str, int], Pool] = {}
        self._balancers: dict[str, Balancer] = {}
        self._pruning: set[asyncio.Task[None]] = set()
        self.policies: dict[str, Policy] = {}

    def __repr__(self) -> str:
        return f"Peers({list(self.policies.values())!r}, {list(self._pools.values())!r})"

    def to(
        self,
        call: Call[Req, Ans],
        *,
        timeout_s: float,
        bulkhead: int = 64,
        breaker: BreakerConfig | None = None,
    ) -> Peer[Req, Ans]:
        """Prepares `call`, once. `timeout_s` bounds one attempt, the context's deadline the whole.

        `ValueError` when it is prepared already: one command has one policy.
        """
        command = f"{call.service}.{call.name}"
        if command in self.policies:
            raise ValueError(f"{command} is prepared already: share that one")
        guarded = self.policies[command] = policy(
            command,
            timeout_s=timeout_s,
            bulkhead=bulkhead,
            breaker=breaker or BreakerConfig(),
            wheel=self.wheel,
            clock=self.clock,
        )
        return Peer(call, command, timeout_s, guarded, self._follow(call.service), self)

    def _follow(self, service: str) -> Balancer:
        balancer = self._balancers.get(service)
        if balancer is None:
            balancer = self._balancers[service] = Balancer()
            self.directory.subscribe(service, self._changed)
        return balancer

    def pool(self, instance: Instance) -> Pool:
        key = (instance.host, instance.port)
        pool = self._pools.get(key)
        if pool is None:
            pool = self._pools[key] = Pool(Address(*key), clock=self.clock)
        return pool

    def _changed(self, instances: tuple[Instance, ...]) -> None:
        task = asyncio.ensure_future(self.prune())
        self._pruning.add(task)
        task.add_done_callback(self._pruning.discard)

    async def prune(self) -> None:
        """Closes the pools of instances that are gone; what is under way on them may finish."""
        live = {
            (instance.host, instance.port)
            for service in self._balancers
            for instance in self.directory.instances(service)
        }
        gone = [self._pools.pop(key) for key in self._pools.keys() - live]
        for pool in gone:
            await pool.close()

    async def close(self) -> None:
        await asyncio.gather(*self._pruning)
        for pool in list(self._pools.values()):
            await pool.close()


class Peer(Generic[Req, Ans]):
    """One prepared call. Await it with a request and a context."""

    def __init__(
        self,
        call: Call[Req, Ans],
        command: str,
        timeout_s: float,
        guarded: Policy,
        balancer: Balancer,
        peers: Peers,
    ) -> None:
        self.call = call
        self.command = command
        self._span = f"call {command}"
        self.policy = guarded
        self._timeout_s = timeout_s
        self.balancer = balancer
        self._peers = peers
        self._decode = msgspec.json.Decoder(call.answer).decode
        self._directory = peers.directory
        self._wheel = peers.wheel
        self._clock = peers.clock
        self._monotonic = peers.clock.monotonic
        self._routes: dict[str, _Route] = {}
        self._loop: asyncio.AbstractEventLoop | None = None

    def __repr__(self) -> str:
        return f"Peer({self.command}, {self.policy!r})"

    async def __call__(self, request: Req, context: Context) -> Ans:
        """The peer's answer.

        Raises `PeerRefusal` (its own 4xx), a `Refusal` (ours, nothing was sent), or an
        `OriginFailure`.
        """
        started, begun = self._monotonic(), self._clock.now()
        telemetry = self._peers.telemetry
        span_id, outcome = telemetry.identifiers.span_id(), "client_gone"
        try:
            answer = await self._guarded(request, context, span_id, started)
            outcome = "success"
            return answer
        except StagedoorError as failure:
            outcome = failure.outcome
            raise
        finally:
            lasted_s = self._monotonic() - started
            telemetry.spans.add(
                CallSpan(context.trace, span_id, self._span, begun, lasted_s, outcome)
            )

    async def _guarded(self, request: Req, context: Context, span_id: str, started: float) -> Ans:
        """The policy's row, written out: a timeout fails the attempt and cancels no task."""
        guarded = self.policy
        given_s = guarded.within(context.deadline, started) or self._timeout_s
        permit = guarded.enter(started)
        try:
            sent = _Sent(_encode(request), started + given_s, span_id, context)
            answer = await self._attempts(sent)
        except asyncio.CancelledError:
            guarded.abandon(permit)
            raise
        except TimeoutError:
            raise guarded.late(permit, started, given_s) from None
        except BaseException as failure:
            guarded.fail(permit, failure, started)
            raise
        guarded.succeed(permit, started)
        return answer

    async def _attempts(self, sent: _Sent) -> Ans:
        first = self._choose(())
        try:
            return await self._attempt(first, sent)
        except OriginFailure as failure:
            if not self._may_repeat(failure):
                raise
        return await self._attempt(self._choose((first.instance.id,)), sent)

    def _may_repeat(self, failure: OriginFailure) -> bool:
        if failure.retryable is Retryable.ALWAYS:
            return True
        return isinstance(failure, OriginReset) and failure.kept and self.call.idempotent

    def _choose(self, tried: tuple[str, ...]) -> Standing:
        """Another instance than those tried, unless there is no other."""
        instances = self._directory.instances(self.call.service)
        standing = self.balancer.choose(instances, self._monotonic(), self._clock.random, tried)
        if standing is None:
            raise NoInstances(f"no instance of {self.call.service} is registered")
        return standing

    async def _attempt(self, standing: Standing, sent: _Sent) -> Ans:
        """One attempt, of which the balancer learns. One that is cancelled says nothing, unless it
        had at least half of the timeout: then the instance was too slow for whoever waited."""
        started, ok = self._monotonic(), None
        standing.in_flight += 1
        attempt: CallAttempt | None = None
        try:
            instance = standing.instance
            route = self._routes.get(instance.id)
            if route is None or route.instance is not instance:
                route = self._route(instance)
            pool = route.pool
            connection = pool.take() or await self._connect(pool, sent.until)
            attempt = CallAttempt(
                pool=pool,
                connection=connection,
                whole=(self._loop or self._running_loop()).create_future(),
                reused=connection.uses > 0,
            )
            now = self._monotonic()
            self._wheel.set(attempt, sent.until - now, now)
            attempt.start(_written(route, sent, now))
            answer = self._read(attempt, await attempt.whole)
            ok = True
            return answer
        except RequestFailure:
            ok = True
            raise
        except OriginFailure:
            ok = False
            raise
        except (asyncio.CancelledError, TimeoutError):
            ok = False if self._monotonic() - started >= self._timeout_s / 2 else None
            raise
        finally:
            now = self._monotonic()
            if attempt is not None:
                attempt.leave()
                if attempt.utilisation is not None:
                    self.balancer.reported(standing, attempt.utilisation, now)
            self.balancer.ended(standing, now - started, ok, now)

    async def _connect(self, pool: Pool, until: float) -> Connection:
        async with asyncio.timeout(until - self._monotonic()):
            return await pool.connect()

    def _running_loop(self) -> asyncio.AbstractEventLoop:
        """Kept: asking asyncio for it costs a system call each time."""
        self._loop = asyncio.get_running_loop()
        return self._loop

    def _route(self, instance: Instance) -> _Route:
        if len(self._routes) >= _ROUTES_KEPT:
            self._routes.clear()
        start = calls.call_start(self.call.path, instance.address)
        route = self._routes[instance.id] = _Route(instance, self._peers.pool(instance), start)
        return route

    def _read(self, answer: CallAttempt, body: bytes) -> Ans:
        if not 200 <= answer.status < 300:
            raise self._refused(failure_from(answer.status, answer.headers, body))
        try:
            return self._decode(body)
        except NOT_DECODED as fault:
            raise OriginGarbled(f"{self.command} answered something else: {fault}") from None

    def _refused(self, failure: StagedoorError) -> StagedoorError:
        """The failure that an answer tells. Whoever does not know the call, or does not believe
        whom it comes from, has refused nothing: another service, or another version, is there."""
        if isinstance(failure, PeerRefusal) and (
            failure.code in _NOT_UNDERSTOOD or failure.status == _NOT_BELIEVED
        ):
            return OriginGarbled(
                f"{self.command} was not understood: {failure.status} {failure.code}"
            )
        return failure


class _Route(NamedTuple):
    """How one instance is reached: its pool, and how calls to it begin."""

    instance: Instance
    pool: Pool
    start: bytes


class _Sent(NamedTuple):
    """What every attempt of one call sends. `until` is when nobody waits any more."""

    body: bytes
    until: float
    span_id: str
    context: Context


def _written(route: _Route, sent: _Sent, now: float) -> bytes:
    left_ms = b"%d" % max(0, int((sent.until - now) * 1000))
    context = sent.context
    traceparent = context.trace.header_of(sent.span_id)
    return calls.written_call(route.start, sent.body, traceparent, left_ms, context.passport_bytes)


class CallSpan(msgspec.Struct, frozen=True):
    """A call that is over, as a span of the one who asked."""

    parent: Trace
    span_id: str
    name: str
    start: float
    lasted_s: float
    outcome: str

    @property
    def trace(self) -> Trace:
        parent = self.parent
        return Trace(parent.trace_id, self.span_id, parent.span_id, parent.sampled)

    def as_dict(self, service: str) -> dict[str, Any]:
        end = self.start + self.lasted_s
        return Span(self.trace, self.name, self.start, end, self.outcome, {}).as_dict(service)
