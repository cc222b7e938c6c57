"""What stands in for a step, for how long, and within which bounds."""

from __future__ import annotations

from collections import Counter
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chassis.clock import ManualClock
from chassis.contracts.accounts import Entitlement, EntitlementQuery
from chassis.contracts.common import Limits, Maturity
from chassis.contracts.play import Device, PlayRequest
from chassis.contracts.streams import AcquireRequest, Lease, Manifest, ManifestRequest
from chassis.contracts.titles import RightsDecision, RightsQuery
from chassis.contracts.viewing import Bookmark, Suggestion, UpNext, UpNextQuery
from chassis.identity import Passport
from play_api.fallbacks import (
    MEMORIES,
    PROVISIONAL_TTL_S,
    STATIC_RANKING,
    Fallbacks,
    ProvisionalLeases,
)
from play_api.plan import PLAN, Criticality
from play_api.play import Play

RIGHTS = RightsQuery(title_id="heat-1995", country="US", plan="premium")


def play(**changes: Any) -> Play:
    request = {"profile_id": "p1", "device": Device(id="tv"), "title_id": "heat-1995", **changes}
    return Play(
        PlayRequest(**request),
        Passport(account_id="a1", profile_id="p2"),
        play_id="x1",
        idempotency_key="k",
        attempt="1",
        trace_id="0" * 32,
        pin_checked=False,
    )


def acquire(device: str = "tv", account: str = "a1", **changes: Any) -> AcquireRequest:
    asked = {
        "account_id": account,
        "profile_id": "p1",
        "device_id": device,
        "title_id": "heat-1995",
        "play_id": f"{account}-{device}",
        "max_streams": 2,
        "idempotency_key": "k",
    }
    return AcquireRequest(**{**asked, **changes})


def manifest_request(**changes: Any) -> ManifestRequest:
    asked = {
        "play_id": "x1",
        "session_id": "s1",
        "account_id": "a1",
        "title_id": "heat-1995",
        "duration_ms": 10_000_000,
        "max_height": 1080,
        "max_kbps": 8_000,
        "protected": True,
    }
    return ManifestRequest(**{**asked, **changes})


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def fallbacks(clock: ManualClock) -> Fallbacks:
    return Fallbacks(clock)


# --- what a service last said


def test_a_decision_stands_in_until_it_ends(fallbacks: Fallbacks, clock: ManualClock) -> None:
    decision = RightsDecision(allowed=True, valid_until=clock.now() + 60)
    fallbacks.keep("rights", RIGHTS, decision)
    clock.tick(59)
    assert fallbacks.stand_in("rights", play(), RIGHTS) == (decision, "cached")
    clock.tick(1)
    assert fallbacks.stand_in("rights", play(), RIGHTS) is None


@pytest.mark.parametrize("changes", [{"country": "FR"}, {"plan": "basic"}, {"title_id": "ronin"}])
def test_a_decision_never_answers_another_question(
    fallbacks: Fallbacks, clock: ManualClock, changes: dict[str, Any]
) -> None:
    fallbacks.keep("rights", RIGHTS, RightsDecision(allowed=True, valid_until=clock.now() + 60))
    other = msgspec.structs.replace(RIGHTS, **changes)
    assert fallbacks.stand_in("rights", play(), other) is None


def test_an_entitlement_stands_in_until_it_expires(
    fallbacks: Fallbacks, clock: ManualClock
) -> None:
    limits = Limits(streams=2, max_height=1080, max_kbps=8_000, hdr=False)
    kept = Entitlement(
        account_id="a1",
        plan="basic",
        status="active",
        country="US",
        limits=limits,
        expires_at=clock.now() + 10,
    )
    query = EntitlementQuery(account_id="a1")
    fallbacks.keep("membership", query, kept)
    assert fallbacks.stand_in("membership", play(), query) == (kept, "cached")
    assert fallbacks.stand_in("membership", play(), EntitlementQuery(account_id="a2")) is None
    clock.tick(10)
    assert fallbacks.stand_in("membership", play(), query) is None


