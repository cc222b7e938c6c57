"""All listeners of one gateway: started, drained and closed together; certificates kept fresh."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from chassis.clock import Clock, Timer
from chassis.errors import ConfigurationFault
from chassis.telemetry.metrics import Labels, Metrics
from gateway.edge.accept_queue import overflows
from gateway.edge.arrivals import Counts
from gateway.edge.certificates import Certificates
from gateway.edge.listen import Listen
from gateway.edge.listener import Listener
from gateway.edge.ports import Exchanges
from gateway.edge.waits import MET

LOOK_S = 0.5
"""How often the certificates' files are looked at; a change serves at the second look after it."""


class Listeners:
    """In the order in which they were told."""

    def __init__(
        self,
        listens: Sequence[Listen],
        exchanges: Exchanges,
        clock: Clock,
        say: Callable[..., Any],
    ) -> None:
        """Raises `ConfigurationFault` with everything that is wrong with any certificate."""
        certificates = _load(listens, clock)
        self._clock = clock
        self._say = say
        self._timer: Timer | None = None
        self._listeners = [
            Listener(exchanges, clock, listen, found)
            for listen, found in zip(listens, certificates, strict=True)
        ]
        self.ports: list[int] = []

    def __repr__(self) -> str:
        return f"Listeners({', '.join(one.listen.name for one in self)})"

    def __iter__(self) -> Iterator[Listener]:
        return iter(self._listeners)

    @property
    def urls(self) -> list[str]:
        """Where they are reached, once started."""
        return [one.url(port) for one, port in zip(self, self.ports, strict=True)]

    @property
    def first(self) -> Listener:
        return self._listeners[0]

    @property
    def connections(self) -> int:
        return sum(len(one.connections) for one in self)

    async def start(
        self, *, reuse_port: bool = False, held: Mapping[str, int] | None = None
    ) -> None:
        """Listens everywhere; `ports` are theirs, 0 for a unix socket. `held` are descriptors of
        bound sockets, by `host:port`."""
        for one in self:
            descriptor = (held or {}).get(one.listen.place)
            self.ports.append(await one.start(reuse_port=reuse_port, held=descriptor))
        self._look()

    def _look(self) -> None:
        for one in self:
            told = one.certificates.look() if one.certificates is not None else None
            if told:
                self._say("certificates_refused", listener=one.listen.name, why=told)
            elif told is not None:
                self._say("certificates_replaced", listener=one.listen.name)
        self._timer = self._clock.call_later(LOOK_S, self._look)

    # -- the drain

    def stop_accepting(self, *, hand_over: bool = False) -> None:
        for one in self:
            one.stop_accepting(hand_over=hand_over)

    def close_idle(self, quiet_s: float) -> None:
        for one in self:
            one.close_idle(quiet_s)

    async def wait_empty(self, timeout_s: float) -> bool:
        """Whether all connections ended by themselves in time."""
        return all(await asyncio.gather(*(one.wait_empty(timeout_s) for one in self)))

    async def close(self) -> None:
        """Ends at once what is left."""
        if self._timer is not None:
            self._timer.cancel()
        await asyncio.gather(*(one.close() for one in self))

    # -- what is told of them

    def register(self, metrics: Metrics) -> None:
        """Their counters, read at scrape time."""
        metrics.gauge(
            "gateway_connections",
            "Connections open, and those whose header or handshake is under way.",
            ("listener", "state"),
            read=self._read_connections,
        )
        metrics.gauge(
            "gateway_accept_queue",
            "Connections that wait to be accepted, and how many may.",
            ("listener", "state"),
            read=self._read_queues,
        )
        metrics.counted(
            "gateway_accept_queue_overflows_total",
            "Connections that found an accept queue full, anywhere in this network namespace.",
            read=_read_overflows,
        )
        metrics.counted(
            "gateway_connections_total",
            "Connections, by what became of them when they came.",
            ("listener", "result"),
            read=self._read_counts,
        )
        metrics.counted(
            "gateway_limits_total",
            "Requests refused and connections ended over a limit, by the limit.",
            ("listener", "limit"),
            read=self._read_limits,
        )
        metrics.gauge(
            "gateway_certificate_expires_seconds",
            "When the first certificate of a listener expires, in UNIX seconds.",
            ("listener",),
            read=self._read_expiry,
        )
        metrics.counted(
            "gateway_certificate_changes_total",
            "Changes of certificates, taken over or refused.",
            ("listener", "result"),
            read=self._read_changes,
        )

    def _read_connections(self) -> Iterable[tuple[Labels, float]]:
        for one in self:
            yield (one.listen.name, "open"), len(one.connections)
            yield (one.listen.name, "arriving"), one.arriving

    def _read_queues(self) -> Iterable[tuple[Labels, float]]:
        for one in self:
            if (queue := one.queue) is not None:
                yield (one.listen.name, "waiting"), queue.waiting
                yield (one.listen.name, "most"), queue.most

    def _read_counts(self) -> Iterable[tuple[Labels, float]]:
        for one in self:
            for result in Counts.__slots__:
                yield (one.listen.name, result), getattr(one.counts, result)

    def _read_limits(self) -> Iterable[tuple[Labels, float]]:
        for one in self:
            for limit in MET:
                yield (one.listen.name, limit), getattr(one.waits.met, limit)
            yield (one.listen.name, "connections"), one.counts.full
            yield (one.listen.name, "descriptors"), one.counts.descriptors

    def _read_expiry(self) -> Iterable[tuple[Labels, float]]:
        for one in self:
            if one.certificates is not None:
                yield (one.listen.name,), one.certificates.expires

    def _read_changes(self) -> Iterable[tuple[Labels, float]]:
        for one in self:
            if one.certificates is not None:
                yield (one.listen.name, "replaced"), one.certificates.replaced
                yield (one.listen.name, "refused"), one.certificates.refused


def _read_overflows() -> Iterable[tuple[Labels, float]]:
    if (found := overflows()) is not None:
        yield (), found


def _load(listens: Sequence[Listen], clock: Clock) -> list[Certificates | None]:
    faults: list[str] = []
    found: list[Certificates | None] = []
    for listen in listens:
        try:
            found.append(Certificates(listen.tls, clock) if listen.tls is not None else None)
        except ConfigurationFault as fault:
            faults += [f"listen {listen.name!r}: {why}" for why in fault.faults]
    if faults:
        raise ConfigurationFault(faults, what="the TLS files")
    return found
