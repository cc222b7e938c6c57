from __future__ import annotations

from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from msgspec.structs import replace

from chassis.contracts.streams import Lease
from chassis.errors import BadRequest, Conflict, Gone, NotFound, Unprocessable
from microservices.sessions import model
from microservices.sessions.model import LeasePolicy, Slots
from tests.support.leases import ask

POLICY = LeasePolicy()
NOW = 1_700_000_000.0


def playing(*devices: str, at: float = NOW) -> Slots:
    slots = Slots()
    for device in devices:
        slots, _ = model.acquire(slots, ask(device, max_streams=9), f"s-{device}", at, POLICY)
    return slots


def told(slots: Slots) -> list[tuple[str, str]]:
    return [(change.session_id, change.what) for change in slots.untold]


def test_a_stream_beyond_the_plan_is_refused_with_the_live_ones_listed() -> None:
    slots = playing("tv", "phone")
    with pytest.raises(Conflict) as caught:
        model.acquire(slots, ask("tablet"), "s3", NOW, POLICY)
    assert caught.value.code == "too_many_streams"
    assert caught.value.members["evict"] == "send `evict` with a session id"
    assert caught.value.members["sessions"][0] == {
        "session_id": "s-tv",
        "device_id": "tv",
        "title_id": "t1",
        "since": NOW,
    }


def test_evicting_makes_room_and_the_evicted_player_hears_why() -> None:
    slots, lease = model.acquire(
        playing("tv", "phone"), ask("tablet", evict="s-tv"), "s3", NOW + 1, POLICY
    )
    assert [one.device_id for one in slots.live(NOW + 1)] == ["phone", "tablet"]
    with pytest.raises(Gone) as caught:
        model.renew(slots, "s-tv", NOW + 2, POLICY)
    assert caught.value.code == "lease_evicted"
    assert told(slots)[-2:] == [("s-tv", "evicted"), (lease.session_id, "acquired")]


def test_evicting_what_is_not_there_evicts_nobody() -> None:
    with pytest.raises(Conflict):
        model.acquire(playing("tv", "phone"), ask("tablet", evict="s-other"), "s3", NOW, POLICY)


def test_the_same_idempotency_key_gets_the_same_lease_and_play() -> None:
    slots, first = model.acquire(Slots(), ask(), "s1", NOW, POLICY)
    again, second = model.acquire(slots, ask(play_id="another"), "s2", NOW + 5, POLICY)
    assert second == first
    assert again == slots


def test_a_key_used_for_another_play_is_refused() -> None:
    slots, _ = model.acquire(Slots(), ask(), "s1", NOW, POLICY)
    with pytest.raises(Unprocessable) as caught:
        model.acquire(slots, ask(title_id="t2"), "s2", NOW, POLICY)
    assert caught.value.code == "idempotency_key_reused"


def test_a_key_whose_lease_has_ended_gets_a_new_one() -> None:
    slots, first = model.acquire(Slots(), ask(), "s1", NOW, POLICY)
    slots, _ = model.release(slots, "s1", NOW + 1, POLICY)
    _, second = model.acquire(slots, ask(), "s2", NOW + 2, POLICY)
    assert (first.session_id, second.session_id) == ("s1", "s2")


def test_calls_without_a_key_are_never_taken_for_each_other() -> None:
    slots, _ = model.acquire(Slots(), ask("tv", idempotency_key=""), "s1", NOW, POLICY)
    _, second = model.acquire(slots, ask("phone", idempotency_key=""), "s2", NOW, POLICY)
    assert second.session_id == "s2"


def test_a_device_plays_one_stream() -> None:
    slots = playing("tv", "phone")
    slots, lease = model.acquire(slots, ask("tv", idempotency_key="new"), "s3", NOW, POLICY)
    assert [one.session_id for one in slots.live(NOW)] == ["s-phone", lease.session_id]
    assert slots.ending("s-tv") == model.Ended("s-tv", "released", NOW)


def test_a_lease_counts_until_its_expiry_and_not_from_then_on() -> None:
    slots = playing("tv", "phone")
    with pytest.raises(Conflict):
        model.acquire(slots, ask("tablet"), "s3", NOW + 59.999, POLICY)
    slots, _ = model.acquire(slots, ask("tablet"), "s3", NOW + 60, POLICY)
    assert [one.device_id for one in slots.live(NOW + 60)] == ["tablet"]
    assert [what for _, what in told(slots)][2:] == ["expired", "expired", "acquired"]
    assert slots.untold[2].at_ms == (NOW + 60) * 1000


def test_renewing_gives_a_full_term_and_too_late_is_gone() -> None:
    slots, renewed = model.renew(playing("tv"), "s-tv", NOW + 59, POLICY)
    assert renewed.expires_at == NOW + 119
    with pytest.raises(Gone) as caught:
        model.renew(slots, "s-tv", NOW + 119, POLICY)
    assert caught.value.code == "lease_expired"
    with pytest.raises(NotFound):
        model.renew(slots, "s-unknown", NOW, POLICY)


