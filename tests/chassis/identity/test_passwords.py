from __future__ import annotations

import asyncio
import threading
from typing import Literal

import pytest
from argon2 import PasswordHasher

from chassis.clock import ManualClock
from chassis.errors import Shed
from chassis.identity.passwords import HashCost, Passwords

CHEAP = HashCost(passes=1, memory_kib=8)


async def test_the_right_secret_verifies_and_another_does_not() -> None:
    passwords = Passwords(ManualClock(), CHEAP)
    hashed = await passwords.hash("open sesame")
    assert hashed.startswith("$argon2id$")
    assert "sesame" not in hashed
    assert await passwords.verify(hashed, "open sesame")
    assert not await passwords.verify(hashed, "open sesame ")
    assert not await passwords.verify("no hash at all", "open sesame")
    await passwords.close()


async def test_equal_secrets_have_different_hashes() -> None:
    passwords = Passwords(ManualClock(), CHEAP)
    assert await passwords.hash("same") != await passwords.hash("same")
    await passwords.close()


class Recording(PasswordHasher):
    """Counts its verifications; hashing waits for the gate."""

    def __init__(self) -> None:
        super().__init__(time_cost=1, memory_cost=8, parallelism=1)
        self.verified: list[str | bytes] = []
        self.gate = threading.Event()
        self.gate.set()

    def hash(self, password: str | bytes, *, salt: bytes | None = None) -> str:
        self.gate.wait(5)
        return super().hash(password, salt=salt)

    def verify(self, hash: str | bytes, password: str | bytes) -> Literal[True]:  # noqa: A002
        self.verified.append(hash)
        return super().verify(hash, password)


async def test_an_unknown_account_costs_one_verification_too() -> None:
    hasher = Recording()
    passwords = Passwords(ManualClock(), hasher=hasher)
    assert not await passwords.verify(None, "first")
    assert not await passwords.verify(None, "second")
    assert len(hasher.verified) == 2
    assert str(hasher.verified[0]).startswith("$argon2id$")
    await passwords.close()


async def test_the_loop_goes_on_while_hashing_and_too_many_callers_are_shed() -> None:
    hasher = Recording()
    passwords = Passwords(ManualClock(), HashCost(workers=1, waiting=1), hasher=hasher)
    hasher.gate.clear()
    held = asyncio.ensure_future(passwords.hash("first"))
    waiting = asyncio.ensure_future(passwords.hash("second"))
    await asyncio.sleep(0)
    with pytest.raises(Shed):
        await passwords.hash("third")
    waiting.cancel()
    hasher.gate.set()
    assert await held
    assert (await passwords.hash("fourth")).startswith("$argon2id$")
    assert repr(passwords) == "Passwords(in_use=0, limit=2)"
    await passwords.close()


async def test_a_hash_made_cheaper_than_todays_cost_is_dated() -> None:
    hashed = await Passwords(ManualClock(), CHEAP).hash("old")
    assert Passwords(ManualClock()).is_dated(hashed)
    assert not Passwords(ManualClock(), CHEAP).is_dated(hashed)
