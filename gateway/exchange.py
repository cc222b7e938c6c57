"""One request in flight, with its context; itself the receiver of the upstream's answer.

The straight path is synchronous: match -> filters (token from the cache, passport) -> pick an
instance -> take an idle connection -> send; then the answer streams back through the callbacks.
A task exists only while something has to be awaited: a token's first verification, a new
connection, a filter that waits. Whichever way it ends, `_end` runs once and gives back everything
that was taken.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Coroutine, Mapping
from typing import TYPE_CHECKING, Any

from chassis.discovery import Instance
from chassis.errors import (
    Faulty,
    OriginFailure,
    OriginTimeout,
    Retryable,
    StagedoorError,
)
from chassis.http.connection import Connection
from chassis.http.framing import CHUNKED, Headers, chunk, last_chunk
from chassis.http.pool import Pool
from chassis.http.problems import problem
from chassis.identity import Claims
from chassis.telemetry import Trace
from gateway import upstream
from gateway.edge import response
from gateway.edge.ports import Downstream
from gateway.edge.refusals import BodyTooLarge, NoRoute
from gateway.edge.request import Request, clean_trailers
from gateway.edge.response import Framing
from gateway.edge.tunnel import Tunnel
from gateway.filters.chain import run
from gateway.origins import Origin
from gateway.ready import ReadyRoute
from gateway.reasons import reason

if TYPE_CHECKING:
    from gateway.core import Gateway

ATTEMPTS = 2
"""In all; and only where the first provably was not processed."""

GATEWAY_FAILURES = frozenset({502, 503, 504})
CLIENT_GONE = 499


class Exchange(Request):
    """What filters see and edit: everything of `Request`, and the context below.

    `claims` is None until a credential was verified. `status` is 0 until an answer has begun.
    """

    __slots__ = (
        "_body",
        "_connection",
        "_done",
        "_downstream",
        "_framing",
        "_gateway",
        "_head",
        "_headed_at",
        "_held",
        "_instance",
        "_joined",
        "_keep",
        "_mark",
        "_more",
        "_origin",
        "_parked",
        "_pool",
        "_sent_at",
        "_serving",
        "_streamed",
        "_task",
        "_trailers",
        "_tried",
        "attempts",
        "bytes_in",
        "bytes_out",
        "caller",
        "claims",
        "detail",
        "outcome",
        "ready",
        "response_headers",
        "started",
        "status",
        "trace",
        "version",
    )

    def __init__(
        self,
        gateway: Gateway,
        downstream: Downstream,
        method: bytes,
        target: bytes,
        version: str,
        fields: Headers,
    ) -> None:
        super().__init__(method, target, version, fields, downstream.peer)
        self._gateway = gateway
        self._downstream = downstream
        self._connection: Connection | None = None
        self._origin: Origin | None = None
        self._instance: Instance | None = None
        self._pool: Pool | None = None
        self._task: asyncio.Task[None] | None = None
        self._joined: Tunnel | None = None
        self._parked: list[bytes] | None = None
        self._tried: tuple[str, ...] = ()
        self._head = b""
        self._framing = Framing.NONE
        self._streamed = False
        self._done = False
        self._keep = False
        self._held = False
        self._headed_at = 0.0
        self._mark: tuple[int, int] | None = None
        self.ready: ReadyRoute | None = None
        self.version = 0
        self.trace: Trace | None = None
        self.caller: Claims | None = None
        self.claims: Mapping[str, Any] | None = None
        self.response_headers: Headers = []
        self.status = 0
        self.outcome = "success"
        self.detail = ""
        self.attempts = 0
        self.bytes_in = 0
        self.bytes_out = 0

    def __repr__(self) -> str:
        name = self.ready.name if self.ready else "no route yet"
        return f"Exchange({self.method!r} {self.path!r}, {name}, {self.status or 'unanswered'})"

    # -- what filters may do

    @property
    def is_answered(self) -> bool:
        """Whether an answer has begun."""
        return self.status != 0

    def identify(self, claims: Claims) -> None:
        """The caller is known."""
        self.caller = claims
        self.claims = claims.values

    def reply(self, status: int, headers: Headers, body: bytes = b"") -> None:
        """Answers from here. `headers` without any framing; their names may be of any case."""
        self.status = status
        if self.outcome == "success":
            self.outcome = outcome_of(status)
        fields = [(name, value) for name, value in headers if name.lower() != b"content-length"]
        if status != 204 and status != 304:
            fields.append((b"content-length", b"%d" % len(body)))
        sent = b"" if self.method == b"HEAD" else body
        self._keep = self.keep_alive and self._downstream.may_keep()
        text = response.head(
            status, reason(status), fields, Framing.LENGTH, is_11=self.is_11, keep_alive=self._keep
        )
        self.bytes_out = len(sent)
        self._downstream.transport.write(text + sent)
        self._end()

    # -- the request, from the client's connection

    def begin(self, body: bytes, more: bool, trailers: Headers) -> None:
        gateway = self._gateway
        self._body = body
        self._more = more
        self._trailers = trailers
        self.bytes_in = len(body)
        self.started = gateway.clock.monotonic()
        gateway.in_flight.now += 1
        try:
            gateway.in_flight.check()
            self._route()
        except Exception as failure:  # whatever a filter raises, the request is answered
            self.fail(failure)

    def receive(self, body: bytes, more: bool, trailers: Headers) -> None:
        if self._done:
            return
        self.bytes_in += len(body)
        self._more = more
        self._trailers = trailers
        ready = self.ready
        if ready is not None:
            limit = ready.route.body_limit
            if limit is not None and self.bytes_in > limit:
                self.fail(BodyTooLarge(f"the body is larger than {limit} bytes"))
                return
            ready.timeouts.enter(self, self._gateway.clock.monotonic())
        if self._connection is None:
            self._body += body
            if more:
                self._hold()
            return
        self._streamed = True
        if not self._connection.send(self._framed(body)):
            self._hold()
        if not more:
            self._connection.finish()

    def refuse(self, failure: StagedoorError) -> None:
        self.fail(failure)

    def abandon(self) -> None:
        if not self._done:
            self.status = CLIENT_GONE
            self.outcome = "client_gone"
            self._end()

    def choke(self) -> None:
        if self._connection is not None:
            self._connection.pause()

    def unchoke(self) -> None:
        if self._connection is not None:
            self._connection.resume()

    # -- the way in

    def _route(self) -> None:
        self._serving = serving = self._gateway.serving
        self.version = serving.snapshot.version
        if self.target == b"*":
            self.reply(204, [(b"allow", b"DELETE, GET, HEAD, OPTIONS, PATCH, POST, PUT")])
            return
        match = serving.snapshot.match(self)
        if match is None:
            raise NoRoute("no rule matches this request")
        self.ready = ready = serving.ready(match.route)
        limit = match.route.body_limit
        if limit is not None and (self.length > limit or self.bytes_in > limit):
            raise BodyTooLarge(f"the body is larger than {limit} bytes")
        ready.timeouts.enter(self, self.started)
        if match.needs_claims:
            self._learn_claims(ready)
        else:
            self._run_inbound(ready)

    def _learn_claims(self, ready: ReadyRoute) -> None:
        """The match hangs on claims: verifies the credential, then matches once more."""
        waiting = ready.authenticate.apply(self) if ready.authenticate is not None else None
        if waiting is not None:
            self._spawn(self._match_after(waiting))
        else:
            self._match_again()

    async def _match_after(self, waiting: Awaitable[None]) -> None:
        await waiting
        self._match_again()

    def _match_again(self) -> None:
        if self.claims is None:
            self.claims = {}
        serving = self._serving
        match = serving.snapshot.match(self)
        if match is None:
            raise NoRoute("no rule matches this request")
        assert self.ready is not None
        self.ready.timeouts.leave(self)
        self.ready = ready = serving.ready(match.route)
        ready.timeouts.enter(self, self.started)
        self._run_inbound(ready)

    def _run_inbound(self, ready: ReadyRoute) -> None:
        waiting = run(ready.inbound, self)
        if waiting is not None:
            self._spawn(self._endpoint_after(waiting))
        elif not self.status:
            self._endpoint(ready)

    async def _endpoint_after(self, waiting: Awaitable[None]) -> None:
        await waiting
        if not self.status and self.ready is not None:
            self._endpoint(self.ready)

    def _endpoint(self, ready: ReadyRoute) -> None:
        """The rule's action."""
        route = ready.route
        cluster = route.choose(self._gateway.clock.random())
        if cluster is not None:
            self._origin = ready.origins[cluster]
            self._head = upstream.head(self, ready)
            self._attempt(self._origin)
        elif route.reply is not None:
            self.reply(route.reply.status, list(route.reply.headers), route.reply.body)
        elif route.redirect is not None:
            self.reply(route.redirect.status, [(b"location", route.redirect.location(self))])
        else:
            raise Faulty(f"the rule {route.name} has no cluster")

    # -- attempts

    def _attempt(self, origin: Origin) -> None:
        now = self._gateway.clock.monotonic()
        instance = origin.pick(now, self._tried)
        self._instance = instance
        self._sent_at = now
        self.attempts += 1
        origin.balancer.started(instance)
        self._pool = pool = origin.pool(instance)
        connection = pool.take()
        if connection is None:
            self._spawn(self._connect(pool))
        else:
            self._start(connection)

    async def _connect(self, pool: Pool) -> None:
        try:
            connection = await pool.connect()
        except OriginFailure as failure:
            self._task = None
            self.on_failure(failure)
            return
        self._task = None
        self._start(connection)

    def _start(self, connection: Connection) -> None:
        self._connection = connection
        body = self._framed(self._body) if self._body or self.length else b""
        writable = connection.start(
            self, self._head, method=self.method, body=body, more=self._more
        )
        if not self._more:
            return
        if writable:
            self.on_writable()
        else:
            self._hold()

    def _hold(self) -> None:
        """No more of the request's body for now."""
        self._held = True
        self._downstream.hold()

    def _framed(self, body: bytes) -> bytes:
        if self.length != CHUNKED:
            return body
        framed = chunk(body)
        return framed if self._more else framed + last_chunk(clean_trailers(self._trailers))

    def _give_back(self, *, is_complete: bool, status: str) -> None:
        """The attempt is over: its connection, its place in the balancer, its counter."""
        instance, origin, pool = self._instance, self._origin, self._pool
        if instance is None or origin is None or pool is None:
            return
        connection, self._connection, self._instance = self._connection, None, None
        if connection is not None:
            if not is_complete:
                connection.abort()
            pool.give(connection)
        now = self._headed_at or self._gateway.clock.monotonic()
        origin.balancer.finished(instance, now - self._sent_at, _verdict(status), now)
        attempt = "initial" if self.attempts == 1 else "retry"
        self._gateway.observer.attempts.child(origin.name, attempt, status).n += 1

    # -- the answer, from the upstream's connection

    def on_interim(self, status: int, headers: Headers) -> None:
        if self.is_11 and not self.status:
            kept, _ = response.travelling(headers)
            lines = response.interim(status, reason(status), kept)
            self._downstream.transport.write(lines)

    def on_head(self, status: int, reason: bytes, headers: Headers) -> None:
        self._headed_at = self._gateway.clock.monotonic()
        self.status = status
        if status == 101:
            self._tunnel(headers)
            return
        if status >= 400:
            self.outcome = outcome_of(status)
        kept, has_length = response.travelling(headers)
        self.response_headers = kept
        ready = self.ready
        assert ready is not None
        if ready.route.response_headers or ready.outbound:
            self._edit_response(ready, reason, has_length)
        else:
            self._write_head(reason, has_length)

    def _edit_response(self, ready: ReadyRoute, reason: bytes, has_length: bool) -> None:
        framed_by = _lengths(self.response_headers)
        self.response_headers = ready.route.response_headers.apply(self.response_headers)
        try:
            waiting = run(ready.outbound, self)
        except Exception as failure:  # whatever a filter raises, the answer does not pass it
            self.status = 0
            self.fail(failure)
            return
        if waiting is not None:
            self._parked = []
            self.choke()
            self._spawn(self._write_head_after(waiting, reason, framed_by))
        else:
            self._write_edited(reason, framed_by)

    async def _write_head_after(
        self, waiting: Awaitable[None], reason: bytes, framed_by: Headers
    ) -> None:
        try:
            await waiting
        except Exception:
            self.status = 0
            raise
        parked, self._parked = self._parked or [], None
        self._task = None
        self._write_edited(reason, framed_by)
        for data in parked:
            self.on_data(data)
        if self._connection is not None:
            self.unchoke()
        else:
            self._finish([])

    def _write_edited(self, reason: bytes, framed_by: Headers) -> None:
        """No edit can touch the framing: the length is what the upstream said, or unknown."""
        kept = [pair for pair in self.response_headers if pair[0].lower() != b"content-length"]
        self.response_headers = kept + framed_by
        self._write_head(reason, bool(framed_by))

    def _write_head(self, reason: bytes, has_length: bool) -> None:
        headers = self.response_headers
        status = self.status
        if status == 204 and has_length:
            headers = response.without_length(headers)
        framed = response.framing(self.method, status, has_length, self.is_11)
        self._framing = framed
        self._keep = self.keep_alive and framed is not Framing.CLOSE and self._downstream.may_keep()
        self._downstream.transport.write(
            response.head(status, reason, headers, framed, is_11=self.is_11, keep_alive=self._keep)
        )

    def on_data(self, data: bytes) -> None:
        if self._parked is not None:
            self._parked.append(data)
            return
        self.bytes_out += len(data)
        self._downstream.transport.write(chunk(data) if self._framing is Framing.CHUNKED else data)

    def on_end(self, trailers: Headers) -> None:
        self._give_back(is_complete=True, status=str(self.status))
        if self._parked is None:
            self._finish(trailers)

    def _finish(self, trailers: Headers) -> None:
        if self._framing is Framing.CHUNKED:
            self._downstream.transport.write(last_chunk(clean_trailers(trailers)))
        self._end()

    def on_failure(self, failure: OriginFailure) -> None:
        instance = self._instance
        self._give_back(is_complete=False, status=failure.code)
        if self._may_retry(failure) and instance is not None and self._origin is not None:
            self._tried = (*self._tried, instance.id)
            try:
                self._attempt(self._origin)
            except Exception as refused:  # no instance left: the caller gets the first failure
                self.fail(failure if isinstance(refused, StagedoorError) else refused)
        else:
            self.fail(failure)

    def _may_retry(self, failure: OriginFailure) -> bool:
        """Only with proof that nothing was processed, and while the whole body is at hand."""
        return (
            failure.retryable is Retryable.ALWAYS
            and self.attempts < ATTEMPTS
            and not self._streamed
            and not self.status
        )

    def on_writable(self) -> None:
        if self._held:
            self._held = False
            self._downstream.release()

    # -- upgrades

    def _tunnel(self, headers: Headers) -> None:
        """Both sides agreed to speak something else: hands both transports over."""
        connection, downstream, ready = self._connection, self._downstream, self.ready
        assert connection is not None and ready is not None
        kept, _ = response.travelling(headers)
        kept += [(b"connection", b"upgrade"), (b"upgrade", self.upgrade or b"")]
        transport, leftover = connection.detach()
        self._connection = None
        self._give_back(is_complete=True, status="101")
        ready.timeouts.leave(self)
        self._keep = False
        downstream.transport.write(response.interim(101, b"Switching Protocols", kept))
        window = self._gateway.window
        self._joined = Tunnel(
            downstream.transport, transport, window, self._half_ended, self._tunnel_ended
        )
        self._joined.start(downstream.hand_over(), leftover)

    def _half_ended(self) -> None:
        """The other half may go on for as long as an answer may stand still."""
        self._mark = (0, 0)
        self._gateway.stalls.enter(self, self._gateway.clock.monotonic())

    def _tunnel_ended(self, bytes_in: int, bytes_out: int) -> None:
        self.bytes_in, self.bytes_out = bytes_in, bytes_out
        self._end(cut=True)
        self._downstream.left()

    # -- the end

    def expire(self, now: float) -> None:
        """The rule's timeout has passed; an answer on its way only has to keep moving, and a body
        that we wait for is the listener's to time."""
        if self._done:
            return
        if self._joined is not None:
            self._joined.close()
            return
        if self._more and not self._held and self.ready is not None:
            self.ready.timeouts.enter(self, now)
            return
        if not self.status or self._parked is not None:
            self.status = 0
            self.fail(OriginTimeout("no answer within the rule's timeout"))
            return
        mark = (self.bytes_out, self._downstream.transport.get_write_buffer_size())
        if mark == self._mark and self._headed_at + self._gateway.stalls.after_s <= now:
            self._cut("the answer stalled")
            return
        self._mark = mark
        self._gateway.stalls.enter(self, now)

    def fail(self, failure: BaseException) -> None:
        """Ends the exchange with the problem that `failure` is, or cuts an answer under way."""
        if self._done:
            return
        if isinstance(failure, StagedoorError):
            self.outcome = failure.outcome
            self.detail = f"{failure.code}: {failure.detail}"
        else:
            self.outcome = "local_error"
            self.detail = "internal"
            self._gateway.observer.broke(self, failure)
        if self.status:
            self._cut(self.detail)
            return
        self._give_back(is_complete=False, status=getattr(failure, "code", "internal"))
        status, headers, body = problem(failure)
        if self.trace is not None:
            headers.append((b"x-request-id", self.trace.trace_id.encode()))
        self.reply(status, headers, body)

    def _cut(self, why: str) -> None:
        """An answer that cannot be completed must not look complete."""
        self.detail = why
        if self.outcome == "success":
            self.outcome = "origin_error"
        self._end(cut=True)
        self._downstream.cut(reset=self._framing is Framing.CLOSE)

    def _end(self, *, cut: bool = False) -> None:
        if self._done:
            return
        self._done = True
        gateway = self._gateway
        ready = self.ready
        if ready is not None:
            ready.timeouts.leave(self)
        if self._mark is not None:
            gateway.stalls.leave(self)
        task, self._task = self._task, None
        if task is not None and task is not asyncio.current_task():
            task.cancel()
        if self._instance is not None:
            self._give_back(is_complete=False, status=self.outcome)
        gateway.in_flight.now -= 1
        gateway.observer.ended(self, gateway.clock.monotonic())
        if not cut and self.status != CLIENT_GONE:
            self._downstream.answered(self._keep)

    def _spawn(self, waiting: Coroutine[Any, Any, None]) -> None:
        self._task = asyncio.get_running_loop().create_task(self._guard(waiting))

    async def _guard(self, waiting: Coroutine[Any, Any, None]) -> None:
        try:
            await waiting
        except Exception as failure:  # as in `begin`
            self.fail(failure)


def outcome_of(status: int) -> str:
    """The outcome of an answer that is not one of our own failures."""
    if status < 400:
        return "success"
    if status == 404:
        return "client_not_found"
    return "client_error" if status < 500 else "origin_error"


def _verdict(status: str) -> bool | None:
    """Whether an attempt speaks for its instance: None says nothing either way."""
    if status.isdigit():
        return int(status) not in GATEWAY_FAILURES
    return None if status == "client_gone" else False


def _lengths(headers: Headers) -> Headers:
    return [pair for pair in headers if pair[0].lower() == b"content-length"]
