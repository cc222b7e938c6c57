from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from joserfc import jws

from chassis.clock import ManualClock
from chassis.contracts.accounts import INTROSPECT, Enrolment, Introspection, IntrospectQuery
from chassis.contracts.common import Maturity
from chassis.contracts.profiles import NewProfile, Profile, ProfileQuery
from chassis.contracts.wire import Nothing
from chassis.errors import NoInstances, PeerRefusal
from chassis.http.api import Context
from chassis.identity import Claims, Jwks, Passport, TokenPolicy, TokenVerifier
from chassis.identity.passwords import HashCost
from microservices.identity.app import build
from microservices.identity.model.keys import PERIOD_S
from tests.support.services import InProcess, in_process

CHEAP = HashCost(passes=1, memory_kib=8)
PASSWORD = "correct horse battery"
ADA = {"email": "ada@example.com", "password": PASSWORD, "country": "GB", "plan": "premium"}
POLICY = TokenPolicy(issuer="https://stagedoor.local", audience="stagedoor")


class Others:
    """membership and profiles as identity sees them; either can be away."""

    def __init__(self) -> None:
        self.enrolled: list[Enrolment] = []
        self.profiles: dict[str, Profile] = {}
        self.membership_away = self.profiles_away = False

    async def enrol(self, asked: Enrolment, context: Context) -> Nothing:
        if self.membership_away:
            raise NoInstances("no instance of membership is registered")
        self.enrolled.append(asked)
        return Nothing()

    async def create_profile(self, asked: NewProfile, context: Context) -> Profile:
        if self.profiles_away:
            raise NoInstances("no instance of profiles is registered")
        assert asked.profile_id is not None
        made = Profile(profile_id=asked.profile_id, account_id=asked.account_id, name=asked.name)
        return self.profiles.setdefault(asked.profile_id, made)

    async def profile(self, asked: ProfileQuery, context: Context) -> Profile:
        if self.profiles_away:
            raise NoInstances("no instance of profiles is registered")
        found = self.profiles.get(asked.profile_id)
        if found is None or found.account_id != asked.account_id:
            raise PeerRefusal(404, "profile_unknown", "this account has no such profile")
        return found


class Identity:
    """The service, with what its clients do most."""

    def __init__(self, client: InProcess, others: Others) -> None:
        self.client = client
        self.others = others
        self.jwks = Jwks(self._document, client.chassis.clock)

    async def _document(self) -> bytes:
        return (await self.client.http.get("/.well-known/jwks.json")).content

    async def post(self, path: str, body: Any, **headers: str) -> Any:
        return await self.client.rest("POST", path, body, passport=None, headers=headers)

    async def token(self, **body: Any) -> Any:
        return await self.post("/v1/token", body)

    async def sign_in(self, device: str = "tv", **body: Any) -> dict[str, Any]:
        answer = await self.token(
            grant_type="password",
            email="ada@example.com",
            password=PASSWORD,
            device_id=device,
            device_type="tv",
            **body,
        )
        assert answer.status_code == 200, answer.text
        granted: dict[str, Any] = answer.json()
        return granted

    async def refresh(self, token: str, **body: Any) -> Any:
        return await self.token(grant_type="refresh_token", refresh_token=token, **body)

    async def claims(self, granted: dict[str, Any]) -> Claims:
        verifier = TokenVerifier(POLICY, self.jwks, self.client.chassis.clock)
        return await verifier.verify(granted["access_token"].encode())

    async def introspect(self, granted: dict[str, Any]) -> Introspection:
        return await self.client.call(INTROSPECT, IntrospectQuery(token=granted["access_token"]))


@asynccontextmanager
async def identity(
    home: Path, clock: ManualClock | None = None, others: Others | None = None
) -> AsyncIterator[Identity]:
    others = others or Others()
    async with in_process(
        "identity",
        build,
        home,
        clock=clock or ManualClock(),
        cost=CHEAP,
        enrol=others.enrol,
        create_profile=others.create_profile,
        profile=others.profile,
    ) as client:
        yield Identity(client, others)


@asynccontextmanager
async def signed_up(home: Path, clock: ManualClock | None = None) -> AsyncIterator[Identity]:
    async with identity(home, clock) as service:
        answer = await service.post("/v1/accounts", ADA)
        assert answer.status_code == 201, answer.text
        yield service


