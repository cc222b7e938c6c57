"""The operations of sessions."""

from __future__ import annotations

import asyncio

from chassis.clock import Clock
from chassis.contracts.streams import (
    ACQUIRE,
    GIVE_BACK,
    RECONCILE,
    RENEW,
    SESSIONS,
    AccountSessions,
    AcquireRequest,
    GiveBack,
    Heartbeat,
    Lease,
    Leases,
    Reconcile,
    SessionQuery,
)
from chassis.contracts.wire import Nothing
from chassis.errors import BadRequest, NotFound
from chassis.http.api import Api, Request
from microservices.sessions import model
from microservices.sessions.store import LeaseStore

_SESSION_BYTES = 12


class SessionsApi:
    def __init__(self, store: LeaseStore, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    def mount(self, api: Api) -> None:
        api.call(ACQUIRE, self.acquire)
        api.call(RENEW, self.renew)
        api.call(GIVE_BACK, self.give_back)
        api.call(SESSIONS, self.list)
        api.call(RECONCILE, self.reconcile)
        session = "/v1/play/sessions/{session_id}"
        api.route("GET", "/v1/play/sessions", self.mine, answer=Leases)
        api.route("POST", f"{session}/heartbeat", self.heartbeat, request=Heartbeat, answer=Lease)
        api.route("DELETE", session, self.stop, status=204)

    async def acquire(self, request: Request, body: AcquireRequest) -> Lease:
        """A lease, unless the account's streams are all in use."""
        model.check(body)
        session_id = f"s-{self._clock.entropy(_SESSION_BYTES).hex()}"
        lease = await self._store.change(
            body.account_id,
            lambda slots, now: model.acquire(slots, body, session_id, now, self._store.policy),
        )
        request.notes["session"] = lease.session_id
        return lease

    async def renew(self, request: Request, body: SessionQuery) -> Lease:
        """A full term more for a lease that is live."""
        return await self._renew(body.account_id, body.session_id)

    async def give_back(self, request: Request, body: GiveBack) -> Nothing:
        """Ends the lease of a play that failed; harmless when there is none."""
        await self._store.change(
            body.account_id,
            lambda slots, now: model.give_back(
                slots, body.play_id, body.attempt, now, self._store.policy
            ),
        )
        return Nothing()

    async def list(self, request: Request, body: AccountSessions) -> Leases:
        """The live leases of an account."""
        return await self._live(body.account_id)

    async def reconcile(self, request: Request, body: Reconcile) -> Nothing:
        """Takes in provisional leases that were granted while sessions was away."""
        for lease in body.leases:
            model.check_lease(lease)
        await asyncio.gather(*map(self._reconcile, body.leases))
        return Nothing()

    async def mine(self, request: Request) -> Leases:
        """The caller's live streams."""
        return await self._live(request.passport.account_id)

    async def heartbeat(self, request: Request, body: Heartbeat) -> Lease:
        """Keeps the caller's stream; 410 tells how it ended."""
        if body.position_ms < 0:
            raise BadRequest("position_ms must not be negative")
        return await self._renew(request.passport.account_id, request.params["session_id"])

    async def stop(self, request: Request) -> None:
        """Ends the caller's stream."""
        if not await self._release(request.passport.account_id, request.params["session_id"]):
            raise NotFound("this account has no such session", code="session_unknown")

    async def _live(self, account_id: str) -> Leases:
        slots = await self._store.read(account_id)
        return Leases(leases=slots.live(self._clock.now()))

    async def _renew(self, account_id: str, session_id: str) -> Lease:
        return await self._store.change(
            account_id,
            lambda slots, now: model.renew(slots, session_id, now, self._store.policy),
        )

    async def _release(self, account_id: str, session_id: str) -> bool:
        return await self._store.change(
            account_id,
            lambda slots, now: model.release(slots, session_id, now, self._store.policy),
        )

    async def _reconcile(self, lease: Lease) -> None:
        await self._store.change(
            lease.account_id,
            lambda slots, now: model.reconcile(slots, lease, now, self._store.policy),
        )
