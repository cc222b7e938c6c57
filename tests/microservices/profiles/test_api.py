from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from chassis.clock import ManualClock
from chassis.contracts.common import Maturity
from chassis.contracts.profiles import CREATE_PROFILE, PROFILE, NewProfile, PinToken, ProfileQuery
from chassis.identity import Passport
from chassis.identity.passwords import HashCost
from microservices.profiles.app import build
from tests.support.services import InProcess, in_process

CHEAP = HashCost(passes=1, memory_kib=8)
STRANGER = Passport(account_id="a2", scopes=("member",))
FIRST = NewProfile(account_id="a1", name="Me", profile_id="p1")


@asynccontextmanager
async def profiles(home: Path, clock: ManualClock | None = None) -> AsyncIterator[InProcess]:
    async with in_process("profiles", build, home, clock=clock, cost=CHEAP) as client:
        yield client


async def add(client: InProcess, **values: Any) -> dict[str, Any]:
    answer = await client.rest("POST", "/v1/profiles", values)
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()
    return made


async def enter(client: InProcess, profile_id: str, pin: str) -> Any:
    return await client.rest("POST", f"/v1/profiles/{profile_id}/pin", {"pin": pin})


async def test_profiles_are_made_shown_changed_and_deleted(tmp_path: Path) -> None:
    async with profiles(tmp_path) as client:
        await client.call(CREATE_PROFILE, FIRST)
        made = await add(client, name=" Kim ", maturity=1, language="de")
        path = f"/v1/profiles/{made['profile_id']}"
        assert (made["name"], made["maturity"], made["has_pin"]) == ("Kim", 1, False)
        changed = await client.rest("PATCH", path, {"captions": "de", "autoplay": False})
        assert changed.json() == {**made, "captions": "de", "autoplay": False}
        listed = (await client.rest("GET", "/v1/profiles")).json()["profiles"]
        assert [one["name"] for one in listed] == ["Me", "Kim"]
        assert (await client.rest("DELETE", path)).status_code == 204
        assert (await client.rest("GET", path)).json()["code"] == "profile_unknown"


async def test_making_a_profile_again_by_its_id_answers_the_same_one(tmp_path: Path) -> None:
    async with profiles(tmp_path) as client:
        made = await client.call(CREATE_PROFILE, FIRST)
        assert await client.call(CREATE_PROFILE, FIRST) == made
    async with profiles(tmp_path) as client:
        asked = ProfileQuery(account_id="a1", profile_id="p1")
        assert await client.call(PROFILE, asked) == made


async def test_ten_profiles_made_at_once_are_five(tmp_path: Path) -> None:
    async with profiles(tmp_path) as client:
        answers = await asyncio.gather(
            *(client.rest("POST", "/v1/profiles", {"name": f"N{n}"}) for n in range(10))
        )
        assert sorted(one.status_code for one in answers) == [201] * 5 + [409] * 5


async def test_another_accounts_profile_does_not_exist(tmp_path: Path) -> None:
    async with profiles(tmp_path) as client:
        await client.call(CREATE_PROFILE, FIRST)
        for method, path, body in [
            ("GET", "/v1/profiles/p1", None),
            ("PATCH", "/v1/profiles/p1", {"name": "Mine"}),
            ("DELETE", "/v1/profiles/p1", None),
            ("POST", "/v1/profiles/p1/pin", {"pin": "1234"}),
        ]:
            answer = await client.rest(method, path, body, passport=STRANGER)
            assert (answer.status_code, answer.json()["code"]) == (404, "profile_unknown")
        unknown = await client.raw_call(PROFILE, ProfileQuery(account_id="a2", profile_id="p1"))
        assert (unknown.status_code, unknown.json()["code"]) == (404, "profile_unknown")


async def test_a_right_pin_gives_a_sealed_token(tmp_path: Path) -> None:
    clock = ManualClock()
    async with profiles(tmp_path, clock) as client:
        made = await add(client, name="Ada", pin="1234")
        grant = (await enter(client, made["profile_id"], "1234")).json()
        proved = client.chassis.seal.open("pin", grant["pin_token"], PinToken)
        assert proved == PinToken(account_id="a1", profile_id=made["profile_id"])
        assert grant["expires_at"] == clock.now() + 600