async def test_a_sign_up_makes_account_membership_and_profile(tmp_path: Path) -> None:
    async with identity(tmp_path) as service:
        answer = await service.post("/v1/accounts", {**ADA, "profile_name": "Ada"})
        made = answer.json()
        assert (answer.status_code, made["email"]) == (201, "ada@example.com")
        enrolled = Enrolment(account_id=made["account_id"], plan="premium", country="GB")
        assert service.others.enrolled == [enrolled]
        assert service.others.profiles[made["profile_id"]].name == "Ada"


async def test_a_repeated_sign_up_answers_the_same_and_asks_nobody(tmp_path: Path) -> None:
    async with identity(tmp_path) as service:
        first = await service.post("/v1/accounts", ADA)
        again = await service.post("/v1/accounts", {**ADA, "email": " ADA@example.com"})
        assert again.json() == first.json()
        assert len(service.others.enrolled) == 1


@pytest.mark.parametrize("away", ["membership", "profiles"])
async def test_a_sign_up_that_stuck_half_way_is_finished_by_repeating_it(
    tmp_path: Path, away: str
) -> None:
    others = Others()
    async with identity(tmp_path, others=others) as service:
        setattr(others, f"{away}_away", True)
        stuck = await service.post("/v1/accounts", ADA)
        assert (stuck.status_code, stuck.json()["step"]) == (503, away)
    async with identity(tmp_path, others=others) as service:
        setattr(others, f"{away}_away", False)
        done = await service.post("/v1/accounts", ADA)
        assert done.status_code == 201
        assert list(others.profiles) == [done.json()["profile_id"]]


async def test_signing_in_finishes_a_half_done_sign_up_too(tmp_path: Path) -> None:
    others = Others()
    async with identity(tmp_path, others=others) as service:
        others.membership_away = True
        await service.post("/v1/accounts", ADA)
        others.membership_away = False
        await service.sign_in()
        assert len(others.enrolled) == 1


async def test_the_same_sign_up_many_times_at_once_is_one_account(tmp_path: Path) -> None:
    async with identity(tmp_path) as service:
        answers = await asyncio.gather(*(service.post("/v1/accounts", ADA) for _ in range(8)))
        assert {one.status_code for one in answers} == {201}
        assert len({one.text for one in answers}) == 1


async def test_a_taken_address_with_another_password_is_409(tmp_path: Path) -> None:
    async with signed_up(tmp_path) as service:
        taken = await service.post("/v1/accounts", {**ADA, "password": "another horse"})
        assert (taken.status_code, taken.json()["code"]) == (409, "account_exists")


@pytest.mark.parametrize(
    "changes",
    [{"email": "x"}, {"password": "x"}, {"country": "xx"}, {"plan": "gold"}, {"email": None}],
)
async def test_a_senseless_sign_up_is_400_and_leaves_nothing(
    tmp_path: Path, changes: dict[str, Any]
) -> None:
    async with identity(tmp_path) as service:
        answer = await service.post("/v1/accounts", {**ADA, **changes})
        assert answer.status_code == 400
        assert service.others.enrolled == []


async def test_a_token_says_who_where_and_on_which_device(tmp_path: Path) -> None:
    clock = ManualClock()
    async with signed_up(tmp_path, clock) as service:
        granted = await service.sign_in()
        claims = (await service.claims(granted)).values
        assert claims["sub"] == granted["account_id"]
        assert (claims["country"], claims["plan"], claims["amr"]) == ("GB", "premium", "password")
        assert (claims["device_id"], claims["scope"]) == ("tv", "member")
        assert claims["exp"] - claims["iat"] == granted["expires_in"] == 900
        assert not {"profile_id", "maturity"} & claims.keys()


async def test_a_profile_given_at_sign_in_is_in_the_token_and_stays_there(tmp_path: Path) -> None:
    async with signed_up(tmp_path) as service:
        (profile_id,) = service.others.profiles
        granted = await service.sign_in(profile_id=profile_id)
        assert granted["profile_id"] == profile_id
        assert (await service.claims(granted)).values["maturity"] == Maturity.ADULTS
        again = (await service.refresh(granted["refresh_token"])).json()
        assert (await service.claims(again)).values["profile_id"] == profile_id


