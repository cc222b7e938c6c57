from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from chassis.contracts.common import Maturity
from chassis.contracts.profiles import ProfileChange
from chassis.errors import BadRequest, Conflict, Forbidden, NotFound, RateLimited
from microservices.profiles import model
from microservices.profiles.model import Group, StoredProfile

NOW = 1_700_000_000.0
ADULT = StoredProfile("p-ada", "Ada")
LOCKED = StoredProfile("p-ada", "Ada", pin_hash="hash")
KID = StoredProfile("p-kim", "Kim", Maturity.KIDS)


def change(group: Group, profile_id: str, proof: str | None = None, **values: Any) -> StoredProfile:
    pin = values.get("pin")
    asked = ProfileChange(**values)
    return model.change(group, profile_id, asked, f"hash of {pin}" if pin else None, proof)[1]


def test_a_sixth_profile_is_refused() -> None:
    group: Group = ()
    for number in range(5):
        group, _ = model.create(group, StoredProfile(f"p-{number}", f"Name {number}"))
    with pytest.raises(Conflict) as caught:
        model.create(group, StoredProfile("p-6", "Sixth"))
    assert caught.value.code == "too_many_profiles"
    assert model.create(group, StoredProfile("p-0", "Other"))[1].name == "Name 0"


@pytest.mark.parametrize("name", ["Ada", "ADA", "ａｄａ"])
def test_names_that_read_alike_are_one_name(name: str) -> None:
    with pytest.raises(Conflict) as caught:
        model.create((ADULT,), StoredProfile("p-2", name))
    assert caught.value.code == "profile_name_taken"


def test_a_profile_may_change_the_case_of_its_own_name() -> None:
    assert change((ADULT, KID), "p-ada", name="ADA").name == "ADA"
    with pytest.raises(Conflict):
        change((ADULT, KID), "p-ada", name=" kim ")


def test_names_are_trimmed() -> None:
    assert model.checked(StoredProfile("p-1", "  Grace \t Hopper ")).name == "Grace Hopper"


@pytest.mark.parametrize("name", ["", "   ", "a\x00b", "x" * 31, "\u202eevil", "tab\x07"])
def test_names_that_cannot_be_shown_are_refused(name: str) -> None:
    with pytest.raises(BadRequest):
        model.checked(StoredProfile("p-1", name))


@pytest.mark.parametrize("tag", ["", "english!", "e", "en_US", "en-" + "x" * 9, "en\n"])
def test_a_language_must_be_a_tag(tag: str) -> None:
    with pytest.raises(BadRequest, match="language tag"):
        model.checked(StoredProfile("p-1", "Ada", language=tag))
    with pytest.raises(BadRequest, match="language tag"):
        model.checked(StoredProfile("p-1", "Ada", captions=tag))


@pytest.mark.parametrize("pin", ["", "123", "12345", "12a4", "١٢٣٤", "1234\n"])
def test_a_pin_is_four_digits(pin: str) -> None:
    with pytest.raises(BadRequest):
        model.check_pin(pin)


def test_what_is_left_out_stays_and_null_captions_are_none() -> None:
    group = (replace(ADULT, captions="de", language="de"),)
    changed = change(group, "p-ada", captions=None)
    assert (changed.captions, changed.language, changed.name) == (None, "de", "Ada")


def test_raising_maturity_needs_the_profiles_own_pin() -> None:
    guarded = replace(KID, pin_hash="hash")
    with pytest.raises(Forbidden) as caught:
        change((ADULT, guarded), "p-kim", maturity=Maturity.TEENS)
    assert caught.value.code == "pin_required"
    assert caught.value.members == {"profiles": ["p-kim"]}
    raised = change((ADULT, guarded), "p-kim", "p-kim", maturity=Maturity.TEENS)
    assert raised.maturity == Maturity.TEENS
    assert change((ADULT, guarded), "p-kim", maturity=Maturity.LITTLE_KIDS).maturity == 0


