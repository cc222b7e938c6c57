"""Requests for stream leases, an emitter that remembers, and a bare instance of sessions."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from chassis.clock import ManualClock
from chassis.contracts.events import Envelope
from chassis.contracts.streams import AcquireRequest, Lease
from chassis.errors import Shed
from chassis.storage import open_tables
from microservices.sessions import model
from microservices.sessions.model import LeasePolicy
from microservices.sessions.store import LeaseStore, Teller


def ask(device: str = "tv", **changes: Any) -> AcquireRequest:
    values: dict[str, Any] = {
        "account_id": "a1",
        "profile_id": "p1",
        "device_id": device,
        "title_id": "t1",
        "play_id": f"play-{device}",
        "max_streams": 2,
        "idempotency_key": f"key-{device}",
    }
    return AcquireRequest(**{**values, **changes})


class Heard:
    """An emitter that keeps what it is told, or refuses."""

    def __init__(self) -> None:
        self.events: list[Envelope] = []
        self.full = False

    async def append(self, topic: str, envelopes: Sequence[Envelope]) -> None:
        assert topic == "session.lease"
        if self.full:
            raise Shed("the spool is full")
        self.events += envelopes

    @property
    def types(self) -> list[str]:
        return [event.type for event in self.events]


class Instance:
    """One process's view of the leases."""

    def __init__(self, file: Path, clock: ManualClock, heard: Heard) -> None:
        self.tables = open_tables(f"sqlite://{file}")
        self.teller = Teller(heard, clock)
        self.store = LeaseStore(self.tables, self.teller, clock, LeasePolicy())

    async def acquire(self, request: AcquireRequest, session_id: str) -> Lease:
        return await self.store.change(
            "a1",
            lambda slots, now: model.acquire(slots, request, session_id, now, self.store.policy),
        )

    async def release(self, session_id: str) -> bool:
        return await self.store.change(
            "a1", lambda slots, now: model.release(slots, session_id, now, self.store.policy)
        )