def test_releasing_twice_tells_once() -> None:
    slots, first = model.release(playing("tv"), "s-tv", NOW + 1, POLICY)
    again, second = model.release(slots, "s-tv", NOW + 2, POLICY)
    assert (first, second) == (True, True)
    assert again == slots
    assert told(slots) == [("s-tv", "acquired"), ("s-tv", "released")]
    assert model.release(slots, "s-nobodys", NOW, POLICY) == (slots, False)


def provisional(device: str = "tv", **changes: Any) -> Lease:
    values: dict[str, Any] = {
        "session_id": f"prov-{device}",
        "account_id": "a1",
        "profile_id": "p1",
        "device_id": device,
        "title_id": "t1",
        "play_id": "play",
        "lease_ttl_s": 30,
        "heartbeat_s": 10,
        "acquired_at": NOW,
        "expires_at": NOW + 30,
        "provisional": True,
        "max_streams": 2,
    }
    return Lease(**{**values, **changes})


def test_a_repeated_play_is_given_the_lease_that_was_reconciled_for_it() -> None:
    slots, _ = model.reconcile(Slots(), provisional(), NOW, POLICY)
    again = replace(ask("tv"), play_id="play", idempotency_key="once")
    slots, lease = model.acquire(slots, again, "s-new", NOW + 1, POLICY)
    assert lease.session_id == "prov-tv" and len(slots.held) == 1
    other = replace(again, play_id="another", idempotency_key="twice")
    assert model.acquire(slots, other, "s-new", NOW + 1, POLICY)[1].session_id == "s-new"


def test_a_reconciled_lease_counts_and_its_first_renewal_makes_it_regular() -> None:
    slots, _ = model.reconcile(playing("phone"), provisional(), NOW + 1, POLICY)
    with pytest.raises(Conflict):
        model.acquire(slots, ask("tablet"), "s3", NOW + 1, POLICY)
    assert slots.untold[-1].provisional
    _, renewed = model.renew(slots, "prov-tv", NOW + 2, POLICY)
    assert (renewed.provisional, renewed.expires_at) == (False, NOW + 62)


def test_reconciling_twice_changes_nothing() -> None:
    slots, _ = model.reconcile(Slots(), provisional(), NOW, POLICY)
    assert model.reconcile(slots, provisional(), NOW, POLICY)[0] == slots


def test_a_reconciled_lease_beyond_the_plan_is_evicted() -> None:
    slots, _ = model.reconcile(playing("phone", "tablet"), provisional(), NOW + 1, POLICY)
    assert [one.device_id for one in slots.live(NOW + 1)] == ["phone", "tablet"]
    with pytest.raises(Gone) as caught:
        model.renew(slots, "prov-tv", NOW + 2, POLICY)
    assert caught.value.code == "lease_evicted"


def test_a_reconciled_lease_of_a_device_that_has_moved_on_is_released() -> None:
    slots, _ = model.reconcile(playing("tv", at=NOW + 5), provisional(), NOW + 6, POLICY)
    assert [one.session_id for one in slots.live(NOW + 6)] == ["s-tv"]
    assert slots.ending("prov-tv") == model.Ended("prov-tv", "released", NOW + 6)


def test_an_acquire_that_came_through_after_all_makes_way_for_the_lease_that_was_told() -> None:
    slots, _ = model.acquire(Slots(), ask(play_id="play"), "s-late", NOW + 1, POLICY)
    slots, _ = model.reconcile(slots, provisional(acquired_at=NOW), NOW + 2, POLICY)
    assert [one.session_id for one in slots.live(NOW + 2)] == ["prov-tv"]
    assert told(slots)[1:] == [("s-late", "released"), ("prov-tv", "acquired")]


def test_a_play_that_failed_gives_its_lease_back_unless_it_was_asked_for_again() -> None:
    slots, _ = model.acquire(Slots(), ask(attempt="one"), "s1", NOW, POLICY)
    slots, lease = model.acquire(slots, ask(attempt="two"), "s2", NOW + 1, POLICY)
    assert lease.session_id == "s1"
    assert model.give_back(slots, "play-tv", "one", NOW + 2, POLICY)[0] == slots
    slots, _ = model.give_back(slots, "play-tv", "two", NOW + 2, POLICY)
    assert slots.live(NOW + 2) == () and told(slots)[-1] == ("s1", "released")


def test_a_reconciled_lease_that_ran_out_is_told_as_expired() -> None:
    slots, _ = model.reconcile(Slots(), provisional(), NOW + 31, POLICY)
    assert slots.live(NOW + 31) == ()
    slots, _ = model.sweep(slots, NOW + 31, POLICY)
    assert told(slots) == [("prov-tv", "acquired"), ("prov-tv", "expired")]


