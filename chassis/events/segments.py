"""The spool's files: numbered append-only segments, and a cursor that says what was delivered.

One thread appends, the event loop reads behind it and removes. Numbers are never used twice, so
that the cursor of a removed segment says nothing about a later one.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from chassis.disk.files import make_folder, sync_folder, unavailable
from chassis.events.framing import unframe

_SUFFIX = ".spool"


class Segment:
    """One file. `end` is what is durable of it; once `sealed` it does not grow."""

    __slots__ = ("end", "number", "path", "reader", "sealed")

    def __init__(self, folder: Path, number: int, *, end: int = 0, sealed: bool = False) -> None:
        self.number = number
        self.path = folder / f"{number:020d}{_SUFFIX}"
        self.end = end
        self.sealed = sealed
        self.reader = -1

    def read(self, start: int, size: int) -> bytes:
        if self.reader < 0:
            self.reader = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        return os.pread(self.reader, min(size, self.end - start), start)

    def remove(self) -> None:
        self.release()
        with suppress(FileNotFoundError):
            self.path.unlink()

    def release(self) -> None:
        if self.reader >= 0:
            os.close(self.reader)
            self.reader = -1


class Segments:
    """Every segment of a folder, oldest first. Opening it mends what a crash left."""

    def __init__(self, folder: Path, segment_bytes: int) -> None:
        make_folder(folder)
        self.folder = folder
        self.damaged_bytes = 0
        self.waiting = 0
        self._written = self._removed = 0  # one counter a thread, so that neither needs a lock
        self._segment_bytes = segment_bytes
        self._active: Segment | None = None
        self._descriptor = -1
        try:
            cursor = os.open(folder / "delivered", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
            self._cursor = cursor
            number, offset = self._recall()
            self.segments: deque[Segment] = deque(self._recover(number, offset))
        except OSError as fault:
            raise unavailable(fault, folder) from fault
        self._next = max([number, *(segment.number for segment in self.segments)]) + 1
        self.delivered = offset if self.segments and self.segments[0].number == number else 0

    @property
    def size(self) -> int:
        """Bytes on disk."""
        return self._written - self._removed

    def write(self, items: Sequence[bytes]) -> list[None]:
        """Appends and fsyncs, in the writing thread; on failure none of it will be read."""
        data = b"".join(items)
        try:
            active = self._room_for(len(data))
            self._append(active, data)
        except OSError as fault:
            raise unavailable(fault, self.folder) from fault
        self._written += len(data)
        active.end += len(data)
        return [None] * len(items)

    def pending(self, size: int) -> bytes:
        """Up to `size` durable bytes that are not delivered yet, of one segment."""
        self._remove_delivered()
        if not self.segments:
            return b""
        try:
            return self.segments[0].read(self.delivered, size)
        except OSError as fault:
            raise unavailable(fault, self.segments[0].path) from fault

    def advance(self, size: int) -> None:
        """Marks the first `size` pending bytes delivered, and removes what is wholly delivered.

        The cursor is not fsynced: losing it repeats deliveries, it never skips one.
        """
        self.delivered += size
        text = b"%020d %020d\n" % (self.segments[0].number, self.delivered)
        with suppress(OSError):
            os.pwrite(self._cursor, text, 0)
        self._remove_delivered()

    def close(self) -> None:
        """Lets go of the files, and removes them when everything was delivered."""
        self._seal()
        self._remove_delivered()
        for segment in self.segments:
            segment.release()
        os.close(self._cursor)

    def _remove_delivered(self) -> None:
        while self.segments:
            first = self.segments[0]
            if not first.sealed or self.delivered < first.end:
                break
            first.remove()
            self._removed += first.end
            self.segments.popleft()
            self.delivered = 0

    def _room_for(self, size: int) -> Segment:
        active = self._active
        if active is not None and active.end and active.end + size > self._segment_bytes:
            self._seal()
        if self._active is None:
            self._active = self._create()
        return self._active

    def _create(self) -> Segment:
        segment = Segment(self.folder, self._next)
        self._next += 1
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC
        self._descriptor = os.open(segment.path, flags, 0o644)
        sync_folder(self.folder)
        self.segments.append(segment)
        return segment

    def _seal(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
        if self._active is not None:
            self._active.sealed = True
            self._active = None

    def _append(self, active: Segment, data: bytes) -> None:
        try:
            _write_all(self._descriptor, data)
        except OSError:
            self._cut(active)
            raise
        try:
            os.fdatasync(self._descriptor)
        except OSError:
            self._seal()  # what a failed fsync left of the file is unknown: use another
            raise

    def _cut(self, active: Segment) -> None:
        """After a failed write: seals what the file holds, so that delivering it frees the disk."""
        try:
            os.ftruncate(self._descriptor, active.end)
        except OSError:
            self._seal()
        if active.end:
            self._seal()

    def _recall(self) -> tuple[int, int]:
        numbers = os.pread(self._cursor, 64, 0).split()
        if len(numbers) == 2 and all(number.isdigit() for number in numbers):
            return int(numbers[0]), int(numbers[1])
        return 0, 0

    def _recover(self, number: int, offset: int) -> list[Segment]:
        kept: list[Segment] = []
        paths = sorted(self.folder.glob(f"*{_SUFFIX}"))
        for path in paths:
            segment, data = self._mend(path, last=path == paths[-1])
            if not data or segment.number < number:
                segment.remove()
                continue
            kept.append(segment)
            done = offset if segment.number == number else 0
            self.waiting += len(unframe(data[done:])[0])
            self._written += segment.end
        return kept

    def _mend(self, path: Path, *, last: bool) -> tuple[Segment, bytes]:
        """The segment with its whole frames, what follows them cut off.

        Only the last file may end torn; elsewhere the rest is damage, and kept beside the file
        for a person to look at.
        """
        data = path.read_bytes()
        _, end = unframe(data)
        if end < len(data):
            if not last:
                self.damaged_bytes += len(data) - end
                path.with_suffix(".damaged").write_bytes(data[end:])
            os.truncate(path, end)
        return Segment(self.folder, int(path.stem), end=end, sealed=True), data[:end]


def _write_all(descriptor: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(descriptor, rest) :]
