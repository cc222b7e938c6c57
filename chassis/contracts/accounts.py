"""identity and membership."""

from __future__ import annotations

from typing import Literal

from chassis.contracts.common import Instant, Limits, MemberStatus, Plan
from chassis.contracts.wire import Call, Nothing, Wire


class SignUp(Wire, frozen=True):
    """`POST /v1/accounts`."""

    email: str
    password: str
    country: str
    plan: Plan = "standard"
    profile_name: str = "Me"


class Account(Wire, frozen=True):
    account_id: str
    email: str
    profile_id: str


class TokenRequest(Wire, frozen=True):
    """`POST /v1/token`. A grant says which of the fields it reads.

    password: email, password, device_id, profile_id; refresh_token: refresh_token, profile_id;
    device_code: device_code.
    """

    grant_type: Literal["password", "refresh_token", "device_code"]
    email: str = ""
    password: str = ""
    refresh_token: str = ""
    device_code: str = ""
    device_id: str = ""
    device_type: str = "unknown"
    profile_id: str | None = None


class TokenAnswer(Wire, frozen=True):
    access_token: str
    refresh_token: str
    expires_in: int
    token_type: str = "Bearer"
    account_id: str = ""
    profile_id: str | None = None


class DeviceCodeRequest(Wire, frozen=True):
    """`POST /v1/device_code`: a device without a keyboard asks to be signed in (RFC 8628)."""

    device_id: str = ""
    device_type: str = "unknown"


class DeviceCodeAnswer(Wire, frozen=True):
    """The device shows `user_code` and polls with `device_code` every `interval` seconds."""

    device_code: str
    user_code: str
    verification_uri: str
    verification_uri_complete: str
    expires_in: int
    interval: int


class Activation(Wire, frozen=True):
    """`POST /v1/devices/activate`: a signed-in member lets the device in, or refuses it."""

    user_code: str
    profile_id: str | None = None
    approve: bool = True


class SignedInDevice(Wire, frozen=True):
    """Instants are UNIX seconds; `current` marks the device that asks."""

    device_id: str
    type: str
    signed_in_at: Instant
    last_seen_at: Instant
    current: bool = False


class Devices(Wire, frozen=True):
    devices: tuple[SignedInDevice, ...] = ()


class IntrospectQuery(Wire, frozen=True):
    token: str


class Introspection(Wire, frozen=True):
    active: bool
    account_id: str | None = None
    device_id: str | None = None
    expires_at: int | None = None


INTROSPECT = Call("identity", "introspect", IntrospectQuery, Introspection)


class Enrolment(Wire, frozen=True):
    account_id: str
    plan: Plan
    country: str


class Entitlement(Wire, frozen=True):
    """What an account may do, until `expires_at` (UNIX seconds)."""

    account_id: str
    plan: Plan
    status: MemberStatus
    country: str
    limits: Limits
    expires_at: Instant


class Membership(Wire, frozen=True):
    """`GET /v1/membership`. `since` is when the plan or status last changed (UNIX seconds)."""

    plan: Plan
    status: MemberStatus
    country: str
    limits: Limits
    since: Instant
    grace_until: Instant | None = None


class EntitlementQuery(Wire, frozen=True):
    account_id: str


class SignedEntitlement(Wire, frozen=True):
    """`snapshot` opens as an `Entitlement` under the seal's purpose `entitlement`."""

    snapshot: str


class MembershipChange(Wire, frozen=True):
    """Admin: set what is given, leave the rest."""

    account_id: str
    plan: Plan | None = None
    status: MemberStatus | None = None
    country: str | None = None


ENTITLEMENT = Call("membership", "entitlement", EntitlementQuery, SignedEntitlement)
ENROL = Call("membership", "enrol", Enrolment, Nothing)
CHANGE_MEMBERSHIP = Call("membership", "change", MembershipChange, Nothing)