def test_a_provisional_term_is_never_longer_than_a_regular_one() -> None:
    slots, _ = model.reconcile(Slots(), provisional(expires_at=NOW + 9e9), NOW, POLICY)
    assert slots.held[0].lease.expires_at == NOW + 60


def test_endings_are_forgotten_after_an_hour() -> None:
    slots, _ = model.release(playing("tv"), "s-tv", NOW, POLICY)
    slots = model.without_told(slots, lambda change: True)
    assert model.sweep(slots, NOW + 3599, POLICY)[0] == slots
    assert model.sweep(slots, NOW + 3600, POLICY)[0] == Slots()


@pytest.mark.parametrize(
    ("field", "value"),
    [("device_id", ""), ("account_id", "x" * 201), ("max_streams", 0), ("max_streams", 101)],
)
def test_senseless_requests_are_refused(field: str, value: Any) -> None:
    with pytest.raises(BadRequest, match=field):
        model.check(ask(**{field: value}))


@pytest.mark.parametrize("field", ["session_id", "account_id", "device_id", "play_id"])
def test_a_provisional_lease_of_nobody_is_refused(field: str) -> None:
    model.check_lease(provisional())
    for value in ("", "x" * 201):
        with pytest.raises(BadRequest, match=field):
            model.check_lease(provisional(**{field: value}))


DEVICES = st.sampled_from(["tv", "phone", "tablet", "console", "browser"])


class Streams(RuleBasedStateMachine):
    """One account on a plan of fixed size; any order of everything that can happen to it."""

    MAX = 2

    def __init__(self) -> None:
        super().__init__()
        self.slots = Slots()
        self.now = NOW
        self.made = 0
        self.keys: dict[str, Lease] = {}

    @rule(device=DEVICES, key=st.sampled_from(["", "k1", "k2", "k3"]), evict=st.booleans())
    def acquire(self, device: str, key: str, evict: bool) -> None:
        self.made += 1
        live = self.slots.live(self.now)
        victim = live[0].session_id if evict and live else None
        request = ask(device, idempotency_key=key, max_streams=self.MAX, evict=victim)
        known = self.keys.get(key)
        try:
            after, lease = model.acquire(self.slots, request, f"s{self.made}", self.now, POLICY)
        except Conflict:
            others = {one.device_id for one in live} - {device}
            assert len(others) == self.MAX
            assert victim is None
            return
        except Unprocessable:
            assert known is not None
            return
        if known is not None and known.session_id in {one.session_id for one in live}:
            assert lease.session_id == known.session_id
        self.slots = after
        if key:
            self.keys[key] = lease

    @rule(session=st.integers(1, 30))
    def renew(self, session: int) -> None:
        live = {one.session_id for one in self.slots.live(self.now)}
        try:
            self.slots, lease = model.renew(self.slots, f"s{session}", self.now, POLICY)
        except (Gone, NotFound):
            assert f"s{session}" not in live
        else:
            assert lease.session_id in live

    @rule(session=st.integers(1, 30))
    def release(self, session: int) -> None:
        self.slots, _ = model.release(self.slots, f"s{session}", self.now, POLICY)
        assert self.slots.find(f"s{session}") is None

    @rule(device=DEVICES, attempt=st.sampled_from(["", "other"]))
    def give_back(self, device: str, attempt: str) -> None:
        before = self.slots
        self.slots, _ = model.give_back(before, f"play-{device}", attempt, self.now, POLICY)
        if attempt:
            assert self.slots.live(self.now) == before.live(self.now)

    @rule(device=DEVICES)
    def reconcile(self, device: str) -> None:
        self.made += 1
        lease = provisional(
            device,
            session_id=f"s{self.made}",
            acquired_at=self.now,
            expires_at=self.now + 30,
            max_streams=self.MAX,
        )
        self.slots, _ = model.reconcile(self.slots, lease, self.now, POLICY)

    @rule(seconds=st.sampled_from([0.5, 10, 30, 60, 4000]))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule()
    def sweep(self) -> None:
        self.slots, _ = model.sweep(self.slots, self.now, POLICY)
        assert len(self.slots.held) == len(self.slots.live(self.now))

    @rule()
    def tell(self) -> None:
        self.slots = model.without_told(self.slots, lambda change: True)

    @invariant()
    def never_more_streams_than_the_plan_allows(self) -> None:
        assert len(self.slots.live(self.now)) <= self.MAX

    @invariant()
    def a_device_plays_one_stream(self) -> None:
        devices = [one.device_id for one in self.slots.live(self.now)]
        assert len(devices) == len(set(devices))

    @invariant()
    def what_has_ended_is_not_held(self) -> None:
        assert not {one.session_id for one in self.slots.ended} & {
            held.lease.session_id for held in self.slots.held
        }

    @invariant()
    def memory_is_bounded(self) -> None:
        assert len(self.slots.ended) <= POLICY.remember
        assert len(self.slots.untold) <= POLICY.untold


TestStreams = Streams.TestCase
TestStreams.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