def test_a_manifest_stands_in_only_while_its_signature_outlasts_the_film(
    fallbacks: Fallbacks, clock: ManualClock
) -> None:
    kept = Manifest(
        hls="/m.m3u8",
        dash="/m.mpd",
        steering_url=None,
        signed_until=clock.now() + 10_100,
        max_height=1080,
        max_kbps=8_000,
    )
    request = manifest_request()
    fallbacks.keep("manifest", request, kept)
    another_play = manifest_request(play_id="x2", session_id="s2")
    assert fallbacks.stand_in("manifest", play(), another_play) == (kept, "cached")
    for changes in ({"account_id": "a2"}, {"max_height": 720}, {"hdr": ("hdr10",)}):
        assert fallbacks.stand_in("manifest", play(), manifest_request(**changes)) is None
    clock.tick(100)
    assert fallbacks.stand_in("manifest", play(), request) is None


def test_a_suggestion_stands_in_for_others_of_the_country_but_never_suggests_the_title_itself(
    fallbacks: Fallbacks,
) -> None:
    kept = UpNext(suggestion=Suggestion(title_id="ronin-1998", name="Ronin"))
    query = UpNextQuery(profile_id="p1", title_id="heat-1995", country="US")
    fallbacks.keep("recommendations", query, kept)
    other = msgspec.structs.replace(query, profile_id="p9", title_id="casino-1995")
    assert fallbacks.stand_in("recommendations", play(), other) == (kept, "last_suggested")
    for changes in ({"title_id": "ronin-1998"}, {"country": "FR"}, {"maturity": Maturity.KIDS}):
        query_ = msgspec.structs.replace(query, **changes)
        assert fallbacks.stand_in("recommendations", play(), query_) == (UpNext(), "omitted")


def test_of_each_step_what_was_unused_for_longest_makes_room(clock: ManualClock) -> None:
    fallbacks, limit = Fallbacks(clock), MEMORIES["recommendations"].limit
    kept = UpNext(suggestion=Suggestion(title_id="ronin-1998", name="Ronin"))

    def query(number: int) -> UpNextQuery:
        return UpNextQuery(profile_id="p1", title_id="heat-1995", country=str(number))

    for number in range(limit):
        fallbacks.keep("recommendations", query(number), kept)
    fallbacks.stand_in("recommendations", play(), query(0))
    fallbacks.keep("recommendations", query(limit), kept)
    said = [fallbacks.stand_in("recommendations", play(), query(n)) for n in (0, 1, 2, limit)]
    assert [one[1] for one in said if one] == [
        "last_suggested",
        "omitted",
        "last_suggested",
        "last_suggested",
    ]


# --- what claims nothing


def test_an_unknown_profile_is_a_childs_unless_the_passport_vouches_for_it(
    fallbacks: Fallbacks,
) -> None:
    stranger = fallbacks.stand_in("profiles", play(), None)
    assert stranger is not None and stranger[1] == "children_only"
    assert stranger[0].maturity == Maturity.LITTLE_KIDS


@pytest.mark.parametrize(("start_at", "said"), [(None, "beginning"), (0, "client_position")])
def test_without_bookmarks_the_players_own_position_is_taken(
    fallbacks: Fallbacks, start_at: int | None, said: str
) -> None:
    answer = fallbacks.stand_in("bookmarks", play(start_at=start_at), None)
    assert answer == (Bookmark(found=False), said)


def test_steering_falls_back_to_the_fixed_order(fallbacks: Fallbacks) -> None:
    assert fallbacks.stand_in("steering", play(), None) == (STATIC_RANKING, "static_order")


@pytest.mark.parametrize("step", PLAN, ids=lambda step: step.name)
def test_only_a_critical_step_may_be_without_a_stand_in(fallbacks: Fallbacks, step: Any) -> None:
    questions = {
        "membership": EntitlementQuery(account_id="a1"),
        "rights": RIGHTS,
        "manifest": manifest_request(),
        "sessions": acquire(),
        "recommendations": UpNextQuery(profile_id="p", title_id="t", country="US"),
    }
    answer = fallbacks.stand_in(step.name, play(), questions.get(step.name))
    assert (answer is None) == (step.criticality is Criticality.CRITICAL)


# --- provisional leases


@pytest.fixture
def leases(clock: ManualClock) -> ProvisionalLeases:
    return ProvisionalLeases(clock, limit=3)


