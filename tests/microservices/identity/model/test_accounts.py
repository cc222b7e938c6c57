from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from chassis.contracts.accounts import SignUp
from chassis.errors import BadRequest
from microservices.identity.model import accounts

NOW = 1_700_000_000.0
ADA = SignUp(email="ada@example.com", password="correct horse", country="GB")


def checked(**values: Any) -> SignUp:
    return accounts.checked(replace(ADA, **values))


def test_a_sign_up_comes_out_in_normal_form() -> None:
    asked = checked(email="  Ada@Example.COM ", password="ｐａｓｓ-wörd!", profile_name="  Ada  L ")
    assert (asked.email, asked.profile_name) == ("ada@example.com", "Ada L")
    assert asked.password == "pass-wörd!"


@pytest.mark.parametrize(
    "email",
    [
        *["", "ada", "ada@", "@example.com", "a da@example.com", "ada@example", "ada@-x.com"],
        *["ada@example..com", "a@b@example.com.", ".ada@example.com", "ada\x00@example.com"],
        *["ada@example.com\n.evil", "x" * 65 + "@example.com", "a@" + "x." * 130 + "com"],
    ],
)
def test_what_is_no_address_is_refused(email: str) -> None:
    with pytest.raises(BadRequest, match="email must be"):
        checked(email=email)


@pytest.mark.parametrize("email", ["a+b@example.co.uk", "o'brien@ex-ample.org", "1@2.de"])
def test_usual_addresses_are_taken(email: str) -> None:
    assert checked(email=email).email == email


@pytest.mark.parametrize(
    "password", ["", "short", "x" * 129, "password", "AAAAAAAAAA", "ADA@example.com", "Passw0rd"]
)
def test_passwords_that_are_guessed_first_are_refused(password: str) -> None:
    with pytest.raises(BadRequest, match="password"):
        checked(password=password)


def test_every_fault_is_told_at_once_and_the_password_never() -> None:
    with pytest.raises(BadRequest) as caught:
        accounts.checked(SignUp(email="x", password="hush", country="Oz", profile_name="\x07"))
    detail = caught.value.detail
    assert all(word in detail for word in ("email", "password", "country", "profile_name"))
    assert "hush" not in detail
    assert caught.value.code == "sign_up_invalid"


@given(st.builds(SignUp, email=st.text(), password=st.text(), country=st.text()))
def test_any_sign_up_is_either_normal_or_a_bad_request(asked: SignUp) -> None:
    try:
        normal = accounts.checked(asked)
    except BadRequest:
        return
    assert accounts.checked(normal) == normal


def test_a_complete_account_stands_and_a_half_done_one_takes_the_new_values() -> None:
    first = accounts.of_sign_up(ADA, "a-1", "p-1", None, NOW)
    later = replace(ADA, plan="premium", country="US")
    again = accounts.of_sign_up(later, "a-1", "p-2", first, NOW + 5)
    assert (again.plan, again.country) == ("premium", "US")
    assert (again.profile_id, again.created_at) == ("p-1", NOW)
    done = replace(first, complete=True)
    assert accounts.of_sign_up(later, "a-1", "p-2", done, NOW + 5) is done
