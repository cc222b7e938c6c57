"""One row an account, changed by compare-and-set; and the telling of what changed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import ClassVar, Protocol, TypeVar

import msgspec

from chassis.clock import Clock
from chassis.contracts.events import SESSION_LEASE, Envelope, LeaseChanged
from chassis.contracts.keys import Key
from chassis.errors import StagedoorError
from chassis.storage import Tables
from chassis.storage.rewrite import Rewriter
from microservices.sessions.model import LeasePolicy, Slots, sweep, without_told

T = TypeVar("T")
Changed = tuple[T, list[LeaseChanged], list[LeaseChanged]]
"""A transition's result, the told changes that left the row, and the new ones."""

GATHER_S = 0.05
"""Changes that come one by one within it share an fsync of the spool."""
RETRY_TELLING_S = 1.0
SWEEP_EVERY_S = 15.0
CLEAR_AFTER_S = 30.0
"""A told change leaves its row with the next heartbeat, or with the sweep when it is this old."""
RETELL_AFTER_S = 120.0
"""A change that is still untold after so long was left by a process that is gone."""

ACCOUNTS_KEPT = 500

_SOURCE = "/sessions"
_TOGETHER = 64


class AccountLeases(msgspec.Struct, frozen=True):
    """An account with any stream, or any ending worth remembering."""

    key: ClassVar[Key] = Key("account_leases", ("account_id",))

    account_id: str
    slots: Slots


class Emitter(Protocol):
    """Takes events durably; `chassis.events.Spool` is one."""

    async def append(self, topic: str, envelopes: Sequence[Envelope]) -> None: ...


class Teller:
    """Tells of changes in their order, off the request's path, at least once each.

    A change is stored in its account's row until it was told, so nothing is lost with the process.
    """

    def __init__(self, emitter: Emitter, clock: Clock) -> None:
        self._emitter = emitter
        self._clock = clock
        self._waiting: dict[str, LeaseChanged] = {}
        self._told: set[str] = set()
        self._wake = asyncio.Event()

    def __repr__(self) -> str:
        return f"Teller(waiting={len(self._waiting)}, told={len(self._told)})"

    def tell(self, changes: Iterable[LeaseChanged]) -> None:
        for change in changes:
            if not self.has_told(change):
                self._waiting[change_id(change)] = change
                self._wake.set()

    def has_told(self, change: LeaseChanged) -> bool:
        return change_id(change) in self._told

    def forget(self, changes: Iterable[LeaseChanged]) -> None:
        """They are in no row any more."""
        self._told.difference_update(map(change_id, changes))

    async def run(self) -> None:
        while True:
            await self._wake.wait()
            await self._clock.sleep(GATHER_S)
            self._wake.clear()
            try:
                await self.flush()
            except StagedoorError:
                await self._clock.sleep(RETRY_TELLING_S)
                self._wake.set()

    async def flush(self) -> None:
        """Tells what waits now; raises what the emitter raises, and then has told nothing."""
        told = dict(self._waiting)
        if told:
            await self._emitter.append(SESSION_LEASE, [envelope(one) for one in told.values()])
            self._told.update(told)
            for identity in told:
                self._waiting.pop(identity, None)

    async def finish(self) -> None:
        """Tells what waits, if that can be done now; what cannot stays in the rows."""
        with suppress(StagedoorError):
            await self.flush()


class LeaseStore:
    """Leases by account. `Slots` go in and out; transitions are the model's."""

    def __init__(self, tables: Tables, teller: Teller, clock: Clock, policy: LeasePolicy) -> None:
        self._tables = tables
        self._rewriter = Rewriter(tables, kept=ACCOUNTS_KEPT)
        self._teller = teller
        self._clock = clock
        self.policy = policy

    async def read(self, account_id: str) -> Slots:
        row = await self._tables.get(AccountLeases, account_id)
        return row.slots if row is not None else Slots()

    async def change(self, account_id: str, decide: Callable[[Slots, float], tuple[Slots, T]]) -> T:
        """Runs a transition at the present time; its result, once durable."""

        def whole(row: AccountLeases | None) -> tuple[AccountLeases | None, Changed[T]]:
            before = row.slots if row is not None else Slots()
            kept = without_told(before, self._teller.has_told)
            after, result = decide(kept, self._clock.now())
            cleared = [one for one in before.untold if one not in kept.untold]
            fresh = [one for one in after.untold if one not in kept.untold]
            stored = AccountLeases(account_id, after) if after != Slots() else None
            return stored, (result, cleared, fresh)

        changed = await self._rewriter.change(AccountLeases, (account_id,), whole)
        result, cleared, fresh = changed
        self._teller.forget(cleared)
        self._teller.tell(fresh)
        return result

    async def sweep(self) -> None:
        """Ends what expired and clears what was told, in every account that has any of it."""
        due: list[str] = []
        async for row in self._tables.scan(AccountLeases):
            now = self._clock.now()
            self._teller.tell(_older(row.slots, now, RETELL_AFTER_S))
            if self._needs_sweep(row.slots, now):
                due.append(row.account_id)
        for at in range(0, len(due), _TOGETHER):
            await asyncio.gather(*map(self._sweep_one, due[at : at + _TOGETHER]))

    async def _sweep_one(self, account_id: str) -> None:
        await self.change(account_id, lambda slots, now: sweep(slots, now, self.policy))

    async def sweep_forever(self) -> None:
        while True:
            await self._clock.sleep(SWEEP_EVERY_S)
            try:
                await self.sweep()
            except StagedoorError:
                continue  # the next round finds it again

    def _needs_sweep(self, slots: Slots, now: float) -> bool:
        if any(map(self._teller.has_told, _older(slots, now, CLEAR_AFTER_S))):
            return True
        return sweep(slots, now, self.policy)[0] != slots


def _older(slots: Slots, now: float, age_s: float) -> list[LeaseChanged]:
    return [one for one in slots.untold if now - one.at_ms / 1000 > age_s]


def change_id(change: LeaseChanged) -> str:
    """The same however often it is told."""
    return f"{change.session_id}:{change.what}"


def envelope(change: LeaseChanged) -> Envelope:
    return Envelope.of(
        change,
        event_id=change_id(change),
        source=_SOURCE,
        kind=f"session.{change.what}.v1",
        at_ms=change.at_ms,
        partitionkey=change.account_id,
        subject=change.session_id,
    )
