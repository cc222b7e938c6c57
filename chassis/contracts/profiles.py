"""profiles and experiments."""

from __future__ import annotations

from chassis.contracts.common import Maturity
from chassis.contracts.wire import Call, Wire


class Profile(Wire, frozen=True):
    profile_id: str
    account_id: str
    name: str
    maturity: Maturity = Maturity.ADULTS
    has_pin: bool = False
    language: str = "en"
    captions: str | None = None
    autoplay: bool = True


class ProfileQuery(Wire, frozen=True):
    account_id: str
    profile_id: str


class NewProfile(Wire, frozen=True):
    """`profile_id` may be given by a caller that repeats itself (sign-up)."""

    account_id: str
    name: str
    profile_id: str | None = None
    maturity: Maturity = Maturity.ADULTS
    language: str = "en"
    captions: str | None = None
    autoplay: bool = True
    pin: str | None = None


class PinToken(Wire, frozen=True):
    """What a `pin_token` seals (purpose `pin`): the PIN of this profile was checked."""

    account_id: str
    profile_id: str


PROFILE = Call("profiles", "get", ProfileQuery, Profile)
CREATE_PROFILE = Call("profiles", "create", NewProfile, Profile)


class AllocateQuery(Wire, frozen=True):
    account_id: str


class Allocation(Wire, frozen=True):
    """Test name to cell name."""

    cells: dict[str, str] = {}


ALLOCATE = Call("experiments", "allocate", AllocateQuery, Allocation)
