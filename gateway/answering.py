"""The way back of an exchange: the instance's answer, framed anew for the client.

A short answer comes whole and leaves in one write; of any other the head goes first and the body
follows piece by piece. What a rule or an outbound filter edits, and an answer that switches
protocols, take the longer way. An answer that does not end by itself is a stream.
"""

from __future__ import annotations

from collections.abc import Awaitable
from typing import TYPE_CHECKING, cast

from chassis.errors import OriginTimeout
from chassis.http.framing import Headers, chunk, last_chunk
from chassis.http.heads import Head
from gateway.context import CLIENT_GONE, Context, outcome_of
from gateway.edge import response
from gateway.edge.fields import clean_trailers
from gateway.edge.request import switches
from gateway.edge.response import Framing
from gateway.edge.tunnel import CLIENT, GATEWAY, INSTANCE, Tunnel
from gateway.edge.unsent import unsent
from gateway.filters.chain import run
from gateway.ready import ReadyRoute
from gateway.reasons import reason
from gateway.retrying import ATTEMPT
from gateway.rules.match import Snapshot
from gateway.rules.same import is_same

if TYPE_CHECKING:
    from gateway.exchange import Exchange

_ENDLESS = (Framing.CHUNKED, Framing.CLOSE)


class Answering(Context):
    """Receives an answer; what becomes of a failed attempt is the next layer's business."""

    __slots__ = ("_headed_at", "_held", "_joined", "_more", "_parked")

    _headed_at: float
    _held: bool
    _joined: Tunnel | None
    _more: bool
    _parked: list[bytes] | None

    # -- a whole answer

    def on_whole(self, head: Head, body: bytes) -> None:
        status = head.status
        if head.utilisation is not None:
            self._report(head.utilisation)
        if status >= 400 and self._tries_again(status, head.headers, is_complete=True):
            return
        self._headed_at = now = self._gateway.monotonic()
        self._give_back(status, is_complete=True)
        form = head.form
        if form is None:
            form = head.form = response.plain(head)
        plain = form and self.is_11 and self.fields.keep_alive
        ready = self.ready
        edited = ready is None or ready.edits_answer
        if status >= 400:
            self.outcome = outcome_of(status)
            edited = edited or self.attempts > 1
        if not plain or edited or not self._downstream.may_keep(now):
            self._in_pieces(head, body)
            return
        self._keep = True
        self.status = status
        self.bytes_out = len(body)
        self._downstream.write_soon(form + body)
        self._end(now)

    def _report(self, utilisation: float) -> None:
        """The instance says how busy it is."""
        raise NotImplementedError

    def _tries_again(self, status: int, headers: Headers, *, is_complete: bool) -> bool:
        """Whether another attempt is made in place of passing this answer on."""
        raise NotImplementedError

    def _in_pieces(self, head: Head, body: bytes) -> None:
        self.on_head(head.status, head.reason, list(head.headers))
        if body:
            self.on_data(body)
        self.on_end([])

    # -- an answer in pieces

    def on_interim(self, status: int, headers: Headers) -> None:
        if self.is_11 and not self.status:
            kept, _ = response.travelling(headers)
            lines = response.interim(status, reason(status), kept)
            self._downstream.write(lines)
            if status == 100 and self.asks_first:
                self.asks_first = False
                self._downstream.release()

    def on_head(self, status: int, reason: bytes, headers: Headers) -> None:
        if self._watch is not None:
            self._watch.cancel()
        connection = self._connection
        if connection is not None and connection.utilisation is not None:
            self._report(connection.utilisation)
        if status >= 400 and self._tries_again(status, headers, is_complete=False):
            return
        self._headed_at = self._gateway.monotonic()
        self.status = status
        if switches(self.method, status):
            self._tunnel(status, headers)
            return
        if status >= 400:
            self.outcome = outcome_of(status)
        kept, has_length = response.travelling(headers)
        if status >= 400 and self.attempts > 1:
            kept.append((ATTEMPT, b"%d" % self.attempts))
        self.response_headers = kept
        ready = self.ready
        if ready is not None and ready.edits_answer:
            self._edit_answer(ready, reason)
        else:
            self._write_head(reason, has_length)

    def _write_head(self, reason: bytes, has_length: bool) -> None:
        headers = self.response_headers
        status = self.status
        if status == 204 and has_length:
            headers = response.without_length(headers)
        framed = response.framing(self.method, status, has_length, self.is_11)
        self._framing = framed
        may_keep = self.fields.keep_alive and framed is not Framing.CLOSE
        self._keep = may_keep and self._downstream.may_keep(self._gateway.monotonic())
        self._downstream.write_soon(
            response.head(status, reason, headers, framed, is_11=self.is_11, keep_alive=self._keep)
        )
        if framed in _ENDLESS and response.is_event_stream(headers):
            self._mark = (0, 0)
            self._gateway.streams.enter(self, "events")

    def on_data(self, data: bytes) -> None:
        if self._parked is not None:
            self._parked.append(data)
            return
        self.bytes_out += len(data)
        self._downstream.write(chunk(data) if self._framing is Framing.CHUNKED else data)

    def on_end(self, trailers: Headers) -> None:
        self._give_back(self.status, is_complete=True)
        if self._parked is None and not self._done:
            self._finish(trailers)

    def _finish(self, trailers: Headers) -> None:
        if self._framing is Framing.CHUNKED:
            self._downstream.write(last_chunk(clean_trailers(trailers)))
        self._end(self._gateway.monotonic())

    def choke(self) -> None:
        """The client does not take more of the answer now."""
        if self._connection is not None:
            self._connection.pause()

    def unchoke(self) -> None:
        if self._connection is not None:
            self._connection.resume()

    # -- an answer that is edited

    def _edit_answer(self, ready: ReadyRoute, reason: bytes) -> None:
        framed_by = _lengths(self.response_headers)
        self.response_headers = ready.route.response_headers.apply(self.response_headers)
        try:
            waiting = run(ready.outbound, cast("Exchange", self))
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

    # -- an answer that switches protocols

    def _tunnel(self, status: int, headers: Headers) -> None:
        """Both sides agreed to speak something else: hands both transports over."""
        connection, downstream, ready = self._connection, self._downstream, self.ready
        assert connection is not None and ready is not None
        kept, _ = response.travelling(headers)
        protocol = b""
        if status == 101:
            protocol = response.upgrade(headers) or self.fields.upgrade or b""
            kept += [(b"connection", b"upgrade"), (b"upgrade", protocol)]
        transport, leftover = connection.detach()
        self._connection = None
        self._give_back(status, is_complete=True)
        ready.timeouts.leave(self)
        ready.duration.observe(self._headed_at - self.started)
        self._keep = False
        downstream.write(response.interim(status, reason(status), kept))
        leading = downstream.hand_over()
        framed = protocol.lower() == b"websocket"
        self._joined = tunnel = Tunnel(
            downstream.transport, transport, self._gateway.window, self._tunnel_ended, framed=framed
        )
        self._mark = (0, 0)
        self._gateway.streams.enter(self, "websocket" if framed else "tunnel")
        tunnel.start(leading, leftover)

    def _tunnel_ended(self) -> None:
        self.bytes_in, self.bytes_out = self.carried
        self._end(self._gateway.monotonic(), cut=True)
        self._downstream.left()

    # -- what a stream is asked

    @property
    def carried(self) -> tuple[int, int]:
        """Bytes from the client, and to it."""
        tunnel = self._joined
        if tunnel is None:
            return self.bytes_in, self.bytes_out
        return tunnel.down.bytes, tunnel.up.bytes

    @property
    def moved(self) -> tuple[int, int]:
        """Changes whenever bytes move, also those that only leave a buffer."""
        if self._joined is not None:
            return self._joined.moved
        return self.bytes_in + self.bytes_out, unsent(self._downstream.transport)

    @property
    def is_half_ended(self) -> bool:
        """Whether one side has said all that it will say."""
        return self._joined is not None and self._joined.is_half

    @property
    def ended_by(self) -> str:
        """Who ended the stream."""
        if self._joined is not None:
            return self._joined.ended_by
        if self.status == CLIENT_GONE:
            return CLIENT
        return GATEWAY if self.outcome.startswith("local_") else INSTANCE

    def is_ruled_by(self, new: Snapshot) -> bool:
        """Whether the rule is the same in a newer snapshot."""
        return self.ready is not None and is_same(self.ready.route, self._serving.snapshot, new)

    def part(self, code: int, why: str) -> None:
        """Ends the stream from here, in its own words where it has any."""
        self.detail = why
        if self._joined is None or not self._joined.part(code, why):
            self.close()

    def close(self) -> None:
        """Ends the stream when what was written has left; an answer is cut, as it has no end."""
        if self._joined is not None:
            self._joined.close()
        elif not self._done:
            self._end(self._gateway.monotonic(), cut=True)
            self._downstream.cut(reset=self._framing is Framing.CLOSE)

    def cut_short(self) -> None:
        """Ends the stream at once."""
        if self._joined is not None:
            self._joined.abort()

    # -- an answer that does not come

    def expire(self, now: float) -> None:
        """The rule's timeout has passed; an answer on its way only has to keep moving, and a body
        that we wait for is the listener's to time, unless the client waits to be asked for it."""
        if self._done:
            return
        waits = self._more and not (self._held or self.asks_first)
        if waits and self.ready is not None:
            self.ready.timeouts.enter(self, now)
            return
        if not self.status or self._parked is not None:
            self.status = 0
            self.fail(OriginTimeout("no answer within the rule's timeout"))
            return
        if self in self._gateway.streams:
            return
        mark = self.moved
        if mark == self._mark and self._headed_at + self._gateway.stalls.after_s <= now:
            self._cut("the answer stalled")
            return
        self._mark = mark
        self._gateway.stalls.enter(self, now)


def _lengths(headers: Headers) -> Headers:
    return [pair for pair in headers if pair[0].lower() == b"content-length"]