async def test_another_accounts_profile_is_404_and_costs_no_refresh_token(tmp_path: Path) -> None:
    async with signed_up(tmp_path) as service:
        other = Profile(profile_id="p-other", account_id="a-other", name="Eve")
        service.others.profiles["p-other"] = other
        granted = await service.sign_in()
        refused = await service.refresh(granted["refresh_token"], profile_id="p-other")
        assert (refused.status_code, refused.json()["code"]) == (404, "profile_unknown")
        assert (await service.refresh(granted["refresh_token"])).status_code == 200


async def test_without_profiles_a_token_is_granted_without_a_profile(tmp_path: Path) -> None:
    async with signed_up(tmp_path) as service:
        (profile_id,) = service.others.profiles
        service.others.profiles_away = True
        granted = await service.sign_in(profile_id=profile_id)
        assert granted["profile_id"] is None
        assert "profile_id" not in (await service.claims(granted)).values
        service.others.profiles_away = False
        again = (await service.refresh(granted["refresh_token"])).json()
        assert again["profile_id"] == profile_id


async def test_a_refresh_token_used_twice_signs_the_device_out(tmp_path: Path) -> None:
    async with signed_up(tmp_path) as service:
        first, phone = await service.sign_in(), await service.sign_in("phone")
        second = (await service.refresh(first["refresh_token"])).json()
        assert (await service.introspect(second)).active
        stolen = await service.refresh(first["refresh_token"])
        assert (stolen.status_code, stolen.json()["code"]) == (401, "refresh_reused")
        dead = await service.refresh(second["refresh_token"])
        assert (dead.status_code, dead.json()["code"]) == (401, "refresh_invalid")
        assert not (await service.introspect(second)).active
        assert (await service.refresh(phone["refresh_token"])).status_code == 200


async def test_of_two_refreshes_at_once_one_wins_and_the_family_ends(tmp_path: Path) -> None:
    async with signed_up(tmp_path) as service:
        granted = await service.sign_in()
        answers = await asyncio.gather(
            *(service.refresh(granted["refresh_token"]) for _ in range(2))
        )
        assert sorted(one.status_code for one in answers) == [200, 401]
        winner = next(one for one in answers if one.status_code == 200).json()
        assert (await service.refresh(winner["refresh_token"])).status_code == 401


async def test_families_and_keys_outlive_the_process(tmp_path: Path) -> None:
    async with signed_up(tmp_path) as service:
        granted = await service.sign_in()
        before = await service._document()
    async with identity(tmp_path, others=service.others) as restarted:
        assert await restarted._document() == before
        assert (await restarted.claims(granted)).subject == granted["account_id"]
        assert (await restarted.refresh(granted["refresh_token"])).status_code == 200
        stolen = await restarted.refresh(granted["refresh_token"])
        assert stolen.json()["code"] == "refresh_reused"


@pytest.mark.parametrize("token", ["", "x", "e30", "ключ", "A" * 5000, "W10", "bnVsbA"])
async def test_what_is_no_refresh_token_is_401(tmp_path: Path, token: str) -> None:
    async with identity(tmp_path) as service:
        answer = await service.refresh(token)
        assert (answer.status_code, answer.json()["code"]) == (401, "refresh_invalid")
        assert answer.json()["error"] == "invalid_grant"


async def test_signing_in_again_ends_the_devices_earlier_family(tmp_path: Path) -> None:
    async with signed_up(tmp_path) as service:
        first, second = await service.sign_in(), await service.sign_in()
        assert not (await service.introspect(first)).active
        assert (await service.introspect(second)).active
        assert (await service.refresh(first["refresh_token"])).json()["code"] == "refresh_invalid"
        assert (await service.refresh(second["refresh_token"])).status_code == 200


async def test_unknown_accounts_and_wrong_passwords_hear_the_same(tmp_path: Path) -> None:
    async with signed_up(tmp_path) as service:
        wrong = {"grant_type": "password", "password": "not the horse"}
        known = await service.token(email="ada@example.com", **wrong)
        unknown = await service.token(email="eve@example.com", **wrong)
        assert known.status_code == unknown.status_code == 401
        assert known.json() == unknown.json()
        assert known.json()["code"] == "credentials_invalid"


