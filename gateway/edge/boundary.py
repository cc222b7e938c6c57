"""Where a message may end, so that the parser is never given bytes of the next one.

A head ends with an empty line, and so does a chunked body (after its last chunk and trailers).
Cutting what arrives behind each empty line therefore keeps every pipelined request unread, as raw
bytes, until the one before it has been answered.
"""

from __future__ import annotations

_EMPTY_LINE = b"\r\n\r\n"


class Boundary:
    """Finds CR LF CR LF in a stream of pieces, also where it is split between two."""

    __slots__ = ("_tail",)

    def __init__(self) -> None:
        self._tail = b""

    def end(self, data: bytes) -> int:
        """How much of `data` to read: up to and with the first empty line, else all of it."""
        tail = self._tail
        if tail:
            at = (tail + data[:3]).find(_EMPTY_LINE)
            if at >= 0:
                self._tail = b""
                return at + 4 - len(tail)
        at = data.find(_EMPTY_LINE)
        if at >= 0:
            self._tail = b""
            return at + 4
        self._tail = (tail + data)[-3:]
        return len(data)
