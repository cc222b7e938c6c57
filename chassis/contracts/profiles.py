"""profiles and experiments."""

from __future__ import annotations

import msgspec

from chassis.contracts.common import Instant, Maturity
from chassis.contracts.wire import Call, Nothing, Wire


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


class Profiles(Wire, frozen=True):
    """`GET /v1/profiles`."""

    profiles: tuple[Profile, ...] = ()


class ProfileDraft(Wire, frozen=True):
    """`POST /v1/profiles`. `pin_token` is needed where the account's PINs guard the maturity."""

    name: str
    maturity: Maturity = Maturity.ADULTS
    language: str = "en"
    captions: str | None = None
    autoplay: bool = True
    pin: str | None = None
    pin_token: str | None = None


class ProfileChange(Wire, frozen=True):
    """`PATCH /v1/profiles/{profile_id}`: what is left out stays; null `pin` removes the PIN.

    `pin_token` is needed to raise the maturity and to change or remove a PIN.
    """

    name: str | msgspec.UnsetType = msgspec.UNSET
    maturity: Maturity | msgspec.UnsetType = msgspec.UNSET
    language: str | msgspec.UnsetType = msgspec.UNSET
    captions: str | msgspec.UnsetType | None = msgspec.UNSET
    autoplay: bool | msgspec.UnsetType = msgspec.UNSET
    pin: str | msgspec.UnsetType | None = msgspec.UNSET
    pin_token: str | None = None


class PinEntry(Wire, frozen=True):
    """`POST /v1/profiles/{profile_id}/pin`."""

    pin: str


class PinGrant(Wire, frozen=True):
    """The PIN was right; `pin_token` says so until `expires_at` (UNIX seconds)."""

    pin_token: str
    expires_at: Instant


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


class Cell(Wire, frozen=True):
    """One side of a test; it gets `weight` parts of all accounts."""

    name: str
    weight: int = 1


class NewTest(Wire, frozen=True):
    """Starts a test. The first cell is the control; `salt` defaults to a random one."""

    name: str
    cells: tuple[Cell, ...]
    salt: str | None = None


class EndTest(Wire, frozen=True):
    """Ends a test: all accounts get the cell `winner` from now on, or none any more."""

    name: str
    winner: str | None = None


class KnownTest(Wire, frozen=True):
    """A test as it stands. Instants are UNIX seconds."""

    name: str
    salt: str
    cells: tuple[Cell, ...]
    started_at: Instant
    ended_at: Instant | None = None
    winner: str | None = None


class KnownTests(Wire, frozen=True):
    """All tests, also those that have ended."""

    tests: tuple[KnownTest, ...] = ()


CREATE_TEST = Call("experiments", "create_test", NewTest, KnownTest)
END_TEST = Call("experiments", "end_test", EndTest, KnownTest)
LIST_TESTS = Call("experiments", "list_tests", Nothing, KnownTests)
