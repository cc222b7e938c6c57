"""Signing up, step by step so that a repetition finishes it; and checking a password."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

from msgspec.structs import replace

from chassis.clock import Clock
from chassis.contracts.accounts import Account, Enrolment, SignUp
from chassis.contracts.profiles import NewProfile, Profile
from chassis.contracts.wire import Ans, Nothing, Req
from chassis.errors import (
    BadRequest,
    Conflict,
    DependencyFailed,
    RequestFailure,
    StagedoorError,
    Unauthenticated,
)
from chassis.http.api import Context
from chassis.identity.passwords import Passwords
from chassis.turns import Turns
from microservices.identity.model.accounts import (
    AccountRow,
    Credential,
    checked,
    normal_email,
    normal_password,
    of_sign_up,
)
from microservices.identity.model.attempts import ADDRESS, SIGN_IN, Attempts
from microservices.identity.store import AccountStore

T = TypeVar("T")
Ask = Callable[[Req, Context], Awaitable[Ans]]
"""A call to another service, as `chassis.peer` makes it."""

_ID_BYTES = 9
_MAXIMUM_EMAIL = 254


class Accounts:
    """`enrol` and `create_profile` ask membership and profiles."""

    def __init__(
        self,
        store: AccountStore,
        passwords: Passwords,
        enrol: Ask[Enrolment, Nothing],
        create_profile: Ask[NewProfile, Profile],
        clock: Clock,
    ) -> None:
        self._store = store
        self._passwords = passwords
        self._enrol = enrol
        self._create_profile = create_profile
        self._clock = clock
        self._turns = Turns()
        self._attempts = Attempts(SIGN_IN)
        self._addresses = Attempts(ADDRESS)

    async def sign_up(self, asked: SignUp, address: str, context: Context) -> Account:
        """The account; `Conflict` when its address is taken under another password."""
        asked = checked(asked)
        credential = await self._credential(asked, address)
        profile_id = f"p-{self._clock.entropy(_ID_BYTES).hex()}"
        now = self._clock.now()
        account = await self._store.write(
            credential.account_id,
            lambda known: of_sign_up(asked, credential.account_id, profile_id, known, now),
        )
        account = await self.finish(account, context)
        return Account(
            account_id=account.account_id, email=account.email, profile_id=account.profile_id
        )

    async def sign_in(
        self, email: str, password: str, address: str, context: Context
    ) -> AccountRow:
        """The account; one kind of refusal for an unknown address and for a wrong password."""
        email = normal_email(email)
        if not email or not password or len(email) > _MAXIMUM_EMAIL:
            raise BadRequest("the password grant needs email and password")
        credential = await self._store.credential(email)
        if not await self._is_right(credential, email, password, address) or credential is None:
            raise Unauthenticated(
                "email or password is wrong",
                code="credentials_invalid",
                members={"error": "invalid_grant"},
            )
        account = await self._store.account(credential.account_id)
        if account is None:
            raise Conflict("the sign-up was cut short: repeat it", code="sign_up_unfinished")
        return await self.finish(account, context)

    async def finish(self, account: AccountRow, context: Context) -> AccountRow:
        """Tells membership and profiles of the account, once; both take repetitions."""
        if account.complete:
            return account
        enrolment = Enrolment(
            account_id=account.account_id, plan=account.plan, country=account.country
        )
        profile = NewProfile(
            account_id=account.account_id,
            name=account.profile_name,
            profile_id=account.profile_id,
        )
        await _step("membership", self._enrol(enrolment, context))
        await _step("profiles", self._create_profile(profile, context))
        done = replace(account, complete=True)
        return await self._store.write(
            account.account_id, lambda known: known if known and known.complete else done
        )

    async def _credential(self, asked: SignUp, address: str) -> Credential:
        """The credential of this address: made now, or there already with this password."""
        known = await self._store.credential(asked.email)
        if known is None:
            account_id = f"a-{self._clock.entropy(_ID_BYTES).hex()}"
            hashed = await self._passwords.hash(asked.password)
            made = Credential(asked.email, account_id, hashed)
            if await self._store.add(made):
                return made
            known = await self._store.credential(asked.email)
        if known is None or not await self._is_right(known, asked.email, asked.password, address):
            raise Conflict(
                "there is an account with this email and another password: sign in instead",
                code="account_exists",
            )
        return known

    async def _is_right(
        self, credential: Credential | None, email: str, password: str, address: str
    ) -> bool:
        """Counts wrong ones for account and address; one check at a time for each account and
        address, so that guesses made at once are counted like others."""
        key = (email, address)
        password = normal_password(password)
        async with self._turns.of(key):
            now = self._clock.now()
            self._attempts.check(key, now)
            self._addresses.check(address, now)
            hashed = credential.password_hash if credential is not None else None
            if await self._passwords.verify(hashed, password):
                self._attempts.right(key)
                await self._rehash(credential, password)
                return True
            self._attempts.wrong(key, now)
            self._addresses.wrong(address, now)
            return False

    async def _rehash(self, credential: Credential | None, password: str) -> None:
        """Brings an old hash to today's cost, now that the password is at hand."""
        if credential is not None and self._passwords.is_dated(credential.password_hash):
            hashed = await self._passwords.hash(password)
            await self._store.rehash(credential, replace(credential, password_hash=hashed))


async def _step(name: str, asked: Awaitable[T]) -> T:
    try:
        return await asked
    except RequestFailure:
        raise
    except StagedoorError as failure:
        raise DependencyFailed(name, failure, retry_after_s=1.0) from failure
