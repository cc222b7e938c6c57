"""One request in flight: the way in, on top of its attempts, its answer and its context.

The straight path is synchronous: match -> filters (token from the cache, passport) -> pick an
instance -> take an idle connection -> send; then the answer streams back through the callbacks.
A task exists only while something has to be awaited: a token's first verification, a new
connection, a filter that waits. Whichever way it ends, `_end` runs once and gives back everything
that was taken.
"""

from __future__ import annotations

from collections.abc import Awaitable
from typing import TYPE_CHECKING

from chassis.errors import Faulty, StagedoorError
from chassis.http.framing import Headers
from gateway import upstream
from gateway.context import CLIENT_GONE
from gateway.edge.fields import Fields
from gateway.edge.ports import Downstream
from gateway.edge.refusals import ALLOW, BodyTooLarge, MethodNotAllowed, NoRoute
from gateway.edge.request import Request
from gateway.edge.response import Framing
from gateway.filters.chain import run
from gateway.racing import Racing
from gateway.ready import ReadyRoute, Serving
from gateway.rules.match import is_listed_only
from gateway.rules.route import Match

if TYPE_CHECKING:
    from gateway.core import Gateway


class Exchange(Racing):
    """What the client's connection drives, and what filters are given."""

    __slots__ = ()

    def __init__(
        self,
        gateway: Gateway,
        downstream: Downstream,
        method: bytes,
        target: bytes,
        is_11: bool,
        fields: Fields,
    ) -> None:
        """Sets what every layer declares: a constructor each would cost a tenth of a request."""
        Request.__init__(self, method, target, is_11, fields, downstream.peer)
        self._gateway = gateway
        self._downstream = downstream
        self._connection = None
        self._standing = None
        self._task = None
        self._watch = None
        self._framing = Framing.NONE
        self._done = False
        self._keep = False
        self._mark = None
        self.digits = b""
        self.known_trace = None
        self.ready = None
        self.asks_first = False
        self.version = 0
        self.caller = None
        self.claims = None
        self.response_headers = []
        self.started = 0.0
        self.status = 0
        self.outcome = "success"
        self.detail = ""
        self.attempts = 0
        self.bytes_in = 0
        self.bytes_out = 0
        self._headed_at = 0.0
        self._held = False
        self._joined = None
        self._parked = None
        self._streamed = False

    # -- the request, from the client's connection

    def begin(self, body: bytes, more: bool, trailers: Headers) -> None:
        gateway = self._gateway
        self._body = body
        self._more = more
        self._trailers = trailers
        self.asks_first = more and self.fields.expects and not body
        self.bytes_in = len(body)
        self.started = gateway.monotonic()
        in_flight = gateway.in_flight
        in_flight.now += 1
        try:
            if in_flight.now > in_flight.limit:
                in_flight.check()
            self._route(gateway.serving)
        except Exception as failure:  # whatever a filter raises, the request is answered
            self.fail(failure)

    def receive(self, body: bytes, more: bool, trailers: Headers) -> None:
        if self._done:
            return
        self.bytes_in += len(body)
        self.asks_first = False
        self._more = more
        self._trailers = trailers
        ready = self.ready
        if ready is not None:
            limit = ready.route.body_limit
            if limit is not None and self.bytes_in > limit:
                self.fail(BodyTooLarge(f"the body is larger than {limit} bytes"))
                return
            ready.timeouts.enter(self, self._gateway.monotonic())
        if self._connection is None:
            self._body += body
            if more:
                self._hold()
            return
        self._keep_body(body)
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
            self._end(self._gateway.monotonic())

    # -- the way in

    def _route(self, serving: Serving) -> None:
        self._serving = serving
        self.version = serving.version
        if self.target == b"*":
            self.reply(204, [ALLOW])
            return
        match = serving.match(self)
        if match is None:
            raise self._unmatched()
        self.ready = ready = serving.ready(match.route)
        limit = match.route.body_limit
        if limit is not None and (self.fields.length > limit or self.bytes_in > limit):
            raise BodyTooLarge(f"the body is larger than {limit} bytes")
        ready.timeouts[self] = self.started
        if self.is_trusted and self.fields.claimed_trace is not None:
            self._continue_trace(self.fields.claimed_trace)
        else:
            self.digits = self._gateway.traces.draw()
        if match.needs_claims:
            self._learn_claims(ready)
        elif ready.inbound:
            self._run_inbound(ready)
        else:
            self._endpoint(ready, self.started)

    def _unmatched(self) -> StagedoorError:
        if is_listed_only(self.method):
            return MethodNotAllowed(f"no rule lists {self.method.decode()} for this request")
        return NoRoute("no rule matches this request")

    def _continue_trace(self, claimed: bytes) -> None:
        """Only a trusted proxy's trace is continued: anybody else's is kept as a link."""
        self.known_trace = self._gateway.traces.continued(claimed)
        if self.known_trace is None:
            self.digits = self._gateway.traces.draw()

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
        match: Match | None = self._serving.match(self)
        if match is None:
            raise self._unmatched()
        assert self.ready is not None
        self.ready.timeouts.leave(self)
        self.ready = ready = self._serving.ready(match.route)
        ready.timeouts.enter(self, self.started)
        self._run_inbound(ready)

    def _run_inbound(self, ready: ReadyRoute) -> None:
        waiting = run(ready.inbound, self)
        if waiting is not None:
            self._spawn(self._endpoint_after(waiting))
        elif not self.status:
            self._endpoint(ready, self.started)

    async def _endpoint_after(self, waiting: Awaitable[None]) -> None:
        await waiting
        if not self.status and self.ready is not None:
            self._endpoint(self.ready, self._gateway.monotonic())

    def _endpoint(self, ready: ReadyRoute, now: float) -> None:
        """The rule's action."""
        origin = ready.origin
        if origin is None:
            self._act(ready, now)
            return
        self._head = upstream.head(self, ready)
        self._attempt(origin, origin.choose(now), now)

    def _act(self, ready: ReadyRoute, now: float) -> None:
        """The actions that are not only to forward to one cluster."""
        origin = ready.choose(self._gateway.clock.random)
        if origin is not None:
            self._head = upstream.head(self, ready)
            self._attempt(origin, origin.choose(now), now)
            if ready.is_timed:
                self._time(ready)
            return
        route = ready.route
        if route.reply is not None:
            self.reply(route.reply.status, list(route.reply.headers), route.reply.body)
        elif route.redirect is not None:
            self.reply(route.redirect.status, [(b"location", route.redirect.location(self))])
        else:
            raise Faulty(f"the rule {route.name} has no cluster")