async def test_five_wrong_passwords_close_the_account_to_that_address_only(tmp_path: Path) -> None:
    clock = ManualClock()
    async with signed_up(tmp_path, clock) as service:
        body = {"grant_type": "password", "email": "ada@example.com", "device_id": "tv"}
        guesses = [
            service.post("/v1/token", {**body, "password": f"guess {n}"}, **{"x-forwarded-for": a})
            for n, a in enumerate(["192.0.2.1", "192.0.2.1, 10.0.0.1"] * 5)
        ]
        answers = await asyncio.gather(*guesses)
        assert sorted(one.status_code for one in answers) == [401] * 5 + [429] * 5
        right = {**body, "password": PASSWORD}
        closed = await service.post("/v1/token", right, **{"x-forwarded-for": "192.0.2.1"})
        assert (closed.status_code, closed.json()["code"]) == (429, "too_many_attempts")
        assert closed.headers["retry-after"] == "900"
        elsewhere = await service.post("/v1/token", right, **{"x-forwarded-for": "192.0.2.9"})
        assert elsewhere.status_code == 200
        clock.tick(900)
        opened = await service.post("/v1/token", right, **{"x-forwarded-for": "192.0.2.1"})
        assert opened.status_code == 200


async def test_many_right_sign_ins_at_once_are_all_let_in(tmp_path: Path) -> None:
    async with signed_up(tmp_path) as service:
        granted = await asyncio.gather(*(service.sign_in(f"d{n}") for n in range(12)))
        assert len({one["refresh_token"] for one in granted}) == 12


async def test_devices_are_listed_and_signed_out(tmp_path: Path) -> None:
    async with signed_up(tmp_path) as service:
        granted = await service.sign_in("tv")
        await service.sign_in("phone")
        member = Passport(account_id=granted["account_id"], device_id="phone")
        listed = (await service.client.rest("GET", "/v1/devices", passport=member)).json()
        assert [(one["device_id"], one["current"]) for one in listed["devices"]] == [
            ("phone", True),
            ("tv", False),
        ]
        stranger = await service.client.rest("DELETE", "/v1/devices/tv")
        assert stranger.status_code == 404
        gone = await service.client.rest("DELETE", "/v1/devices/tv", passport=member)
        assert gone.status_code == 204
        assert (await service.refresh(granted["refresh_token"])).status_code == 401
        assert not (await service.introspect(granted)).active


async def test_a_tv_is_let_in_by_its_code(tmp_path: Path) -> None:
    clock = ManualClock()
    async with signed_up(tmp_path, clock) as service:
        member = Passport(account_id=(await service.sign_in())["account_id"], device_id="tv")
        (profile_id,) = service.others.profiles
        asked = {"device_id": "living-room", "device_type": "tv"}
        shown = (await service.post("/v1/device_code", asked)).json()
        body = {"grant_type": "device_code", "device_code": shown["device_code"]}
        pending = await service.token(**body)
        assert (pending.status_code, pending.json()["error"]) == (400, "authorization_pending")
        hasty = await service.token(**body)
        assert hasty.json()["error"] == "slow_down"
        typed = {"user_code": shown["user_code"].lower(), "profile_id": profile_id}
        rest = service.client.rest
        done = await rest("POST", "/v1/devices/activate", typed, passport=member)
        assert done.status_code == 204
        granted = (await service.token(**body)).json()
        claims = (await service.claims(granted)).values
        assert (claims["device_id"], claims["amr"]) == ("living-room", "device_code")
        assert claims["profile_id"] == profile_id
        assert (await service.token(**body)).json()["error"] == "expired_token"


async def test_a_refused_tv_hears_so(tmp_path: Path) -> None:
    async with signed_up(tmp_path) as service:
        shown = (await service.post("/v1/device_code", {})).json()
        typed = {"user_code": shown["user_code"], "approve": False}
        await service.client.rest("POST", "/v1/devices/activate", typed)
        body = {"grant_type": "device_code", "device_code": shown["device_code"]}
        assert (await service.token(**body)).json()["error"] == "access_denied"