def test_a_child_cannot_get_round_a_grown_ups_pin() -> None:
    group = (LOCKED, replace(KID, pin_hash="kims own"))
    for attempt in (None, "p-kim"):
        with pytest.raises(Forbidden):
            change(group, "p-kim", attempt, maturity=Maturity.ADULTS)
        with pytest.raises(Forbidden):
            model.check_level(group, Maturity.TEENS, attempt)
    assert change(group, "p-kim", "p-ada", maturity=Maturity.ADULTS).maturity == Maturity.ADULTS
    model.check_level(group, Maturity.ADULTS, "p-ada")


def test_what_is_open_anyway_needs_no_pin() -> None:
    model.check_level((LOCKED, StoredProfile("p-3", "Open")), Maturity.ADULTS, None)
    model.check_level((KID,), Maturity.ADULTS, None)
    model.check_level((LOCKED,), Maturity.KIDS, None)


def test_removing_or_changing_a_pin_needs_it_and_setting_the_first_does_not() -> None:
    assert change((ADULT,), "p-ada", pin="1234").pin_hash == "hash of 1234"
    for values in ({"pin": None}, {"pin": "9999"}):
        with pytest.raises(Forbidden):
            change((LOCKED,), "p-ada", **values)
        with pytest.raises(Forbidden):
            change((LOCKED, KID), "p-ada", "p-kim", **values)
    assert change((LOCKED,), "p-ada", "p-ada", pin=None).pin_hash is None


def test_deleting_needs_the_pin_and_keeps_the_last() -> None:
    with pytest.raises(Forbidden):
        model.remove((LOCKED, KID), "p-ada", None)
    assert model.remove((LOCKED, KID), "p-ada", "p-ada")[0] == (KID,)
    with pytest.raises(Conflict) as caught:
        model.remove((KID,), "p-kim", None)
    assert caught.value.code == "last_profile"
    with pytest.raises(NotFound):
        model.remove((KID,), "p-other", None)


def test_five_tries_lock_for_fifteen_minutes() -> None:
    group: Group = (LOCKED,)
    for left in (4, 3, 2, 1, 0):
        group, tried = model.begin_try(group, "p-ada", NOW)
        assert model.wrong_pin(tried).members == {"tries_left": left}
    with pytest.raises(RateLimited) as caught:
        model.begin_try(group, "p-ada", NOW + 899)
    assert (caught.value.code, caught.value.retry_after_s) == ("pin_locked", 1.0)
    group, tried = model.begin_try(group, "p-ada", NOW + 900)
    assert (tried.tries, tried.locked_until) == (1, 0.0)


def test_a_right_pin_forgives_even_the_last_try() -> None:
    group: Group = (LOCKED, KID)
    for _ in range(5):
        group, tried = model.begin_try(group, "p-ada", NOW)
    group, _ = model.forgive(group, tried)
    assert group == (LOCKED, KID)


def test_a_right_pin_that_was_changed_meanwhile_forgives_nothing() -> None:
    group, tried = model.begin_try((LOCKED,), "p-ada", NOW)
    changed = (replace(group[0], pin_hash="new"),)
    assert model.forgive(changed, tried)[0] == changed


def test_a_profile_without_a_pin_has_none_to_try() -> None:
    with pytest.raises(Conflict) as caught:
        model.begin_try((ADULT,), "p-ada", NOW)
    assert caught.value.code == "no_pin"


@given(st.lists(st.tuples(st.booleans(), st.floats(0, 1000)), max_size=40))
def test_never_more_than_five_wrong_pins_within_a_lock(steps: list[tuple[bool, float]]) -> None:
    group: Group = (LOCKED,)
    now, wrong = NOW, 0
    for right, wait in steps:
        now += wait
        try:
            group, tried = model.begin_try(group, "p-ada", now)
        except RateLimited:
            assert wrong == 5
            continue
        if right:
            group, _ = model.forgive(group, tried)
        wrong = 0 if right else wrong % 5 + 1
        assert group[0].tries == wrong
