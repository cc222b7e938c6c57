"""The operations of membership."""

from __future__ import annotations

from chassis.clock import Clock
from chassis.contracts.accounts import (
    CHANGE_MEMBERSHIP,
    ENROL,
    ENTITLEMENT,
    Enrolment,
    EntitlementQuery,
    Membership,
    MembershipChange,
    SignedEntitlement,
)
from chassis.contracts.wire import Nothing
from chassis.http.api import Api, Request
from chassis.identity import Seal
from microservices.membership import model
from microservices.membership.store import MemberStore

ENTITLEMENT_PURPOSE = "entitlement"


class MembershipApi:
    def __init__(self, store: MemberStore, seal: Seal, clock: Clock) -> None:
        self._store = store
        self._seal = seal
        self._clock = clock

    def mount(self, api: Api) -> None:
        api.call(ENTITLEMENT, self.entitlement, at_once=True)
        api.call(ENROL, self.enrol)
        api.call(CHANGE_MEMBERSHIP, self.change)
        api.route("GET", "/v1/membership", self.mine, answer=Membership)

    async def entitlement(self, request: Request, body: EntitlementQuery) -> SignedEntitlement:
        """What an account may do now, signed, until it expires."""
        now = self._clock.now()
        entitled = model.entitlement(await self._store.get(body.account_id), now)
        ttl_s = entitled.expires_at - now
        return SignedEntitlement(
            snapshot=self._seal.seal(ENTITLEMENT_PURPOSE, entitled, ttl_s=ttl_s)
        )

    async def enrol(self, request: Request, body: Enrolment) -> Nothing:
        """Begins an account's membership, once."""
        await self._store.enrol(model.enrol(body, self._clock.now()))
        return Nothing()

    async def change(self, request: Request, body: MembershipChange) -> Nothing:
        """Sets plan, status or country."""
        await self._store.change(body)
        return Nothing()

    async def mine(self, request: Request) -> Membership:
        """The caller's plan, status and limits."""
        return model.shown(await self._store.get(request.passport.account_id), self._clock.now())
