"""What is told of an exchange once it has ended: counters, one log line, one span."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import TYPE_CHECKING, Any

from chassis.clock import Clock
from chassis.telemetry import Telemetry, shown_path
from chassis.telemetry.metrics import Counter, Histogram, Labels
from gateway.edge.request import CONNECT, switches

if TYPE_CHECKING:
    from gateway.admission import InFlight
    from gateway.context import Context
    from gateway.origins import Origin, Origins

UNMATCHED = "unmatched"
METHODS = frozenset(
    {b"GET", b"HEAD", b"POST", b"PUT", b"DELETE", b"CONNECT", b"OPTIONS", b"TRACE", b"PATCH"}
)
_OTHER = "_OTHER"


class Observer:
    """The gateway's own metrics, and its voice."""

    def __init__(
        self, telemetry: Telemetry, in_flight: InFlight, *, sampled_successes: float = 1.0
    ) -> None:
        metrics = telemetry.metrics
        self._telemetry = telemetry
        self._sampled = sampled_successes
        self._random = telemetry.clock.random
        self.requests = metrics.counter(
            "gateway_requests_total",
            "Requests ended, by what became of them.",
            ("route", "method", "code", "outcome", "injected"),
        )
        self._durations = metrics.histogram(
            "gateway_request_duration_seconds", "From the head to the end.", ("route",)
        )
        self.auth = metrics.counter("gateway_auth_total", "Tokens looked at.", ("result",))
        self._attempts = metrics.counter(
            "gateway_origin_attempts_total",
            "Attempts at instances.",
            ("cluster", "attempt", "status"),
        )
        self._retries = metrics.counter(
            "gateway_retry_total",
            "Retries by why they were made and what became of them, or why there was none.",
            ("cluster", "reason", "outcome"),
        )
        self._hedges = metrics.counter(
            "hedge_total",
            "Hedges by what became of them, or why there was none.",
            ("cluster", "outcome"),
        )
        self._in_flight = in_flight
        metrics.gauge("gateway_inflight_requests", "Requests under way.", read=self._read_in_flight)
        self._unmatched = self.duration(UNMATCHED)

    def _read_in_flight(self) -> Iterable[tuple[Labels, float]]:
        return [((), self._in_flight.now)]

    def duration(self, route: str) -> Histogram:
        return self._durations.child(route)

    def first_attempt(self, origin: Origin, status: int | str) -> Counter:
        """What counts first attempts that ended so, remembered by their origin."""
        counter = self._attempts.child(origin.name, "initial", str(status))
        origin.counters[status] = counter
        origin.counted_before += counter.n
        return counter

    def extra_attempt(self, origin: Origin, kind: str, status: int | str) -> None:
        """Counts a retry or a hedge that has ended."""
        counter = origin.extra_counters.get((kind, status))
        if counter is None:
            counter = self._attempts.child(origin.name, kind, str(status))
            origin.extra_counters[kind, status] = counter
        counter.n += 1

    def retried(self, origin: Origin, reason: str, outcome: str) -> None:
        """A retry that has ended, or why there was none."""
        self._retries.child(origin.name, reason, outcome).n += 1

    def hedged(self, origin: Origin, outcome: str) -> None:
        """A hedge that has ended, or why there was none."""
        self._hedges.child(origin.name, outcome).n += 1

    def watch_budgets(self, origins: Origins) -> None:
        """Tells of each cluster how much of what retries may cost is used up."""
        self._telemetry.metrics.gauge(
            "gateway_retry_budget_ratio",
            "The part of the budget for retries and hedges that is used up; 1: none is left.",
            ("cluster",),
            read=partial(_budgets, origins, self._telemetry.clock),
        )

    def ended(self, exchange: Context, now: float) -> None:
        """Counts, logs and traces an exchange. Called once, when its answer has ended."""
        lasted = now - exchange.started
        ready = exchange.ready
        if ready is None:
            self._count(UNMATCHED, exchange.method, exchange.status, exchange.outcome)
            self._unmatched.observe(lasted)
        else:
            key = (exchange.method, exchange.status, exchange.outcome)
            counter = ready.counters.get(key)
            if counter is None:
                counter = self.requests.child(*_labels(ready.name, *key))
                if exchange.method in METHODS:
                    ready.counters[key] = counter
            counter.n += 1
            if not switches(exchange.method, exchange.status):  # a tunnel's was, when it began
                ready.duration.observe(lasted)
        if exchange.outcome != "success" or (self._sampled and self._is_sampled()):
            self._tell(exchange, lasted)

    def _is_sampled(self) -> bool:
        return self._sampled >= 1 or self._random() < self._sampled

    def _count(self, route: str, method: bytes, status: int, outcome: str) -> None:
        self.requests.child(*_labels(route, method, status, outcome)).n += 1

    def refused(self, method: bytes, status: int, outcome: str, client: str, detail: str) -> None:
        """Counts and logs a request that never became an exchange."""
        self._count(UNMATCHED, method, status, outcome)
        self._telemetry.log.request(
            {
                "route": UNMATCHED,
                "method": method.decode("latin-1"),
                "status": status,
                "outcome": outcome,
                "client": client,
                "detail": detail,
            }
        )

    def broke(self, exchange: Context, failure: BaseException) -> None:
        """Something that is no failure of the tree was raised: a defect, ours or a filter's."""
        route = exchange.ready.name if exchange.ready else UNMATCHED
        self._telemetry.log.say("exchange_broke", route=route, error=repr(failure))

    def _tell(self, exchange: Context, lasted: float) -> None:
        ready = exchange.ready
        line: dict[str, Any] = {
            "route": ready.name if ready else UNMATCHED,
            "version": exchange.version,
            "method": exchange.method.decode("latin-1"),
            "path": _path(exchange) + ("?…" if exchange.query else ""),
            "status": exchange.status,
            "outcome": exchange.outcome,
            "duration_ms": round(lasted * 1000, 3),
            "bytes_in": exchange.bytes_in,
            "bytes_out": exchange.bytes_out,
            "client": exchange.client,
            "attempts": exchange.attempts,
        }
        trace = exchange.trace
        if trace is not None:
            line["trace"] = trace.trace_id
            self._span(exchange, lasted)
        if exchange.detail:
            line["detail"] = exchange.detail
        self._telemetry.log.request(line)

    def _span(self, exchange: Context, lasted: float) -> None:
        assert exchange.trace is not None
        ready = exchange.ready
        attributes: dict[str, Any] = {
            "http.request.method": exchange.method.decode("latin-1"),
            "http.route": ready.name if ready else UNMATCHED,
            "http.response.status_code": exchange.status,
            "url.path": _path(exchange),
            "attempts": exchange.attempts,
        }
        claimed = exchange.fields.claimed_trace
        if claimed is not None:
            attributes["link"] = claimed.decode("latin-1")
        start = self._telemetry.clock.now() - lasted
        self._telemetry.span(exchange.trace, "gateway", start, exchange.outcome, attributes)


def _budgets(origins: Origins, clock: Clock) -> Iterable[tuple[Labels, float]]:
    now = clock.monotonic()
    return [((o.name,), o.budget.ratio(o.calls(), now)) for o in origins.values()]


def _path(exchange: Context) -> str:
    """Where a CONNECT leads is its target."""
    path = exchange.target if exchange.method == CONNECT else exchange.path
    return shown_path(path.decode("latin-1"))


def _labels(route: str, method: bytes, status: int, outcome: str) -> tuple[str, str, str, str, str]:
    name = method.decode() if method in METHODS else _OTHER
    return route, name, str(status), outcome, "false"