def granted(leases: ProvisionalLeases, *devices: str, **changes: Any) -> list[bool]:
    return [leases.grant(acquire(device, **changes)) is not None for device in devices]


def test_a_provisional_lease_is_short_and_says_what_it_is(
    leases: ProvisionalLeases, clock: ManualClock
) -> None:
    lease = leases.grant(acquire())
    assert lease is not None and lease.provisional
    assert lease.expires_at == clock.now() + PROVISIONAL_TTL_S
    assert lease.heartbeat_s < lease.lease_ttl_s


def test_an_account_has_no_more_than_its_plan_allows(leases: ProvisionalLeases) -> None:
    assert granted(leases, "tv", "phone", "tablet") == [True, True, False]
    assert leases.refused == 1


def test_a_device_has_one_lease_however_often_it_plays(leases: ProvisionalLeases) -> None:
    assert granted(leases, "tv", "tv", "tv", "phone") == [True] * 4
    assert len(leases) == 2
    assert {one.device_id for one in leases.untold()} == {"tv", "phone"}


def test_only_a_devices_last_lease_is_told_to_sessions(leases: ProvisionalLeases) -> None:
    leases.grant(acquire(play_id="first"))
    leases.grant(acquire(play_id="second"))
    assert [one.session_id for one in leases.untold()] == ["prov-second"]


def test_all_accounts_together_are_bounded(leases: ProvisionalLeases) -> None:
    accounts = [leases.grant(acquire(account=f"a{number}")) for number in range(5)]
    assert [one is not None for one in accounts] == [True] * 3 + [False] * 2


def test_at_the_bound_a_device_may_still_play_something_else(leases: ProvisionalLeases) -> None:
    for number in range(3):
        leases.grant(acquire(account=f"a{number}"))
    assert leases.grant(acquire(account="a0", play_id="next")) is not None


def test_what_has_expired_makes_room_and_needs_no_telling(
    leases: ProvisionalLeases, clock: ManualClock
) -> None:
    assert granted(leases, "tv", "phone", "tablet") == [True, True, False]
    clock.tick(PROVISIONAL_TTL_S)
    assert leases.untold() == ()
    assert granted(leases, "tablet") == [True]


def test_a_play_that_did_not_happen_gives_its_lease_back(leases: ProvisionalLeases) -> None:
    lease = leases.grant(acquire())
    assert lease is not None
    leases.withdraw(lease)
    assert len(leases) == 0 and leases.untold() == ()


@pytest.mark.parametrize("later", ["same play", "another"])
def test_giving_back_late_does_not_take_a_later_lease_away(
    leases: ProvisionalLeases, later: str
) -> None:
    first = leases.grant(acquire(play_id="same play"))
    second = leases.grant(acquire(play_id=later))
    assert first is not None and second is not None
    leases.withdraw(first)
    assert len(leases) == 1 and leases.untold() == (second,)


def test_what_was_told_is_not_told_again_but_still_counts(leases: ProvisionalLeases) -> None:
    granted(leases, "tv", "phone")
    leases.told(leases.untold())
    assert leases.untold() == ()
    assert granted(leases, "tablet") == [False]


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["grant", "withdraw", "tick", "tell"]),
        st.sampled_from(["a1", "a2", "a3"]),
        st.sampled_from(["tv", "phone", "tablet"]),
    ),
    max_size=60,
)


@given(STEPS)
def test_whatever_happens_the_bounds_hold(steps: list[tuple[str, str, str]]) -> None:
    clock = ManualClock()
    leases = ProvisionalLeases(clock, limit=4)
    held: dict[tuple[str, str], Lease] = {}
    for number, (kind, account, device) in enumerate(steps):
        key = (account, device)
        if kind == "grant":
            lease = leases.grant(acquire(device, account, play_id=str(number)))
            held.update({key: lease} if lease is not None else {})
        elif kind == "withdraw" and key in held:
            leases.withdraw(held.pop(key))
        elif kind == "tick":
            clock.tick(7)
        else:
            leases.told(leases.untold()[:1])
        live = {k: one for k, one in held.items() if one.expires_at > clock.now()}
        assert len(live) <= 4
        assert all(count <= 2 for count in Counter(k[0] for k in live).values())
        assert set(leases.untold()) <= set(live.values())
