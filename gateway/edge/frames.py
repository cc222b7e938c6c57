"""Where a WebSocket frame ends in a stream of bytes (RFC 6455 section 5.2), and nothing else of it.

Between two frames, also between the fragments of one message, a control frame of ours may stand.
Pure: no payload is kept or unmasked, and bytes that are no frames do no harm.
"""

from __future__ import annotations

_CLOSE = 0x8
_MASKED = 0x80
_EXTENDED = {126: 2, 127: 8}
"""How many bytes of length follow, by what stands in place of the length."""


class Frames:
    """Follows one direction. `said_close` once a close frame has begun: nothing may follow it."""

    __slots__ = ("_head", "_left", "said_close")

    def __init__(self) -> None:
        self._head = b""
        self._left = 0
        self.said_close = False

    def __repr__(self) -> str:
        return f"Frames({self._left} bytes left, head {self._head!r}, close={self.said_close})"

    @property
    def is_between(self) -> bool:
        """Whether the last byte told was the last of a frame."""
        return not self._left and not self._head

    def feed(self, data: bytes) -> None:
        """More of the stream."""
        self._left -= len(data)
        if self._left < 0:
            self._follow(data, len(data) + self._left)

    def end(self, data: bytes) -> int:
        """How many bytes of `data` belong to the frame that has begun; all of them when it goes on
        behind them. Follows only these."""
        known = len(self._head)
        if not self._left:
            frame = self._head + data
            size = _size(frame)
            if size is None:
                self.feed(data)
                return len(data)
            self._left, self._head = size - known, b""
            self.said_close = self.said_close or frame[0] & 0x0F == _CLOSE
        end = min(self._left, len(data))
        self._left -= end
        return end

    def _follow(self, data: bytes, at: int) -> None:
        """From `at` on there are new frames."""
        if self._head:
            data, self._head = self._head + data, b""
        size = len(data)
        self._left = 0
        while at < size:
            frame = _size(data[at : at + 14])
            if frame is None:
                self._head = data[at:]
                return
            if data[at] & 0x0F == _CLOSE:
                self.said_close = True
            at += frame
        self._left = at - size


def _size(head: bytes) -> int | None:
    """Bytes of the whole frame that begins so; None while its head is not complete."""
    if len(head) < 2:
        return None
    length = head[1] & ~_MASKED
    start = 2 + _EXTENDED.get(length, 0)
    if len(head) < start:
        return None
    if start > 2:
        length = int.from_bytes(head[2:start], "big")
    return start + length + (4 if head[1] & _MASKED else 0)


def close_frame(code: int, reason: bytes) -> bytes:
    """A server's close frame; `reason` is UTF-8 of at most 123 bytes."""
    payload = code.to_bytes(2, "big") + reason[:123]
    return bytes((0x80 | _CLOSE, len(payload))) + payload
