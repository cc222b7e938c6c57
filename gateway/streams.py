"""Answers that do not end by themselves: tunnels, and event streams.

Each ends when either side does, or when nothing has moved for too long. A change of its own rule,
and a drain, end it with a reason, at a moment drawn for each, so that not all clients come back in
one. They are counted while they are open too.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from chassis.clock import Clock, Timer
from chassis.telemetry.metrics import Labels, Metrics
from gateway.edge.expiry import Expiry
from gateway.edge.limits import Limits
from gateway.rules.match import Snapshot

if TYPE_CHECKING:
    from gateway.answering import Answering
    from gateway.context import Context

LINGER_S = 2.0
"""How long the client has to answer a close frame, and what was written has to leave."""
_LOOKS = 8
"""How often within the shortest limit somebody looks whether anything has moved."""


@dataclass(frozen=True, slots=True)
class Parting:
    """Why a stream is ended from here. `code` is the WebSocket close code."""

    why: str
    code: int
    detail: str


DRAIN = Parting("drain", 1001, "the gateway is going away")
RULE = Parting("rule", 1012, "the rule changed")
IDLE = Parting("idle", 1001, "nothing came for too long")


@dataclass(slots=True)
class _Open:
    """What is known of one open stream."""

    stream: Answering
    kind: str
    moved: tuple[int, int]
    quiet_since: float
    parting: Parting | None = None
    timer: Timer | None = None


@dataclass(slots=True)
class _Bytes:
    """Of the streams of one kind that have ended."""

    into: int = 0
    out: int = 0


class Streams:
    """The open ones: an exchange enters when its answer turns out to be a stream, and leaves at its
    end. Those that are told to end do so within `spread_s`."""

    def __init__(self, clock: Clock, metrics: Metrics, limits: Limits, spread_s: float) -> None:
        self._clock = clock
        self._idle_s = limits.stream_idle_s
        self._half_s = limits.stall_s
        self._spread_s = spread_s
        self._open: dict[Context, _Open] = {}
        self._ended: dict[str, _Bytes] = {}
        self._looks: Expiry[Answering] = Expiry(min(self._idle_s, self._half_s) / _LOOKS)
        metrics.gauge("gateway_streams_open", "Streams open now.", ("kind",), read=self._read_open)
        metrics.counted(
            "gateway_stream_bytes_total",
            "Bytes of streams, open ones too.",
            ("kind", "direction"),
            read=self._read_bytes,
        )
        self._closed = metrics.counter(
            "gateway_streams_total", "Streams ended, by what ended them.", ("kind", "by")
        )

    def __len__(self) -> int:
        return len(self._open)

    def __contains__(self, stream: Context) -> bool:
        return stream in self._open

    def __repr__(self) -> str:
        return f"Streams({len(self._open)} open)"

    def enter(self, stream: Answering, kind: str) -> None:
        now = self._clock.monotonic()
        self._open[stream] = _Open(stream, kind, stream.moved, now)
        self._looks.enter(stream, now)

    def leave(self, ended: Context) -> None:
        """The stream has ended; harmless for what is none."""
        known = self._open.pop(ended, None)
        if known is None:
            return
        stream = known.stream
        self._looks.leave(stream)
        if known.timer is not None:
            known.timer.cancel()
        by = stream.ended_by if known.parting is None else known.parting.why
        self._closed.child(known.kind, by).n += 1
        carried = self._ended.setdefault(known.kind, _Bytes())
        into, out = stream.carried
        carried.into += into
        carried.out += out

    # -- what ends them from here

    def adopt(self, new: Snapshot) -> None:
        """A new snapshot serves: ends those whose own rule it changes."""
        for known in list(self._open.values()):
            if not known.stream.is_ruled_by(new):
                self._end_soon(known, RULE)

    def drain(self) -> float:
        """Ends all of them; the seconds within which those that answer have ended."""
        for known in list(self._open.values()):
            self._end_soon(known, DRAIN)
        return self._spread_s + LINGER_S

    def tick(self, now: float) -> None:
        """Looks at those whose time it is, and ends what has been quiet for too long."""
        for stream in self._looks.due(now):
            known = self._open[stream]
            moved = stream.moved
            if moved != known.moved:
                known.moved, known.quiet_since = moved, now
            elif now - known.quiet_since >= self._limit(stream):
                self._part(stream, IDLE)
            if stream in self._open:
                self._looks.enter(stream, now)

    def _limit(self, stream: Answering) -> float:
        return self._half_s if stream.is_half_ended else self._idle_s

    def _end_soon(self, known: _Open, parting: Parting) -> None:
        if known.parting is None:
            wait_s = self._clock.random() * self._spread_s
            known.parting = parting
            known.timer = self._clock.call_later(wait_s, self._part, known.stream, parting)

    def _part(self, stream: Answering, parting: Parting) -> None:
        known = self._open[stream]
        known.parting = known.parting or parting
        if known.timer is not None:
            known.timer.cancel()
        known.timer = self._clock.call_later(LINGER_S, self._close, stream)
        stream.part(parting.code, parting.detail)

    def _close(self, stream: Answering) -> None:
        known = self._open[stream]
        known.timer = self._clock.call_later(LINGER_S, stream.cut_short)
        stream.close()

    # -- what is read at scrape time

    def _read_open(self) -> Iterable[tuple[Labels, float]]:
        kinds = [known.kind for known in self._open.values()]
        return [((kind,), kinds.count(kind)) for kind in sorted({*kinds, *self._ended})]

    def _read_bytes(self) -> Iterable[tuple[Labels, float]]:
        sums = {kind: [ended.into, ended.out] for kind, ended in self._ended.items()}
        for known in self._open.values():
            total = sums.setdefault(known.kind, [0, 0])
            into, out = known.stream.carried
            total[0] += into
            total[1] += out
        for kind, (into, out) in sorted(sums.items()):
            yield (kind, "in"), into
            yield (kind, "out"), out
