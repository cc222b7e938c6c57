"""Members by account."""

from __future__ import annotations

from chassis.clock import Clock
from chassis.contracts.accounts import MembershipChange
from chassis.errors import NotFound
from chassis.storage import Tables
from chassis.storage.rewrite import Rewriter
from microservices.membership.model import Member, change


class MemberStore:
    def __init__(self, tables: Tables, clock: Clock) -> None:
        self._tables = tables
        self._rewriter = Rewriter(tables)
        self._clock = clock

    async def get(self, account_id: str) -> Member:
        """The member; `NotFound` when the account never enrolled."""
        return _found(await self._tables.get(Member, account_id))

    async def enrol(self, member: Member) -> None:
        """The first enrolment of an account stands; repeating it changes nothing."""
        await self._tables.insert(member)

    async def change(self, asked: MembershipChange) -> None:
        def decide(member: Member | None) -> tuple[Member, None]:
            return change(_found(member), asked, self._clock.now()), None

        await self._rewriter.change(Member, (asked.account_id,), decide)


def _found(member: Member | None) -> Member:
    if member is None:
        raise NotFound("this account has no membership", code="membership_unknown")
    return member
