"""The profiles of an account: names, maturity, and the PINs that guard them.

All profiles of an account are one value, so that "five at most" and "no two alike" are decided by
one compare-and-set. `proof` is the profile whose PIN the caller has just been checked for.
"""

from __future__ import annotations

import re
import unicodedata
from typing import ClassVar, TypeVar

import msgspec
from msgspec import UNSET
from msgspec.structs import replace

from chassis.contracts.common import Maturity
from chassis.contracts.keys import Key
from chassis.contracts.profiles import Profile, ProfileChange
from chassis.errors import BadRequest, Conflict, Forbidden, NotFound, RateLimited

T = TypeVar("T")

MAXIMUM_PROFILES = 5
PIN_TRIES = 5
PIN_LOCK_S = 900.0

_MAXIMUM_NAME = 30
_MAXIMUM_ID = 64
_PIN = re.compile(r"[0-9]{4}\Z")
_LANGUAGE = re.compile(r"[A-Za-z]{2,3}(-[A-Za-z0-9]{1,8}){0,3}\Z")
_ID = re.compile(r"[A-Za-z0-9_-]+\Z")


class StoredProfile(msgspec.Struct, frozen=True):
    """`tries` counts PINs entered since the last right one; at `PIN_TRIES` it is locked."""

    profile_id: str
    name: str
    maturity: Maturity = Maturity.ADULTS
    language: str = "en"
    captions: str | None = None
    autoplay: bool = True
    pin_hash: str | None = None
    tries: int = 0
    locked_until: float = 0.0


Group = tuple[StoredProfile, ...]
"""All profiles of one account, in the order of their making."""


class AccountProfiles(msgspec.Struct, frozen=True):
    key: ClassVar[Key] = Key("account_profiles", ("account_id",))

    account_id: str
    profiles: Group


def find(group: Group, profile_id: str) -> StoredProfile:
    for profile in group:
        if profile.profile_id == profile_id:
            return profile
    raise NotFound("this account has no such profile", code="profile_unknown")


def shown(account_id: str, profile: StoredProfile) -> Profile:
    """What others may see: never the PIN's hash."""
    return Profile(
        profile_id=profile.profile_id,
        account_id=account_id,
        name=profile.name,
        maturity=profile.maturity,
        has_pin=profile.pin_hash is not None,
        language=profile.language,
        captions=profile.captions,
        autoplay=profile.autoplay,
    )


def checked(profile: StoredProfile) -> StoredProfile:
    """The profile with its name trimmed; `BadRequest` says what is wrong with it."""
    if not 0 < len(profile.profile_id) <= _MAXIMUM_ID or not _ID.match(profile.profile_id):
        raise BadRequest(f"profile_id needs 1 to {_MAXIMUM_ID} letters, digits, - or _")
    for what, tag in (("language", profile.language), ("captions", profile.captions)):
        if tag is not None and not _LANGUAGE.match(tag):
            raise BadRequest(f"{what} must be a language tag such as en or pt-BR")
    return replace(profile, name=_clean_name(profile.name))


def with_pin(profile: StoredProfile, pin_hash: str | None) -> StoredProfile:
    """With another PIN, or none; tries begin anew."""
    return replace(profile, pin_hash=pin_hash, tries=0, locked_until=0.0)


def check_pin(pin: str) -> str:
    if not _PIN.match(pin):
        raise BadRequest("a PIN is 4 digits", code="pin_invalid")
    return pin


def create(group: Group, profile: StoredProfile) -> tuple[Group, StoredProfile]:
    """Adds a checked profile. One that is there by this id already is answered as it is."""
    for known in group:
        if known.profile_id == profile.profile_id:
            return group, known
    if len(group) >= MAXIMUM_PROFILES:
        raise Conflict(
            f"an account has at most {MAXIMUM_PROFILES} profiles; delete one first",
            code="too_many_profiles",
        )
    _check_unique(group, profile)
    return (*group, profile), profile


