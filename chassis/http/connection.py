"""One upstream HTTP/1.1 connection: callbacks in, callbacks out, no task and no future.

llhttp (through httptools, strict) finds the messages; what it cannot know is decided here: that
the request was HEAD, that an answer without length ends with the connection, that a coding was
not asked for, and whether the connection may carry another request.

An answer's end is told only after the whole read has been parsed, so that bytes behind it are
seen before anybody can start the next request.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from typing import Any, Final, cast

import httptools

from chassis.errors import OriginFailure, OriginGarbled, OriginReset
from chassis.http import framing
from chassis.http.framing import Headers
from chassis.http.heads import Head, Heads
from chassis.http.load import LOAD_HEADER, utilisation
from chassis.http.receiver import NOBODY, Receiver, WholeReceiver
from chassis.http.resetting import abort_by_reset
from chassis.http.turn import TurnEnd

__all__ = ["HEAD_LIMIT", "Connection", "Receiver"]

HEAD_LIMIT: Final = 64 * 1024
"""Bytes that are not body: heads (interim ones together), and trailers."""

_ONE_WRITE: Final = 16 * 1024
_HEAD_END: Final = b"\r\n\r\n"


_LINE_ENDS: Final = b"\r\n"


def _nothing() -> None: ...


def _ends_in_empty_line(data: bytes) -> bool:
    """In one, not in several; where `data` is too short to tell, it is not believed."""
    if len(data) <= len(_HEAD_END):
        return data in (b"\n", b"\r\n")
    return data.endswith(_HEAD_END) and data[-5] not in _LINE_ENDS


class Connection:
    """One connection, to the loop an `asyncio.Protocol`; carries one request at a time, written at
    the end of the turn of the loop where there is a `TurnEnd`.

    `reusable` is True only between messages, and only while nothing is in doubt. `uses` counts the
    requests started, `utilisation` is what the answer's head says of its instance's load, from
    on_head or on_whole on. `expires_at`, `idle_since` and `uses_limit` belong to the pool, as does
    `on_lost`, called once when the connection is closed or detached.
    """

    __slots__ = (
        "_asked",
        "_bulky",
        "_closed",
        "_coding",
        "_connects",
        "_doubtful",
        "_ended",
        "_fed",
        "_final",
        "_first",
        "_head_only",
        "_headed",
        "_headers",
        "_heads",
        "_interim",
        "_keeps",
        "_last",
        "_leftover",
        "_parser",
        "_paused",
        "_pieces",
        "_reason",
        "_receiver",
        "_sending",
        "_sent",
        "_status",
        "_transport",
        "_turn_end",
        "_unsent",
        "_until_close",
        "_whole",
        "_writable",
        "expires_at",
        "idle_since",
        "on_lost",
        "reusable",
        "upgraded",
        "uses",
        "uses_limit",
        "utilisation",
    )

    def __init__(self, heads: Heads | None = None, turn_end: TurnEnd | None = None) -> None:
        self.on_lost: Callable[[], None] = _nothing
        self._heads = Heads() if heads is None else heads
        self._turn_end = turn_end
        self._unsent = b""
        self._transport: asyncio.Transport = cast(asyncio.Transport, None)
        self._parser: Any = httptools.HttpResponseParser(self)
        self._receiver: Receiver = NOBODY
        self._whole: WholeReceiver | None = None
        self._status = 0
        self._final: Headers = []
        self._first = b""
        self._pieces: list[bytes] = []
        self._closed = False
        self._paused = False
        self._writable = True
        self._leftover = b""
        self._asked = b""
        self._reset()
        self._head_only = self._sending = self._sent = self._bulky = self._connects = False
        self.reusable = False
        self.upgraded = False
        self.uses = 0
        self.uses_limit = sys.maxsize
        self.expires_at = self.idle_since = 0.0

    def _reset(self) -> None:
        self._headers: Headers = []
        self._reason = b""
        self._coding: bytes | None = None
        self._last = b""
        self._fed = 0
        self.utilisation: float | None = None
        self._headed = self._ended = self._interim = False
        self._doubtful = self._keeps = self._until_close = False

    def __repr__(self) -> str:
        state = "closed" if self._closed else "upgraded" if self.upgraded else "idle"
        if not self._closed and self._receiver is not NOBODY:
            state = "answering" if self._headed else "waiting"
        return f"Connection({state}, {self.uses} uses)"

    # --- what the owner calls ---

    def start(
        self,
        receiver: Receiver,
        head: bytes,
        *,
        method: bytes,
        body: bytes = b"",
        more: bool = False,
        whole: WholeReceiver | None = None,
    ) -> bool:
        """Sends a head (with its final empty line) and `body`; `more` says that the body goes on.

        False: wait for on_writable before `send`. A failure is told by a later callback. `whole`,
        the receiver itself where it is one, is told a short answer at once.
        """
        self._reset()
        self._receiver = receiver
        self._connects = method == b"CONNECT"
        self._whole = None if self._connects else whole
        self._asked = head
        self._head_only = method == b"HEAD"
        self._sending = more
        self._bulky = more
        self._sent = False
        self.reusable = False
        self.uses += 1
        if self._closed or self._transport.is_closing():
            asyncio.get_running_loop().call_soon(self._fail_start, receiver)
            return True
        if len(body) > _ONE_WRITE:
            self._sent = self._bulky = True
            self._transport.writelines((head, body))
        elif more or self._turn_end is None:
            self._sent = True
            self._transport.write(head + body)
        else:
            self._unsent = head + body
            self._turn_end.add(self)
        return self._writable

    def flush(self) -> None:
        """The turn ends: writes the request, unless it has been given up by now."""
        unsent, self._unsent = self._unsent, b""
        if unsent and not self._is_over():
            self._sent = True
            self._transport.write(unsent)

    def _is_over(self) -> bool:
        """Whether the transport takes no more calls; the loop knows before it tells us."""
        return self._closed or self._transport.is_closing()

    def _fail_start(self, receiver: Receiver) -> None:
        if self._receiver is receiver:
            self._fail(OriginReset("the connection was closed before the request", sent=False))

    def send(self, data: bytes) -> bool:
        """More request body, already framed (`framing.chunk`). False: wait for on_writable.

        After the answer's end or a failure it does nothing and returns True.
        """
        if not self._sending or self._is_over():
            return True
        self._transport.write(data)
        return self._writable

    def finish(self) -> None:
        """The request body is complete."""
        self._sending = False

    def pause(self) -> None:
        """Stops reading until `resume`; what has been read already may still be told."""
        if not self._paused and not self._is_over():
            self._paused = True
            self._transport.pause_reading()

    def resume(self) -> None:
        """Reads on after `pause`."""
        if self._paused and not self._is_over():
            self._paused = False
            self._transport.resume_reading()

    def abort(self) -> None:
        """Closes at once and tells the receiver nothing. Harmless when already closed."""
        self._receiver = NOBODY
        self._unsent = b""
        self._close()

    def detach(self) -> tuple[asyncio.Transport, bytes]:
        """After the head of a 101, or of a 2xx to CONNECT: the transport (reading paused) and the
        bytes that came behind the head.

        The caller sets its own protocol on the transport and calls `resume_reading`. From then on
        neither this connection nor its pool has anything to do with it.
        """
        if not self.upgraded or self._closed:
            raise RuntimeError("only an upgraded connection that is still open can be detached")
        self._receiver = NOBODY
        self._closed = True
        self._lost()
        return self._transport, self._leftover

    def version(self) -> str:
        """The HTTP version of the answer, as "1.1"; valid from on_head on."""
        return cast(str, self._parser.get_http_version())

    def fileno(self) -> int:
        """The socket's descriptor, for asking whether anything came; -1 when there is none."""
        raw = self._transport.get_extra_info("socket")
        return -1 if raw is None else cast(int, raw.fileno())

    # --- what the transport calls ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self.reusable = True

    def data_received(self, data: bytes) -> None:
        if self._receiver is NOBODY:
            self._close()
            return
        if self._unsent:
            self._fail(OriginReset("bytes came before the request was sent", sent=False))
            return
        whole = self._whole
        if whole is not None and not self._fed:
            end = data.find(_HEAD_END) + len(_HEAD_END)
            known = None if self._head_only else self._heads.get(data[:end])
            if known is not None and known.length == len(data) - end:
                self._keeps = True  # the parser has read this head before: it need not again
                self.utilisation = known.utilisation
                self._settle()
                whole.on_whole(known, data[end:])
                return
            self._first = data
        self._fed += len(data)
        try:
            self._parser.feed_data(self._seek_tunnel(data) if self._connects else data)
        except httptools.HttpParserUpgrade as upgrade:
            self._upgrade(data[upgrade.args[0] :])
        except httptools.HttpParserError as error:
            self._stumble(error)
        if self._ended:
            self._end(data)
        elif self._fed > HEAD_LIMIT:
            self._fail(OriginGarbled("the answer's head or trailers are too long"))
        elif self._headed and self._whole is not None:
            self._tell_in_pieces()

    def eof_received(self) -> bool:
        """Ends here and now: waiting for unsent bytes to drain could take for ever."""
        self._finish_at(None)
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._finish_at(exc)
        self._lost()

    def pause_writing(self) -> None:
        self._writable = False

    def resume_writing(self) -> None:
        self._writable = True
        if self._sending:
            self._receiver.on_writable()

    # --- what the parser calls ---

    def on_message_begin(self) -> None:
        if self._ended:
            raise OriginGarbled("bytes behind the answer")

    def on_status(self, reason: bytes) -> None:
        self._reason += reason

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers.append((name, value))
        size = len(name)
        if size == 17 and name.lower() == b"transfer-encoding":
            self._coding = value if self._coding is None else b"twice"
        elif size == 21 and name.lower() == LOAD_HEADER and not self._headed:
            self.utilisation = utilisation(value)

    def on_headers_complete(self) -> None:
        if self._ended:
            return
        parser = self._parser
        status = parser.get_status_code()
        if status < 200 and status != 101:
            self._tell_interim(status)
            return
        plain = parser.should_keep_alive() and self._coding is None and not self._head_only
        if not plain or self._fed > HEAD_LIMIT:
            self._judge(status)
        framing.check_reason(self._reason)
        self._headed = True
        self._status = status
        self._final = self._headers
        self._headers = []
        if self._switches(status):
            return
        if self._whole is None:
            self._receiver.on_head(status, self._reason, self._final)
        if self._head_only:
            self._ended = True

    def on_body(self, data: bytes) -> None:
        if not self._headed:
            raise OriginGarbled("an interim answer with a body")
        if self._ended:
            self._doubtful = True
            return
        self._fed = 0
        self._last = data
        if self._whole is None:
            self._receiver.on_data(data)
        else:
            self._pieces.append(data)

    def on_message_complete(self) -> None:
        if self._interim:
            self._interim = False
        elif self._head_only:
            self._doubtful = self._doubtful or self._coding is not None
        elif not self._switches(self._parser.get_status_code()):
            self._ended = True
            self._keeps = self._parser.should_keep_alive()

    # --- deciding ---

    def _switches(self, status: int) -> bool:
        """Whether what follows this head is not HTTP (RFC 9110 sections 9.3.6 and 15.2.2)."""
        return status == 101 or (self._connects and 200 <= status < 300)

    def _seek_tunnel(self, data: bytes) -> bytes:
        """The parser knows of no CONNECT, and does not tell where a head ends: until there it gets
        one line at a time. Gives what is left for it to read."""
        end = 0
        while end < min(len(data), HEAD_LIMIT) and not self._headed:
            begin, end = end, data.find(b"\n", end) + 1 or len(data)
            self._parser.feed_data(data[begin:end])
        if not self._headed:
            return b""
        left = data[end:]
        if self._switches(self._status):
            self._switch(left)
            return b""
        return left

    def _tell_interim(self, status: int) -> None:
        if status < 100 or self._coding is not None:
            raise OriginGarbled(f"an interim answer with status {status} or with a coding")
        headers = self._headers
        self._reset_head()
        self._first = b""
        self._interim = True
        self._receiver.on_interim(status, headers)

    def _reset_head(self) -> None:
        self._headers = []
        self._reason = b""
        self.utilisation = None

    def _judge(self, status: int) -> None:
        """Raises `OriginGarbled` for what llhttp lets pass."""
        if self._fed > HEAD_LIMIT:
            self._check_size()
        parser = self._parser
        chunked = self._coding == b"chunked" and parser.get_http_version() == "1.1"
        if self._head_only or not chunked or not parser.should_keep_alive():
            self._judge_unusual(status)

    def _check_size(self) -> None:
        if sum(len(name) + len(value) + 4 for name, value in self._headers) > HEAD_LIMIT:
            raise OriginGarbled("the answer's head is too long")

    def _judge_unusual(self, status: int) -> None:
        version = self.version().encode()
        if version not in (b"1.1", b"1.0"):
            raise OriginGarbled("the answer's HTTP version is neither 1.1 nor 1.0")
        method = b"HEAD" if self._head_only else b"GET"
        length = framing.response_length(
            self._headers, method=method, status=status, version=version
        )
        self._until_close = length == framing.UNTIL_CLOSE
        self._keeps = framing.keeps_alive(self._headers, version)

    def _tell_in_pieces(self) -> None:
        """The answer is longer than one read: what there is of it, and from here on the rest."""
        self._whole = None
        receiver, pieces = self._receiver, self._pieces
        self._pieces = []
        receiver.on_head(self._status, self._reason, self._final)
        if pieces and self._receiver is receiver:
            receiver.on_data(b"".join(pieces))

    def _end(self, data: bytes) -> None:
        if self._whole is not None and self._headers:
            self._tell_in_pieces()
        receiver, whole = self._receiver, self._whole
        if self._keeps and (self._head_only or data[-1] in _LINE_ENDS):
            self._doubtful = self._doubtful or not self._is_all_of_it(data)
        if self._head_only:
            self._parser = httptools.HttpResponseParser(self)
        self._settle()
        if whole is None:
            receiver.on_end(self._headers)
        else:
            body, self._pieces = b"".join(self._pieces), []
            whole.on_whole(self._read_head(data, len(body)), body)

    def _is_all_of_it(self, data: bytes) -> bool:
        """Whether nothing is behind the answer that ends in `data`: line ends, which the parser
        skips as if they were the next answer's, are bytes that nobody asked for too."""
        last = self._last
        if self._coding is not None or not last or self._head_only:
            return _ends_in_empty_line(data)
        before = data[: len(data) - len(last)]
        return data.endswith(last) and (not before or _ends_in_empty_line(before))

    def _read_head(self, data: bytes, length: int) -> Head:
        """The head, remembered if `data` is all of the answer and nothing else."""
        head = Head(self._status, self._reason, self._final, length, self.utilisation)
        first, self._first = self._first, b""
        if data is first and self._keeps and not self._head_only:
            end = data.find(_HEAD_END) + len(_HEAD_END)
            if len(data) == end + length:
                self._heads.keep(data[:end], head)
        return head

    def _settle(self) -> None:
        """The answer is complete: the connection waits for another request, or is closed."""
        self._receiver = NOBODY
        if self._may_go_on():
            if self._paused:
                self.resume()
            self.reusable = True
        else:
            self._close()

    def _may_go_on(self) -> bool:
        if not self._keeps or self._doubtful or self._sending or self._closed:
            return False
        return not self._bulky or self._transport.get_write_buffer_size() == 0

    def _upgrade(self, leftover: bytes) -> None:
        if self._connects or b"\r\nupgrade:" not in self._asked.lower():
            self._fail(OriginGarbled("the answer switches protocols, which was not asked for"))
            return
        self._switch(leftover)

    def _switch(self, leftover: bytes) -> None:
        self._leftover = leftover
        self.upgraded = True
        self._fed = 0
        self.pause()
        self._receiver.on_head(self._status, self._reason, self._final)

    def _stumble(self, error: httptools.HttpParserError) -> None:
        """The parser stopped: behind the answer's end that is only doubt, else garbled."""
        if self._ended:
            self._doubtful = True
            return
        cause = error.__context__
        if isinstance(cause, OriginGarbled):
            self._fail(cause)
            return
        self._fail(OriginGarbled(f"the answer is not HTTP/1.1: {error}"))
        if isinstance(error, httptools.HttpParserCallbackError) and cause is not None:
            raise cause

    def _finish_at(self, exc: Exception | None) -> None:
        """The other side ended: the answer's proper end where nothing else marks one."""
        if self._receiver is NOBODY:
            self._close()
        elif exc is None and self._until_close and self._headed:
            self._keeps = False
            self._end(b"")
        else:
            when = "before its end" if self._headed else "before the answer"
            failure = OriginReset(f"the connection ended {when}", sent=self._sent)
            failure.__cause__ = exc
            self._fail(failure)

    def _fail(self, failure: OriginFailure) -> None:
        receiver = self._receiver
        self.abort()
        receiver.on_failure(failure)

    def _close(self) -> None:
        self.reusable = False
        if not self._closed:
            self._closed = True
            if self._sending and not self._transport.is_closing():
                # an orderly end would wait behind all of the body that the instance does not take
                abort_by_reset(self._transport)
            else:
                self._transport.abort()

    def _lost(self) -> None:
        on_lost = self.on_lost
        self.on_lost = _nothing
        on_lost()