async def test_five_wrong_pins_lock_out_the_right_one_even_after_a_restart(tmp_path: Path) -> None:
    clock = ManualClock()
    async with profiles(tmp_path, clock) as client:
        made = await add(client, name="Ada", pin="1234")
        for left in (4, 3, 2, 1, 0):
            wrong = await enter(client, made["profile_id"], "0000")
            assert (wrong.status_code, wrong.json()["code"]) == (403, "pin_wrong")
            assert wrong.json()["tries_left"] == left
    async with profiles(tmp_path, clock) as client:
        locked = await enter(client, made["profile_id"], "1234")
        assert (locked.status_code, locked.json()["code"]) == (429, "pin_locked")
        assert locked.headers["retry-after"] == "900"
        clock.tick(900)
        assert (await enter(client, made["profile_id"], "1234")).status_code == 200


async def test_pins_guessed_at_once_are_all_counted(tmp_path: Path) -> None:
    async with profiles(tmp_path) as client:
        made = await add(client, name="Ada", pin="1234")
        answers = await asyncio.gather(
            *(enter(client, made["profile_id"], f"{n:04}") for n in range(20))
        )
        assert sorted(one.status_code for one in answers) == [403] * 5 + [429] * 15


async def test_a_pin_token_opens_what_the_pin_guards(tmp_path: Path) -> None:
    clock = ManualClock()
    async with profiles(tmp_path, clock) as client:
        ada = await add(client, name="Ada", pin="1234")
        kim = await add(client, name="Kim", maturity=1)
        path = f"/v1/profiles/{kim['profile_id']}"
        refused = await client.rest("PATCH", path, {"maturity": 3})
        assert (refused.status_code, refused.json()["code"]) == (403, "pin_required")
        assert refused.json()["profiles"] == [ada["profile_id"]]
        token = await _token(client, ada)
        raised = await client.rest("PATCH", path, {"maturity": 3, "pin_token": token})
        assert raised.json()["maturity"] == Maturity.ADULTS
        clock.tick(600)
        gone = f"/v1/profiles/{ada['profile_id']}"
        late = await client.rest("DELETE", gone, headers={"x-pin-token": token})
        assert late.json()["code"] == "pin_required"
        fresh = {"x-pin-token": await _token(client, ada)}
        assert (await client.rest("DELETE", gone, headers=fresh)).status_code == 204


async def _token(client: InProcess, profile: dict[str, Any]) -> str:
    return str((await enter(client, profile["profile_id"], "1234")).json()["pin_token"])


@pytest.mark.parametrize("forged", ["", "x", "k1.e30.AAAA", "ключ", "." * 2000])
async def test_a_forged_pin_token_proves_nothing(tmp_path: Path, forged: str) -> None:
    async with profiles(tmp_path) as client:
        ada = await add(client, name="Ada", pin="1234")
        path = f"/v1/profiles/{ada['profile_id']}"
        answer = await client.rest("PATCH", path, {"pin": None, "pin_token": forged})
        assert (answer.status_code, answer.json()["code"]) == (403, "pin_required")


async def test_a_pin_token_of_another_account_or_purpose_proves_nothing(tmp_path: Path) -> None:
    async with profiles(tmp_path) as client:
        ada = await add(client, name="Ada", pin="1234")
        path, seal = f"/v1/profiles/{ada['profile_id']}", client.chassis.seal
        own = PinToken(account_id="a1", profile_id=ada["profile_id"])
        foreign = PinToken(account_id="a2", profile_id=ada["profile_id"])
        for token in (
            seal.seal("pin", foreign, ttl_s=60),
            seal.seal("entitlement", own, ttl_s=60),
        ):
            answer = await client.rest("PATCH", path, {"pin": None, "pin_token": token})
            assert (answer.status_code, answer.json()["code"]) == (403, "pin_required")


async def test_no_answer_and_no_log_line_shows_a_pin_or_its_hash(tmp_path: Path) -> None:
    async with profiles(tmp_path) as client:
        made = await add(client, name="Ada", pin="7391")
        await enter(client, made["profile_id"], "7391")
        listed = (await client.rest("GET", "/v1/profiles")).text
        assert "argon2" not in listed
        assert "7391" not in listed
    assert "argon2" not in (tmp_path / "test.jsonl").read_text()
    assert '"7391"' not in (tmp_path / "test.jsonl").read_text()


@pytest.mark.parametrize(
    "body", [{}, {"name": 5}, {"name": "A", "maturity": 9}, {"name": "A", "pin": "12"}, [], None]
)
async def test_senseless_profiles_are_400(tmp_path: Path, body: Any) -> None:
    async with profiles(tmp_path) as client:
        assert (await client.rest("POST", "/v1/profiles", body)).status_code == 400
