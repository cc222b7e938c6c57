"""Accounts, signing keys, sign-ins and device codes on disk."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from chassis.clock import Clock
from chassis.errors import StagedoorError
from chassis.storage import Tables
from chassis.storage.rewrite import Rewriter
from microservices.identity.model import device_codes, keys, sign_ins
from microservices.identity.model.accounts import AccountRow, Credential
from microservices.identity.model.device_codes import DeviceCode, UserCode
from microservices.identity.model.keys import KeyRing, Signer, StoredKey
from microservices.identity.model.sign_ins import Refresh, SignIn

T = TypeVar("T")

ROWS = (Credential, AccountRow, KeyRing, SignIn, DeviceCode, UserCode)
TURN_EVERY_S = 60.0
MAXIMUM_DEVICES = 200
_KEY_ID_BYTES = 8


class AccountStore:
    """A credential is written before its account, so a crash between leaves one to finish."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables
        self._rewriter = Rewriter(tables)

    async def credential(self, email: str) -> Credential | None:
        return await self._tables.get(Credential, email)

    async def account(self, account_id: str) -> AccountRow | None:
        return await self._tables.get(AccountRow, account_id)

    async def add(self, credential: Credential) -> bool:
        """False when somebody else has this address by now."""
        return await self._tables.insert(credential)

    async def rehash(self, old: Credential, new: Credential) -> None:
        await self._tables.replace(old, new)

    async def write(
        self, account_id: str, decide: Callable[[AccountRow | None], AccountRow]
    ) -> AccountRow:
        def whole(known: AccountRow | None) -> tuple[AccountRow, AccountRow]:
            account = decide(known)
            return account, account

        return await self._rewriter.change(AccountRow, (account_id,), whole)


class KeyStore:
    """The signing keys; `signer` is ready from the first `refresh` on."""

    signer: Signer

    def __init__(self, tables: Tables, clock: Clock) -> None:
        self._tables = tables
        self._rewriter = Rewriter(tables)
        self._clock = clock

    async def refresh(self) -> None:
        """Turns the ring when it is time, and follows what another instance did."""
        now = self._clock.now()

        def decide(stored: KeyRing | None) -> tuple[KeyRing, KeyRing]:
            ring = keys.turn(stored or KeyRing(), now, self._fresh)
            return ring, ring

        ring = await self._rewriter.change(KeyRing, (KeyRing().name,), decide)
        if not hasattr(self, "signer") or ring != self.signer.ring:
            self.signer = Signer(ring)

    async def document(self) -> bytes:
        return self.signer.document

    async def follow(self) -> None:
        while True:
            await self._clock.sleep(TURN_EVERY_S)
            try:
                await self.refresh()
            except StagedoorError:
                continue  # the keys in memory serve on

    def _fresh(self, active_from: float) -> StoredKey:
        return keys.generate(self._clock.entropy(_KEY_ID_BYTES).hex(), active_from)


class SignInStore:
    """The devices of an account that are signed in."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables
        self._rewriter = Rewriter(tables)

    async def get(self, account_id: str, device_id: str) -> SignIn | None:
        return await self._tables.get(SignIn, account_id, device_id)

    async def all(self, account_id: str, now: float) -> list[SignIn]:
        found = await self._tables.page(SignIn, account_id, limit=MAXIMUM_DEVICES)
        return [device for device in found if now < device.expires_at]

    async def begin(self, device: SignIn) -> None:
        await self._change(device.account_id, device.device_id, lambda old: (device, None))

    async def end(self, account_id: str, device_id: str) -> bool:
        """Signs the device out; whether it was signed in."""
        return await self._change(account_id, device_id, lambda old: (None, old is not None))

    async def rotate(
        self, refresh: Refresh, secret: str, profile_id: str | None, now: float
    ) -> tuple[sign_ins.Verdict, SignIn | None]:
        return await self._change(
            refresh.account_id,
            refresh.device_id,
            lambda stored: sign_ins.rotate(stored, refresh, secret, profile_id, now),
        )

    async def _change(
        self,
        account_id: str,
        device_id: str,
        decide: Callable[[SignIn | None], tuple[SignIn | None, T]],
    ) -> T:
        return await self._rewriter.change(SignIn, (account_id, device_id), decide)


class DeviceCodeStore:
    """Devices that wait to be let in."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables
        self._rewriter = Rewriter(tables)

    async def add(self, code: DeviceCode) -> bool:
        """False when the user code is in use just now."""
        index = UserCode(code.user_code, code.digest, code.expires_at)
        return await self._tables.insert(index) and await self._tables.insert(code)

    async def settle(
        self, user_code: str, account_id: str, profile_id: str | None, approve: bool, now: float
    ) -> DeviceCode:
        index = await self._tables.get(UserCode, user_code)
        if index is None:
            raise device_codes.unknown_user_code()

        def decide(stored: DeviceCode | None) -> tuple[DeviceCode, DeviceCode]:
            settled = device_codes.settle(stored, account_id, profile_id, approve, now)
            return settled, settled

        return await self._rewriter.change(DeviceCode, (index.digest,), decide)

    async def poll(
        self, device_code: str, now: float
    ) -> tuple[device_codes.Poll, DeviceCode | None]:
        return await self._rewriter.change(
            DeviceCode,
            (device_codes.digest(device_code),),
            lambda stored: device_codes.poll(stored, now),
        )

    async def sweep(self, now: float) -> None:
        """Removes what has expired."""
        async for code in self._tables.scan(DeviceCode):
            if now >= code.expires_at:
                await self._tables.delete(DeviceCode, code.digest, only=code)
        async for index in self._tables.scan(UserCode):
            if now >= index.expires_at:
                await self._tables.delete(UserCode, index.user_code, only=index)

    async def sweep_forever(self, clock: Clock) -> None:
        while True:
            await clock.sleep(TURN_EVERY_S)
            try:
                await self.sweep(clock.now())
            except StagedoorError:
                continue  # the next round finds them again
