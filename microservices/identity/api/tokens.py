"""Granting tokens: by password, by refresh token, by device code."""

from __future__ import annotations

from chassis.clock import Clock
from chassis.contracts.accounts import TokenAnswer, TokenRequest
from chassis.contracts.profiles import Profile, ProfileQuery
from chassis.errors import BadRequest, NotFound, PeerRefusal, StagedoorError
from chassis.http.api import Context
from microservices.identity.api.accounts import Accounts, Ask
from microservices.identity.model import device_codes, sign_ins
from microservices.identity.model.accounts import AccountRow
from microservices.identity.model.sign_ins import Auth, Refresh, SignIn
from microservices.identity.store import AccountStore, DeviceCodeStore, KeyStore, SignInStore

_SECRET_BYTES = 24
_DEVICE_BYTES = 9
_TOKEN_ID_BYTES = 12


class Tokens:
    """`profile` asks profiles; while it is away tokens are granted without a profile."""

    def __init__(
        self,
        accounts: Accounts,
        rows: AccountStore,
        sign_ins: SignInStore,
        codes: DeviceCodeStore,
        keys: KeyStore,
        profile: Ask[ProfileQuery, Profile],
        clock: Clock,
    ) -> None:
        self._accounts = accounts
        self._rows = rows
        self._sign_ins = sign_ins
        self._codes = codes
        self._keys = keys
        self._profile = profile
        self._clock = clock

    async def grant(self, asked: TokenRequest, address: str, context: Context) -> TokenAnswer:
        if asked.grant_type == "password":
            return await self._by_password(asked, address, context)
        if asked.grant_type == "refresh_token":
            return await self._by_refresh_token(asked, context)
        return await self._by_device_code(asked, context)

    def device_id(self, given: str) -> str:
        return given or f"d-{self._clock.entropy(_DEVICE_BYTES).hex()}"

    def secret(self) -> str:
        return self._clock.entropy(_SECRET_BYTES).hex()

    async def profile(
        self, account_id: str, profile_id: str | None, context: Context
    ) -> Profile | None:
        """The account's profile; None when none is asked for or profiles is away.

        `NotFound` when the account has no such profile.
        """
        if not profile_id:
            return None
        try:
            return await self._profile(
                ProfileQuery(account_id=account_id, profile_id=profile_id), context
            )
        except PeerRefusal as refusal:
            if refusal.status == 404:
                raise NotFound(refusal.detail, code=refusal.code) from refusal
            return None
        except NotFound:
            raise
        except StagedoorError:
            return None

    async def _by_password(
        self, asked: TokenRequest, address: str, context: Context
    ) -> TokenAnswer:
        device_id = self.device_id(asked.device_id)
        sign_ins.check_device(device_id, asked.device_type)
        account = await self._accounts.sign_in(asked.email, asked.password, address, context)
        profile = await self.profile(account.account_id, asked.profile_id, context)
        return await self._begin(
            account, device_id, asked.device_type, "password", asked.profile_id, profile
        )

    async def _by_refresh_token(self, asked: TokenRequest, context: Context) -> TokenAnswer:
        refresh = Refresh.parse(asked.refresh_token)
        if refresh is None:
            raise sign_ins.refused("unknown")
        device = await self._sign_ins.get(refresh.account_id, refresh.device_id)
        profile, profile_id = None, asked.profile_id
        if device is not None and self._is_fine(device, refresh):
            profile_id = asked.profile_id or device.profile_id
            profile = await self._known_profile(asked, device, context)
        secret = self.secret()
        verdict, rotated = await self._sign_ins.rotate(
            refresh, secret, profile_id, self._clock.now()
        )
        account = await self._rows.account(refresh.account_id) if rotated is not None else None
        if rotated is None or account is None:
            raise sign_ins.refused(verdict)
        token = Refresh(refresh.account_id, refresh.device_id, refresh.family, secret)
        return self._answer(account, rotated, token, profile)

    async def _by_device_code(self, asked: TokenRequest, context: Context) -> TokenAnswer:
        if not asked.device_code:
            raise BadRequest("the device_code grant needs device_code")
        heard, code = await self._codes.poll(asked.device_code, self._clock.now())
        account = await self._rows.account(code.account_id or "") if code is not None else None
        if code is None or account is None:
            raise device_codes.refused(heard)
        try:
            profile = await self.profile(account.account_id, code.profile_id, context)
        except NotFound:
            profile = None
        return await self._begin(
            account, code.device_id, code.device_type, "device_code", code.profile_id, profile
        )

    def _is_fine(self, device: SignIn, refresh: Refresh) -> bool:
        return sign_ins.judge(device, refresh, self._clock.now()) == "fine"

    async def _known_profile(
        self, asked: TokenRequest, device: SignIn, context: Context
    ) -> Profile | None:
        """The profile asked for, else the one of before if it still exists."""
        if asked.profile_id:
            return await self.profile(device.account_id, asked.profile_id, context)
        try:
            return await self.profile(device.account_id, device.profile_id, context)
        except NotFound:
            return None

    async def _begin(
        self,
        account: AccountRow,
        device_id: str,
        device_type: str,
        auth: Auth,
        profile_id: str | None,
        profile: Profile | None,
    ) -> TokenAnswer:
        refresh = Refresh(account.account_id, device_id, self.secret(), self.secret())
        device = sign_ins.begin(refresh, device_type, auth, profile_id, self._clock.now())
        await self._sign_ins.begin(device)
        return self._answer(account, device, refresh, profile)

    def _answer(
        self, account: AccountRow, device: SignIn, refresh: Refresh, profile: Profile | None
    ) -> TokenAnswer:
        now = self._clock.now()
        token_id = self._clock.entropy(_TOKEN_ID_BYTES).hex()
        said = sign_ins.claims(account, device, profile, token_id, now)
        return TokenAnswer(
            access_token=self._keys.signer.sign(said, now),
            refresh_token=refresh.token(),
            expires_in=sign_ins.ACCESS_S,
            account_id=account.account_id,
            profile_id=profile.profile_id if profile is not None else None,
        )