def change(
    group: Group,
    profile_id: str,
    asked: ProfileChange,
    pin_hash: str | None,
    proof: str | None,
) -> tuple[Group, StoredProfile]:
    """What `asked` sets; `pin_hash` is that of its new PIN."""
    old = find(group, profile_id)
    new = checked(
        replace(
            old,
            name=_set(asked.name, old.name),
            maturity=_set(asked.maturity, old.maturity),
            language=_set(asked.language, old.language),
            captions=_set(asked.captions, old.captions),
            autoplay=_set(asked.autoplay, old.autoplay),
        )
    )
    if asked.pin is not UNSET:
        _check_own(old, proof, "changing its PIN")
        new = with_pin(new, pin_hash)
    if new.maturity > old.maturity:
        check_level(group, new.maturity, proof, own=old)
    others = tuple(one for one in group if one is not old)
    _check_unique(others, new)
    return tuple(new if one is old else one for one in group), new


def remove(group: Group, profile_id: str, proof: str | None) -> tuple[Group, None]:
    gone = find(group, profile_id)
    _check_own(gone, proof, "deleting it")
    if len(group) == 1:
        raise Conflict("an account keeps at least one profile", code="last_profile")
    return tuple(one for one in group if one is not gone), None


def check_level(
    group: Group, level: Maturity, proof: str | None, *, own: StoredProfile | None = None
) -> None:
    """`Forbidden` unless `proof` allows to open `level` in another way than those that exist.

    Where each profile of that level or above has a PIN, one of these PINs is needed: otherwise a
    child could make itself a grown-up profile. Where not, and for what is fit for children, the
    profile's own PIN, if it has one.
    """
    above = [profile for profile in group if profile.maturity >= level]
    guarded = above and all(profile.pin_hash is not None for profile in above)
    if guarded and level > Maturity.KIDS:
        _check_proof(above, proof, "opening this maturity level")
    elif own is not None:
        _check_own(own, proof, "raising its maturity")


def begin_try(group: Group, profile_id: str, now: float) -> tuple[Group, StoredProfile]:
    """Counts a try before it is made, so that tries made at once are all counted."""
    profile = find(group, profile_id)
    if profile.pin_hash is None:
        raise Conflict("this profile has no PIN", code="no_pin")
    if now < profile.locked_until:
        raise RateLimited(
            f"too many wrong PINs; locked for {PIN_LOCK_S / 60:.0f} minutes",
            code="pin_locked",
            retry_after_s=profile.locked_until - now,
        )
    tries = 1 if profile.tries >= PIN_TRIES else profile.tries + 1
    locked_until = now + PIN_LOCK_S if tries == PIN_TRIES else 0.0
    tried = replace(profile, tries=tries, locked_until=locked_until)
    return tuple(tried if one is profile else one for one in group), tried


def forgive(group: Group, tried: StoredProfile) -> tuple[Group, None]:
    """The PIN was right: earlier tries count no more, unless the PIN has changed meanwhile."""
    return tuple(
        replace(one, tries=0, locked_until=0.0)
        if (one.profile_id, one.pin_hash) == (tried.profile_id, tried.pin_hash)
        else one
        for one in group
    ), None


def wrong_pin(tried: StoredProfile) -> Forbidden:
    left = PIN_TRIES - tried.tries
    return Forbidden(
        f"wrong PIN; {left} of {PIN_TRIES} tries left",
        code="pin_wrong",
        members={"tries_left": left},
    )


def _set(value: T | msgspec.UnsetType, default: T) -> T:
    return default if value is UNSET else value


def _clean_name(name: str) -> str:
    name = " ".join(unicodedata.normalize("NFC", name).split())
    if not 0 < len(name) <= _MAXIMUM_NAME or not name.isprintable():
        raise BadRequest(f"a profile's name has 1 to {_MAXIMUM_NAME} visible characters")
    return name


def _check_unique(others: Group, profile: StoredProfile) -> None:
    if _folded(profile.name) in {_folded(other.name) for other in others}:
        raise Conflict("another profile of this account has this name", code="profile_name_taken")


def _folded(name: str) -> str:
    return unicodedata.normalize("NFKC", name).casefold()


def _check_own(profile: StoredProfile, proof: str | None, doing: str) -> None:
    if profile.pin_hash is not None:
        _check_proof([profile], proof, doing)


def _check_proof(allowed: list[StoredProfile], proof: str | None, doing: str) -> None:
    names = [profile.profile_id for profile in allowed]
    if proof not in names:
        raise Forbidden(
            f"{doing} needs a pin_token: POST /v1/profiles/{{profile_id}}/pin gives one",
            code="pin_required",
            members={"profiles": names},
        )
