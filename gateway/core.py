"""What all exchanges of a gateway share: the snapshot that serves, origins, filters, counters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

from chassis.clock import Clock
from chassis.errors import StagedoorError
from chassis.http.problems import problem
from chassis.identity import PassportSigner
from gateway.admission import InFlight, RateLimiter, SharedLimiter, Sharing
from gateway.context import Context
from gateway.edge import response
from gateway.edge.expiry import Expiry
from gateway.edge.ports import Downstream
from gateway.edge.refusals import ALLOW, MethodNotAllowed
from gateway.edge.response import Framing
from gateway.exchange import Exchange
from gateway.filters.authenticate import Authenticate, RequireScopes
from gateway.filters.certificate import AuthenticateCertificate
from gateway.filters.chain import Filter, Phase, chain
from gateway.filters.passport import MintPassport
from gateway.filters.rate import LimitRate
from gateway.observer import Observer
from gateway.origins import Origin, Origins
from gateway.ready import ReadyRoute, Serving
from gateway.reasons import reason
from gateway.rules.match import Snapshot
from gateway.rules.route import Route
from gateway.streams import Streams
from gateway.traces import Traces
from gateway.verifiers import Verifiers

if TYPE_CHECKING:
    from gateway.rules.model import AuthPolicy, RateLimit


_SHEDDING_S = 1.0


class Gateway:
    """Opens exchanges. Nothing here waits."""

    serving: Serving

    def __init__(
        self,
        clock: Clock,
        observer: Observer,
        in_flight: InFlight,
        origins: Origins,
        verifiers: Verifiers,
        streams: Streams,
        *,
        signer: PassportSigner | None = None,
        filters: Sequence[Filter] = (),
        sharing: Sharing | None = None,
        stall_s: float,
        window: int,
    ) -> None:
        self.clock = clock
        self.observer = observer
        self.in_flight = in_flight
        self.origins = origins
        self.turn_end = origins.turn_end
        self.window = window
        self.stalls: Expiry[Context] = Expiry(stall_s)
        self.streams = streams
        self._verifiers = verifiers
        self._filters = tuple(filters)
        self.traces = Traces(clock)
        self.monotonic = clock.monotonic
        self.open = partial(Exchange, self)
        self._passport = MintPassport(signer, clock) if signer is not None else None
        self._timeouts: dict[float, Expiry[Context]] = {}
        self._sharing = sharing
        self._limiters: dict[RateLimit, RateLimiter] = {}
        self._shed_before = self._shed_last = 0
        self._shed_until = 0.0
        observer.watch_budgets(origins)

    def __repr__(self) -> str:
        return f"Gateway({self.serving.snapshot!r}, {self.in_flight!r})"

    def adopt(self, snapshot: Snapshot) -> None:
        """From here on requests start with `snapshot`; those under way keep theirs, and so do
        streams whose own rule it leaves as it was."""
        origins = self.origins.adopt(snapshot.clusters)
        self.serving = Serving(snapshot, partial(self._make_ready, origins))
        self.streams.adopt(snapshot)

    def _make_ready(
        self, origins: Mapping[str, Origin], route: Route, snapshot: Snapshot
    ) -> ReadyRoute:
        filters = self._chain_of(route, snapshot)
        return ReadyRoute(
            route,
            snapshot.version,
            chain(filters, Phase.INBOUND),
            chain(filters, Phase.OUTBOUND),
            origins,
            self._timeouts_of,
            self.observer,
        )

    def _chain_of(self, route: Route, snapshot: Snapshot) -> list[Filter]:
        """The built-in filters that the rule asks for, and those that the gateway was given."""
        found: list[Filter] = [*self._filters]
        if route.auth is not None:
            found.append(self._authenticate(snapshot.auth[route.auth]))
            if route.scopes:
                found.append(RequireScopes(route.scopes, self.observer.auth))
            if self._passport is not None:
                found.append(self._passport)
        if route.rate_limit is not None:
            found.append(LimitRate(self._limiter(route.rate_limit), self.clock))
        return found

    def _authenticate(self, policy: AuthPolicy) -> Filter:
        if policy.certificate is not None:
            return AuthenticateCertificate(policy.certificate, self.observer.auth)
        return Authenticate(self._verifiers.of(policy), self.observer.auth)

    def _limiter(self, limit: RateLimit) -> RateLimiter:
        """Equal limits share their buckets, over rules and over snapshots."""
        limiter = self._limiters.get(limit)
        if limiter is None:
            sharing = self._sharing
            limiter = RateLimiter(limit) if sharing is None else SharedLimiter(limit, sharing)
            self._limiters[limit] = limiter
        return limiter

    def is_shedding(self) -> bool:
        """Whether requests are refused for want of room, or were a moment ago."""
        in_flight = self.in_flight
        return in_flight.shed > self._shed_before or in_flight.now >= in_flight.limit

    def _timeouts_of(self, seconds: float) -> Expiry[Context]:
        return self._timeouts.setdefault(seconds, Expiry(seconds))

    # -- what the listener calls

    def refused(self, downstream: Downstream, method: bytes, failure: StagedoorError) -> bytes:
        status, headers, body = problem(failure)
        self.observer.refused(
            method, status, failure.outcome, downstream.peer.address, failure.detail
        )
        if isinstance(failure, MethodNotAllowed):
            headers.append(ALLOW)
        head = response.head(
            status, reason(status), headers, Framing.LENGTH, is_11=True, keep_alive=False
        )
        return head if method == b"HEAD" else head + body

    def tick(self, now: float) -> None:
        for expiry in (*self._timeouts.values(), self.stalls):
            for exchange in expiry.due(now):
                exchange.expire(now)
        self.origins.tick(now)
        if now >= self._shed_until:
            self._shed_until = now + _SHEDDING_S
            self._shed_before, self._shed_last = self._shed_last, self.in_flight.shed
        self.streams.tick(now)
