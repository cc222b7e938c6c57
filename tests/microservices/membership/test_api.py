from __future__ import annotations

from pathlib import Path

import pytest

from chassis.clock import ManualClock
from chassis.contracts.accounts import (
    CHANGE_MEMBERSHIP,
    ENROL,
    ENTITLEMENT,
    Enrolment,
    Entitlement,
    EntitlementQuery,
    MembershipChange,
)
from chassis.errors import Unauthenticated
from microservices.membership.app import build
from tests.support.services import in_process

ENROLMENT = Enrolment(account_id="a1", plan="basic", country="US")
ASKED = EntitlementQuery(account_id="a1")


async def test_an_entitlement_is_sealed_for_ten_minutes(tmp_path: Path) -> None:
    clock = ManualClock()
    async with in_process("membership", build, tmp_path, clock=clock) as client:
        await client.call(ENROL, ENROLMENT)
        signed = await client.call(ENTITLEMENT, ASKED)
        seal = client.chassis.seal
        entitled = seal.open("entitlement", signed.snapshot, Entitlement)
        assert (entitled.plan, entitled.status, entitled.limits.streams) == ("basic", "active", 1)
        with pytest.raises(Unauthenticated):
            seal.open("manifest", signed.snapshot, Entitlement)
        clock.tick(600)
        with pytest.raises(Unauthenticated):
            seal.open("entitlement", signed.snapshot, Entitlement)


async def test_a_cancelled_member_is_still_answered_with_that_status(tmp_path: Path) -> None:
    async with in_process("membership", build, tmp_path) as client:
        await client.call(ENROL, ENROLMENT)
        await client.call(CHANGE_MEMBERSHIP, MembershipChange(account_id="a1", status="cancelled"))
        signed = await client.call(ENTITLEMENT, ASKED)
        opened = client.chassis.seal.open("entitlement", signed.snapshot, Entitlement)
        assert opened.status == "cancelled"


async def test_enrolling_again_changes_nothing_even_after_a_restart(tmp_path: Path) -> None:
    async with in_process("membership", build, tmp_path) as client:
        await client.call(ENROL, ENROLMENT)
        await client.call(CHANGE_MEMBERSHIP, MembershipChange(account_id="a1", plan="premium"))
    async with in_process("membership", build, tmp_path) as client:
        await client.call(ENROL, ENROLMENT)
        shown = (await client.rest("GET", "/v1/membership")).json()
        assert (shown["plan"], shown["status"]) == ("premium", "active")
        assert shown["limits"]["max_height"] == 2160


async def test_an_account_that_never_enrolled_is_404(tmp_path: Path) -> None:
    async with in_process("membership", build, tmp_path) as client:
        answers = [
            await client.raw_call(ENTITLEMENT, ASKED),
            await client.raw_call(CHANGE_MEMBERSHIP, MembershipChange(account_id="a1")),
            await client.rest("GET", "/v1/membership"),
        ]
        assert {(one.status_code, one.json()["code"]) for one in answers} == {
            (404, "membership_unknown")
        }


async def test_a_plan_or_country_that_is_none_is_400(tmp_path: Path) -> None:
    async with in_process("membership", build, tmp_path) as client:
        values = {"account_id": "a1", "plan": "gold", "country": "US"}
        assert (await client.rest("POST", ENROL.path, values)).status_code == 400
        values = {"account_id": "a1", "plan": "basic", "country": "Oz"}
        answer = await client.rest("POST", ENROL.path, values)
        assert (answer.status_code, answer.json()["code"]) == (400, "country_unknown")