async def test_guessing_user_codes_is_limited(tmp_path: Path) -> None:
    async with signed_up(tmp_path) as service:
        statuses = [
            (await service.client.rest("POST", "/v1/devices/activate", {"user_code": "B" * 8}))
            for _ in range(11)
        ]
        assert [one.status_code for one in statuses] == [404] * 10 + [429]


async def test_the_next_key_is_published_before_it_signs(tmp_path: Path) -> None:
    clock = ManualClock()
    async with signed_up(tmp_path, clock) as service:
        published = {key["kid"] for key in msgspec.json.decode(await service._document())["keys"]}
        following = asyncio.ensure_future(service.client.service.background[0]())
        before = await service.sign_in()
        clock.tick(PERIOD_S)
        after = await service.sign_in()
        kids = [_key_id(granted) for granted in (before, after)]
        assert len(set(kids)) == 2
        assert set(kids) == published
        assert (await service.claims(after)).subject == after["account_id"]
        following.cancel()


def _key_id(granted: dict[str, Any]) -> str:
    header = jws.extract_compact(granted["access_token"].encode()).protected
    return str(header["kid"])


async def test_discovery_names_the_issuer_and_its_keys(tmp_path: Path) -> None:
    async with identity(tmp_path) as service:
        found = await service.client.http.get("/.well-known/openid-configuration")
        assert found.json()["issuer"] == "https://stagedoor.local"
        assert found.json()["jwks_uri"].endswith("/.well-known/jwks.json")


@pytest.mark.parametrize("token", ["", "a.b.c", "x" * 9000, "eyJhbGciOiJub25lIn0.e30."])
async def test_a_foreign_token_is_not_active(tmp_path: Path, token: str) -> None:
    async with identity(tmp_path) as service:
        answer = await service.client.call(INTROSPECT, IntrospectQuery(token=token))
        assert answer == Introspection(active=False)


async def test_an_expired_token_is_not_active(tmp_path: Path) -> None:
    clock = ManualClock()
    async with signed_up(tmp_path, clock) as service:
        granted = await service.sign_in()
        known = await service.introspect(granted)
        assert (known.active, known.device_id) == (True, "tv")
        clock.tick(900)
        assert not (await service.introspect(granted)).active


async def test_answers_with_secrets_are_never_stored(tmp_path: Path) -> None:
    async with signed_up(tmp_path) as service:
        answer = await service.token(
            grant_type="password", email="ada@example.com", password=PASSWORD
        )
        assert answer.headers["cache-control"] == "no-store"
        assert answer.json()["access_token"].count(".") == 2


async def test_no_secret_reaches_the_log(tmp_path: Path) -> None:
    async with signed_up(tmp_path) as service:
        granted = await service.sign_in()
        again = (await service.refresh(granted["refresh_token"])).json()
        await service.token(grant_type="password", email="ada@example.com", password="hush hush")
        await service.post("/v1/accounts", {**ADA, "password": 7})
    written = (tmp_path / "test.jsonl").read_text()
    secrets = [PASSWORD, "hush hush", "argon2", granted["access_token"], again["refresh_token"]]
    assert "/v1/token" in written
    assert [secret for secret in secrets if secret in written] == []


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"grant_type": "magic"},
        {"grant_type": "password"},
        {"grant_type": "password", "email": "a@b.c", "password": "x", "device_id": "a b"},
        {"grant_type": "password", "email": "x" * 300, "password": "x"},
        {"grant_type": "device_code"},
    ],
)
async def test_a_senseless_token_request_is_400(tmp_path: Path, body: dict[str, Any]) -> None:
    async with identity(tmp_path) as service:
        answer = await service.post("/v1/token", body)
        assert answer.status_code == 400
        assert answer.json()["detail"]


async def test_without_overrides_it_asks_the_real_peers(tmp_path: Path) -> None:
    """Nobody is registered here, so the first step that needs a peer says so."""
    async with in_process("identity", build, tmp_path, cost=CHEAP) as client:
        stuck = await client.rest("POST", "/v1/accounts", ADA, passport=None)
        assert (stuck.status_code, stuck.json()["code"]) == (503, "dependency")
        assert (stuck.json()["step"], stuck.json()["reason"]) == ("membership", "no_instances")
