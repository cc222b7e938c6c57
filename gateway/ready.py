"""A route made ready to run: its filters, its origins, its timeout and its counters, resolved once.

What depends only on the snapshot is looked up here, so that a request looks up nothing twice.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from chassis.deadline import HEADER as DEADLINE_HEADER
from chassis.telemetry.metrics import Counter, Histogram
from gateway.edge.expiry import Expiry
from gateway.filters.authenticate import Authenticate
from gateway.filters.chain import Chain
from gateway.observer import Observer
from gateway.origins import Origin
from gateway.retrying import Retries
from gateway.rules.match import Snapshot
from gateway.rules.route import Route, as_is

if TYPE_CHECKING:
    from gateway.context import Context

DEFAULT_TIMEOUT_S = 15.0


class ReadyRoute:
    """One route of one snapshot. `timeouts` is shared by every route with the same timeout.

    `origin` is the only one there is to choose; None where there are several, or none, or where
    each attempt `is_timed` too.
    """

    __slots__ = (
        "authenticate",
        "counters",
        "deadline_line",
        "duration",
        "edits_answer",
        "edits_request",
        "hedge",
        "inbound",
        "is_timed",
        "name",
        "origin",
        "origins",
        "outbound",
        "retries",
        "route",
        "timeout_s",
        "timeouts",
        "version",
    )

    def __init__(
        self,
        route: Route,
        version: int,
        inbound: Chain,
        outbound: Chain,
        origins: Mapping[str, Origin],
        timeouts: Callable[[float], Expiry[Context]],
        observer: Observer,
    ) -> None:
        self.route = route
        self.name = route.name
        self.version = version
        self.inbound = inbound
        self.outbound = outbound
        self.authenticate = next((f for f in inbound if isinstance(f, Authenticate)), None)
        self.origins = {name: origins[name] for name in route.clusters}
        self.retries = Retries(route.retry)
        self.hedge = route.hedge
        if self.hedge is not None:
            for origin in self.origins.values():
                origin.quantile(self.hedge.quantile)
        self.is_timed = self.hedge is not None or self.retries.attempt_timeout_s is not None
        only = len(self.origins) == 1 and not self.is_timed
        self.origin = next(iter(self.origins.values())) if only else None
        moved = route.rewrite is not as_is or route.host is not None
        self.edits_request = moved or bool(route.request_headers)
        self.edits_answer = bool(outbound or route.response_headers)
        self.timeout_s = route.timeout_s or self._slowest() or DEFAULT_TIMEOUT_S
        self.timeouts = timeouts(self.timeout_s)
        self.deadline_line = b"\r\n%b: %d\r\n" % (DEADLINE_HEADER, self.timeout_s * 1000)
        self.counters: dict[tuple[bytes, int, str], Counter] = {}
        self.duration: Histogram = observer.duration(route.name)

    def choose(self, random: Callable[[], float]) -> Origin | None:
        """The origin for this request, by the rule's weights; None when it forwards to none."""
        name = self.route.choose(random()) if self.origins else None
        return None if name is None else self.origins[name]

    def _slowest(self) -> float:
        return max((o.cluster.timeout_s for o in self.origins.values()), default=0.0)

    def __repr__(self) -> str:
        return f"ReadyRoute({self.name}, version={self.version}, {len(self.inbound)} filters)"


class Serving:
    """The snapshot that serves, with its routes made ready when they are first asked for."""

    def __init__(self, snapshot: Snapshot, make: Callable[[Route, Snapshot], ReadyRoute]) -> None:
        self.snapshot = snapshot
        self.version = snapshot.version
        self.match = snapshot.match
        self._make = make
        self._ready: dict[str, ReadyRoute] = {}

    def ready(self, route: Route) -> ReadyRoute:
        found = self._ready.get(route.name)
        if found is None:
            found = self._ready[route.name] = self._make(route, self.snapshot)
        return found
