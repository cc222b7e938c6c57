"""One JSON line an event, encoded when it happens and written off the loop in batches.

Lines wait in a bounded buffer; when the disk cannot keep up the oldest are dropped and counted,
never the request delayed.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from chassis.clock import Clock

CAPACITY = 20_000
_FLUSH_S = 0.2
_REDACTED = "…"
_SECRET = ("authorization", "password", "secret", "token", "cookie", "passport", "pin")


class LineLog:
    """Writes to `file`, or to standard error when there is none."""

    def __init__(self, file: Path | None, clock: Clock, fixed: Mapping[str, Any]) -> None:
        self._clock = clock
        self._fixed = dict(fixed)
        self._file = file
        self._lines: deque[bytes] = deque(maxlen=CAPACITY)
        self._encode = msgspec.json.Encoder(enc_hook=str).encode
        self._ready = threading.Event()
        self._closed = False
        self._writer: threading.Thread | None = None
        self.dropped = 0

    def request(self, fields: dict[str, Any]) -> None:
        """The one line of a request. The caller gives no secrets; nothing is searched for here."""
        self._put({"time": self._clock.now(), **self._fixed, **fields})

    def say(self, event: str, **fields: Any) -> None:
        """Something an operator should know. Fields with a secret's name are redacted."""
        shown = {name: _REDACTED if _is_secret(name) else value for name, value in fields.items()}
        self._put({"time": self._clock.now(), **self._fixed, "event": event, **shown})

    def _put(self, line: dict[str, Any]) -> None:
        if len(self._lines) == CAPACITY:
            self.dropped += 1
        self._lines.append(self._encode(line))
        if self._writer is None:
            self._start()

    def _start(self) -> None:
        self._writer = threading.Thread(target=self._run, name="log", daemon=True)
        self._writer.start()

    def _run(self) -> None:
        while not self._closed:
            self._ready.wait(_FLUSH_S)
            self._flush()
        self._flush()

    def _flush(self) -> None:
        lines = []
        while self._lines:
            lines.append(self._lines.popleft())
        if lines:
            self._write(b"\n".join(lines) + b"\n")

    def _write(self, text: bytes) -> None:
        try:
            if self._file is None:
                with open(2, "ab", closefd=False) as stream:
                    stream.write(text)
                return
            with self._file.open("ab") as stream:
                stream.write(text)
        except OSError:
            self.dropped += text.count(b"\n")

    def close(self) -> None:
        """Writes what waits, then stops."""
        self._closed = True
        self._ready.set()
        if self._writer is not None:
            self._writer.join(timeout=2)


def _is_secret(name: str) -> bool:
    return any(word in name.lower() for word in _SECRET)
