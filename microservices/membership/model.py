"""Plans, statuses and what they allow. Pure rules; `now` is UNIX seconds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import msgspec
from msgspec.structs import replace

from chassis.contracts.accounts import Enrolment, Entitlement, Membership, MembershipChange
from chassis.contracts.common import Limits, MemberStatus, Plan
from chassis.contracts.countries import COUNTRIES
from chassis.contracts.keys import Key
from chassis.errors import BadRequest, Conflict

PLANS: Mapping[Plan, Limits] = {
    "basic": Limits(streams=1, max_height=720, max_kbps=3_000),
    "standard": Limits(streams=3, max_height=1080, max_kbps=8_000),
    "premium": Limits(streams=5, max_height=2160, max_kbps=25_000, hdr=True, offline=True),
}

STEPS: Mapping[MemberStatus, tuple[MemberStatus, ...]] = {
    "active": ("grace", "paused", "cancelled"),
    "grace": ("active", "paused", "cancelled"),
    "paused": ("active", "cancelled"),
    "cancelled": ("active",),
}
"""From each status to those that may follow it."""

GRACE_S = 7 * 86_400.0
"""A failed payment may be mended for so long while playing goes on; then the member is paused."""
SNAPSHOT_S = 600.0
"""How long a signed entitlement may be believed."""
_MAXIMUM_ID = 200


class Member(msgspec.Struct, frozen=True):
    """The stored membership of an account. `since` is when the status or plan last changed."""

    key: ClassVar[Key] = Key("member", ("account_id",))

    account_id: str
    plan: Plan
    status: MemberStatus
    country: str
    since: float


def enrol(enrolment: Enrolment, now: float) -> Member:
    if not 0 < len(enrolment.account_id) <= _MAXIMUM_ID:
        raise BadRequest(f"account_id must have 1 to {_MAXIMUM_ID} characters")
    country = known_country(enrolment.country)
    return Member(enrolment.account_id, enrolment.plan, "active", country, now)


def change(member: Member, asked: MembershipChange, now: float) -> Member:
    """The member as asked; `Conflict` when its status cannot follow the present one.

    Setting what already holds changes nothing, so repeating a change is harmless.
    """
    present = status_at(member, now)
    status = asked.status or present
    if status != present and status not in STEPS[present]:
        raise Conflict(
            f"a membership that is {present} cannot become {status};"
            f" it can become {' or '.join(STEPS[present])}",
            code="membership_status",
        )
    plan = asked.plan or member.plan
    country = member.country if asked.country is None else known_country(asked.country)
    since = member.since if (plan, status) == (member.plan, member.status) else now
    if status == "grace" and member.status == "grace":
        since = member.since
    return replace(member, plan=plan, status=status, country=country, since=since)


def status_at(member: Member, now: float) -> MemberStatus:
    """The status that holds now: grace that has run out is a pause."""
    if member.status == "grace" and now >= member.since + GRACE_S:
        return "paused"
    return member.status


def entitlement(member: Member, now: float) -> Entitlement:
    """What the account may do. It never outlives a grace that is about to run out."""
    status = status_at(member, now)
    expires = now + SNAPSHOT_S
    if status == "grace":
        expires = min(expires, member.since + GRACE_S)
    return Entitlement(
        account_id=member.account_id,
        plan=member.plan,
        status=status,
        country=member.country,
        limits=PLANS[member.plan],
        expires_at=expires,
    )


def shown(member: Member, now: float) -> Membership:
    status = status_at(member, now)
    return Membership(
        plan=member.plan,
        status=status,
        country=member.country,
        limits=PLANS[member.plan],
        since=member.since,
        grace_until=member.since + GRACE_S if status == "grace" else None,
    )


def known_country(code: str) -> str:
    if code not in COUNTRIES:
        raise BadRequest(
            f"country {code[:8]!r} is no ISO 3166-1 code: two capital letters, such as US",
            code="country_unknown",
        )
    return code
