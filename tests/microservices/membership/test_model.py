from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chassis.contracts.accounts import Enrolment, MembershipChange
from chassis.contracts.common import MemberStatus
from chassis.errors import BadRequest, Conflict
from microservices.membership import model
from microservices.membership.model import GRACE_S, PLANS, Member

NOW = 1_700_000_000.0
ACTIVE = model.enrol(Enrolment(account_id="a1", plan="standard", country="US"), NOW)
STATUSES: list[MemberStatus] = ["active", "grace", "paused", "cancelled"]


def to(member: Member, status: MemberStatus, at: float = NOW) -> Member:
    return model.change(member, MembershipChange(account_id="a1", status=status), at)


def test_each_plan_allows_what_it_sells() -> None:
    sold = {
        name: (plan.streams, plan.max_height, plan.max_kbps, plan.hdr, plan.offline)
        for name, plan in PLANS.items()
    }
    assert sold == {
        "basic": (1, 720, 3_000, False, False),
        "standard": (3, 1080, 8_000, False, False),
        "premium": (5, 2160, 25_000, True, True),
    }


def test_grace_keeps_playing_for_a_week_and_is_a_pause_then() -> None:
    member = to(ACTIVE, "grace")
    assert model.entitlement(member, NOW + GRACE_S - 1).status == "grace"
    assert model.entitlement(member, NOW + GRACE_S).status == "paused"


def test_a_snapshot_never_outlives_the_grace() -> None:
    member = to(ACTIVE, "grace")
    assert model.entitlement(member, NOW + GRACE_S - 60).expires_at == NOW + GRACE_S
    assert model.entitlement(member, NOW).expires_at == NOW + 600


def test_setting_grace_again_does_not_begin_it_anew() -> None:
    member = to(to(ACTIVE, "grace"), "grace", NOW + 100)
    assert member.since == NOW
    plan = MembershipChange(account_id="a1", plan="premium")
    assert model.change(member, plan, NOW + 200).since == NOW


@pytest.mark.parametrize(
    ("first", "then"), [("cancelled", "paused"), ("cancelled", "grace"), ("paused", "grace")]
)
def test_a_status_that_cannot_follow_is_refused(first: MemberStatus, then: MemberStatus) -> None:
    with pytest.raises(Conflict) as caught:
        to(to(ACTIVE, first), then)
    assert caught.value.code == "membership_status"


def test_a_grace_that_ran_out_may_be_paid_and_not_prolonged() -> None:
    late = NOW + GRACE_S + 1
    member = to(ACTIVE, "grace")
    assert to(member, "active", late).status == "active"
    with pytest.raises(Conflict):
        to(member, "grace", late)


def test_a_cancelled_member_may_come_back() -> None:
    assert to(to(ACTIVE, "cancelled"), "active", NOW + 5).since == NOW + 5


def test_what_is_left_out_stays() -> None:
    changed = model.change(ACTIVE, MembershipChange(account_id="a1", country="DE"), NOW + 9)
    assert (changed.country, changed.plan, changed.since) == ("DE", "standard", NOW)


@pytest.mark.parametrize("country", ["us", "ZZ", "", "USA", "U\x00"])
def test_a_country_that_is_none_is_refused(country: str) -> None:
    with pytest.raises(BadRequest, match="ISO 3166"):
        model.enrol(Enrolment(account_id="a1", plan="basic", country=country), NOW)


@given(st.lists(st.tuples(st.sampled_from(STATUSES), st.floats(0, GRACE_S)), max_size=12))
def test_no_chain_of_changes_skips_a_step(steps: list[tuple[MemberStatus, float]]) -> None:
    member, now = ACTIVE, NOW
    for status, seconds in steps:
        now += seconds
        before = model.status_at(member, now)
        try:
            member = to(member, status, now)
        except Conflict:
            assert status not in model.STEPS[before]
        else:
            assert status == before or status in model.STEPS[before]
        entitled = model.entitlement(member, now)
        assert now < entitled.expires_at <= now + 600
        assert entitled.limits == PLANS["standard"]
