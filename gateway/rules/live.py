"""The one pointer to the snapshot that serves, and the one path by which a document takes over."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from msgspec import Struct

from chassis.clock import Clock
from chassis.errors import ConfigurationFault, StoreUnavailable
from gateway.rules.build import RulesFault, build, content_hash
from gateway.rules.history import History
from gateway.rules.match import Snapshot
from gateway.rules.source import MAX_BYTES, Fault
from gateway.rules.watch import FileWatch

Say = Callable[..., Any]


class Counters(Struct):
    """Plain counts, read at scrape time."""

    changes: int = 0
    refused: int = 0
    last_change_at: float = 0.0
    last_build_s: float = 0.0


def _quiet(event: str, **fields: Any) -> None:
    """Where nobody listens."""


def anything(snapshot: Snapshot) -> None:
    """Where every sound document can be served."""


class LiveRules:
    """Follows a rules file: `snapshot` is always usable once `start` returned.

    A document that cannot serve changes nothing: `faults` says why, `snapshot` stays. `state` is
    the directory that keeps the versions; `say(event, **fields)` is told of every change.
    `accept` may refuse a sound document that this process cannot serve, by `ConfigurationFault`.
    """

    def __init__(
        self,
        file: Path,
        state: Path,
        clock: Clock,
        *,
        say: Say = _quiet,
        accept: Callable[[Snapshot], None] = anything,
    ) -> None:
        self.file = file
        self.history = History(state, clock)
        self.counters = Counters()
        self.faults: tuple[Fault, ...] = ()
        """Of the newest document seen: its faults when it was refused, else its warnings."""
        self.judged_hash = ""
        """The content hash of the newest document that was taken or refused."""
        self._clock = clock
        self._say = say
        self._accept = accept
        self._snapshot: Snapshot | None = None
        self._listeners: list[Callable[[Snapshot], None]] = []
        self._watch = FileWatch(file, clock, self._follow, limit=MAX_BYTES)
        self._task: asyncio.Task[None] | None = None

    @property
    def snapshot(self) -> Snapshot:
        assert self._snapshot is not None, "start() first"
        return self._snapshot

    def subscribe(self, callback: Callable[[Snapshot], None]) -> None:
        """`callback` hears each new snapshot, on the loop, right after the swap."""
        self._listeners.append(callback)

    async def start(self) -> None:
        """Loads the file, or else the last good version, and begins to follow the file.

        Raises `RulesFault` with every fault of the file when neither can serve.
        """
        try:
            await self.propose(self._read(), author="file", why="start")
        except RulesFault as refused:
            await self._fall_back(refused)
        self._task = asyncio.create_task(self._watch.run(), name="rules-watch")

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
            self._task = None

    async def propose(self, text: bytes, *, author: str, why: str) -> Snapshot:
        """Parses, lints and compiles off the loop, keeps the version, swaps the pointer.

        Raises `RulesFault` and changes nothing when the document cannot serve.
        """
        current, digest = self._snapshot, content_hash(text)
        if current is not None and current.content_hash == digest:
            self.faults, self.judged_hash = (), digest
            return current
        began = self._clock.monotonic()
        try:
            snapshot, warnings = await asyncio.to_thread(self._build, text, author, why)
        except RulesFault as refused:
            self._refuse(refused, digest)
            raise
        self.judged_hash = digest
        self.counters.last_build_s = self._clock.monotonic() - began
        self.faults = tuple(warnings)
        self._swap(snapshot)
        return snapshot

    def _build(self, text: bytes, author: str, why: str) -> tuple[Snapshot, list[Fault]]:
        folder = self.file.parent
        snapshot, warnings = build(text, self.file.name, self._clock, version=0, folder=folder)
        self._check_acceptable(snapshot)
        version = self._record(text, author, why)
        return dataclasses.replace(snapshot, version=version), warnings

    def _check_acceptable(self, snapshot: Snapshot) -> None:
        try:
            self._accept(snapshot)
        except ConfigurationFault as fault:
            name = self.file.name
            raise RulesFault([Fault(name, 1, reason) for reason in fault.faults]) from fault

    def _record(self, text: bytes, author: str, why: str) -> int:
        """The version; when it cannot be kept the rules still change, and that is said."""
        try:
            return self.history.record(text, author=author, why=why).version
        except StoreUnavailable as fault:
            self._say("rules_not_kept", detail=fault.detail)
            return (self._snapshot.version if self._snapshot else 0) + 1

    def _swap(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot
        self.counters.changes += 1
        self.counters.last_change_at = self._clock.now()
        self._say(
            "rules_changed",
            version=snapshot.version,
            content_hash=snapshot.content_hash,
            rules=len(snapshot.routes),
            warnings=[str(fault) for fault in self.faults],
        )
        for listener in self._listeners:
            self._tell(listener, snapshot)

    def _tell(self, listener: Callable[[Snapshot], None], snapshot: Snapshot) -> None:
        """A listener that fails is said, and keeps nobody else from the new snapshot."""
        try:
            listener(snapshot)
        except Exception as fault:
            self._say("rules_listener_failed", version=snapshot.version, detail=repr(fault))

    def _refuse(self, refused: RulesFault, digest: str) -> None:
        self.faults, self.judged_hash = refused.findings, digest
        self.counters.refused += 1
        serving = self._snapshot.version if self._snapshot else None
        self._say("rules_refused", faults=list(refused.faults), still_serving=serving)

    async def _follow(self, text: bytes) -> None:
        """Whatever a document does to the compiler, the file is followed on."""
        try:
            await self.propose(text, author="file", why="the file changed")
        except RulesFault:
            pass  # said already
        except Exception as fault:
            cannot = Fault(self.file.name, 1, f"cannot be compiled: {fault!r}")
            self._refuse(RulesFault([cannot]), content_hash(text))

    async def _fall_back(self, refused: RulesFault) -> None:
        last = await asyncio.to_thread(self.history.latest)
        if last is None:
            raise refused
        text = last.source.encode()
        folder = self.file.parent
        snapshot, _ = await asyncio.to_thread(
            build, text, f"version {last.version}", self._clock, version=last.version, folder=folder
        )
        self._say("rules_last_good", version=last.version, faults=list(refused.faults))
        self._swap(snapshot)
        self.faults = refused.findings

    def _read(self) -> bytes:
        try:
            return self._watch.read()
        except OSError as fault:
            reason = f"the rules file cannot be read: {fault.strerror}"
            raise RulesFault([Fault(str(self.file), 1, reason)]) from fault
