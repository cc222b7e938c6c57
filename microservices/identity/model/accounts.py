"""What an account is made of, and what a sign-up may say."""

from __future__ import annotations

import re
import unicodedata
from typing import ClassVar

import msgspec
from msgspec.structs import replace

from chassis.contracts.accounts import SignUp
from chassis.contracts.common import Plan
from chassis.contracts.countries import COUNTRIES
from chassis.contracts.keys import Key
from chassis.errors import BadRequest

MINIMUM_PASSWORD = 8
MAXIMUM_PASSWORD = 128
_MAXIMUM_EMAIL = 254
_MAXIMUM_LOCAL = 64
_MAXIMUM_NAME = 30
_LOCAL = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*\Z")
_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\Z")
_COMMON_PASSWORDS = """
password password1 12345678 123456789 1234567890 qwertyui qwerty123 iloveyou 11111111 00000000
sunshine princess football baseball superman trustno1 passw0rd letmein1 welcome1 starwars
"""


class Credential(msgspec.Struct, frozen=True):
    """Who may sign in with which password."""

    key: ClassVar[Key] = Key("credential", ("email",))

    email: str
    account_id: str
    password_hash: str


class AccountRow(msgspec.Struct, frozen=True):
    """`complete` once membership and profiles know the account too."""

    key: ClassVar[Key] = Key("account", ("account_id",))

    account_id: str
    email: str
    profile_id: str
    profile_name: str
    country: str
    plan: Plan
    created_at: float
    complete: bool = False


def checked(asked: SignUp) -> SignUp:
    """The sign-up in normal form; `BadRequest` lists everything that is wrong with it."""
    email = normal_email(asked.email)
    password = normal_password(asked.password)
    name = " ".join(unicodedata.normalize("NFC", asked.profile_name).split())
    faults = [
        *_email_faults(email),
        *_password_faults(password, email),
        *_other_faults(asked.country, name),
    ]
    if faults:
        raise BadRequest("; ".join(faults), code="sign_up_invalid")
    return replace(asked, email=email, password=password, profile_name=name)


def normal_email(email: str) -> str:
    return unicodedata.normalize("NFC", email).strip().lower()


def normal_password(password: str) -> str:
    """NFKC, as NIST SP 800-63B 3.1.1.2 advises: keyboards differ in how they compose letters."""
    return unicodedata.normalize("NFKC", password)


def of_sign_up(
    asked: SignUp, account_id: str, profile_id: str, known: AccountRow | None, now: float
) -> AccountRow:
    """The account's row. One that is complete stands; a half-done one takes the new values."""
    if known is not None and known.complete:
        return known
    return AccountRow(
        account_id=account_id,
        email=asked.email,
        profile_id=profile_id if known is None else known.profile_id,
        profile_name=asked.profile_name,
        country=asked.country,
        plan=asked.plan,
        created_at=now if known is None else known.created_at,
    )


def _email_faults(email: str) -> list[str]:
    local, _, domain = email.rpartition("@")
    labels = domain.split(".")
    fits = (
        len(email) <= _MAXIMUM_EMAIL
        and len(local) <= _MAXIMUM_LOCAL
        and _LOCAL.match(local)
        and len(labels) >= 2
        and all(map(_LABEL.match, labels))
    )
    return [] if fits else ["email must be an address such as ada@example.com"]


def _password_faults(password: str, email: str) -> list[str]:
    if not MINIMUM_PASSWORD <= len(password) <= MAXIMUM_PASSWORD:
        return [f"password must have {MINIMUM_PASSWORD} to {MAXIMUM_PASSWORD} characters"]
    folded = password.casefold()
    if (
        folded in _COMMON_PASSWORDS.split()
        or len(set(folded)) == 1
        or folded in (email, email.partition("@")[0])
    ):
        return ["password is too easy to guess"]
    return []


def _other_faults(country: str, profile_name: str) -> list[str]:
    faults = []
    if country not in COUNTRIES:
        faults.append("country must be an ISO 3166-1 code: two capital letters, such as US")
    if not 0 < len(profile_name) <= _MAXIMUM_NAME or not profile_name.isprintable():
        faults.append(f"profile_name must have 1 to {_MAXIMUM_NAME} visible characters")
    return faults
