"""One JSON line an event, encoded and written off the loop in batches.

Lines wait in a bounded buffer as what they will tell; when the disk cannot keep up the oldest are
dropped and counted, never the request delayed.
"""

from __future__ import annotations

import re
import threading
from collections import deque
from collections.abc import Callable, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec

from chassis.clock import Clock

CAPACITY = 20_000
_GATHER_S = 0.5
_BATCH = 64
"""Lines encoded in a row: the file is written between batches, which lets the loop run."""
_JOIN_S = 2.0
_REDACTED = "…"
_SHOWN = 64
_KEPT = 16
_WORDS = re.compile(r"[^a-z]+")
_SECRET = frozenset(
    word + plural
    for word in ("authorization", "password", "secret", "token", "cookie", "passport", "pin")
    for plural in ("", "s")
)

Fields = Mapping[str, Any]


class LineLog:
    """Writes to `file`, or to standard error when there is none."""

    def __init__(
        self,
        file: Path | None,
        clock: Clock,
        fixed: Mapping[str, Any],
        *,
        capacity: int = CAPACITY,
    ) -> None:
        self._now = clock.now
        self._fixed = msgspec.json.encode(dict(fixed))[1:-1]
        self._file = file
        self._lines: deque[tuple[float, Fields | Callable[[], Fields]]] = deque(maxlen=capacity)
        self._encode = msgspec.json.Encoder(enc_hook=str).encode
        self._filled = threading.Event()
        self._closing = threading.Event()
        self._writer: threading.Thread | None = None
        self.dropped = 0

    def request(self, fields: Fields | Callable[[], Fields], at: float | None = None) -> None:
        """The one line of a request: its fields, or what will tell them, neither to be changed
        any more. `at` is its time, if not now. The caller gives no secrets; nothing is searched
        for here."""
        lines = self._lines
        if len(lines) == lines.maxlen:
            self.dropped += 1
        lines.append((self._now() if at is None else at, fields))
        if not self._filled.is_set():
            self._wake()

    def say(self, event: str, **fields: Any) -> None:
        """Something an operator should know. Fields with a secret's name are redacted."""
        self.request({"event": event, **_redacted(fields)})

    def _wake(self) -> None:
        self._filled.set()
        if self._writer is None:
            self._start()

    def _start(self) -> None:
        self._writer = threading.Thread(target=self._run, name="log", daemon=True)
        self._writer.start()

    def _run(self) -> None:
        """Sleeps until there is a line, lets others gather, writes them all."""
        while not self._closing.is_set():
            self._filled.wait()
            self._closing.wait(_GATHER_S)
            self._filled.clear()
            self._flush()
        self._flush()

    def _flush(self) -> None:
        while self._lines:
            waiting = islice(iter(self._lines.popleft, None), min(_BATCH, len(self._lines)))
            self._write(b"".join(map(self._line, waiting)))

    def _line(self, waiting: tuple[float, Fields | Callable[[], Fields]]) -> bytes:
        time, fields = waiting
        try:
            told = self._encode(fields() if callable(fields) else fields)
        except Exception:  # a line that cannot be told must not end the telling
            self.dropped += 1
            return b""
        parts = (b'{"time":%r' % time, self._fixed, told[1:-1])
        return b",".join(filter(None, parts)) + b"}\n"

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
        self._closing.set()
        self._filled.set()
        if self._writer is not None:
            self._writer.join(timeout=_JOIN_S)


def shown_path(path: str) -> str:
    """A path for logs and spans, with the long parts cut: a path may hold a sealed token, which is
    a credential, and none of which is of use without its end."""
    if len(path) <= _SHOWN:
        return path
    parts = path.split("/")
    return "/".join(part if len(part) <= _SHOWN else f"{part[:_KEPT]}…" for part in parts)


def _redacted(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {name: _shown(name, value) for name, value in fields.items()}


def _shown(name: str, value: Any) -> Any:
    if not _SECRET.isdisjoint(_WORDS.split(name.lower())):
        return _REDACTED
    return _redacted(value) if isinstance(value, Mapping) else value
