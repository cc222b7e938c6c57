"""The operations of profiles."""

from __future__ import annotations

from chassis.clock import Clock
from chassis.contracts.profiles import (
    CREATE_PROFILE,
    PROFILE,
    NewProfile,
    PinEntry,
    PinGrant,
    PinToken,
    Profile,
    ProfileChange,
    ProfileDraft,
    ProfileQuery,
    Profiles,
)
from chassis.errors import Unauthenticated
from chassis.http.api import Api, Request
from chassis.identity import Seal
from chassis.identity.passwords import Passwords
from microservices.profiles import model
from microservices.profiles.model import Group, StoredProfile
from microservices.profiles.store import ProfileStore

PIN_PURPOSE = "pin"
PIN_TOKEN_S = 600.0
_ID_BYTES = 9


class ProfilesApi:
    def __init__(self, store: ProfileStore, passwords: Passwords, seal: Seal, clock: Clock) -> None:
        self._store = store
        self._passwords = passwords
        self._seal = seal
        self._clock = clock

    def mount(self, api: Api) -> None:
        api.call(PROFILE, self.get, at_once=True)
        api.call(CREATE_PROFILE, self.create)
        one = "/v1/profiles/{profile_id}"
        api.route("GET", "/v1/profiles", self.mine, answer=Profiles)
        api.route(
            "POST", "/v1/profiles", self.add, request=ProfileDraft, answer=Profile, status=201
        )
        api.route("GET", one, self.show, answer=Profile)
        api.route("PATCH", one, self.change, request=ProfileChange, answer=Profile)
        api.route("DELETE", one, self.remove, status=204)
        api.route("POST", f"{one}/pin", self.enter_pin, request=PinEntry, answer=PinGrant)

    async def get(self, request: Request, body: ProfileQuery) -> Profile:
        """One profile of an account."""
        group = await self._store.read(body.account_id)
        return model.shown(body.account_id, model.find(group, body.profile_id))

    async def create(self, request: Request, body: NewProfile) -> Profile:
        """Makes a profile, once for each `profile_id` that the caller chose."""
        profile = await self._stored(body, body.profile_id)
        made = await self._store.change(body.account_id, lambda group: model.create(group, profile))
        return model.shown(body.account_id, made)

    async def mine(self, request: Request) -> Profiles:
        """The caller's profiles."""
        account_id = request.passport.account_id
        group = await self._store.read(account_id)
        return Profiles(profiles=tuple(model.shown(account_id, one) for one in group))

    async def add(self, request: Request, body: ProfileDraft) -> Profile:
        """Makes a profile of the caller's account."""
        account_id = request.passport.account_id
        profile = await self._stored(body, None)
        proof = self._proof(account_id, body.pin_token)

        def decide(group: Group) -> tuple[Group, StoredProfile]:
            model.check_level(group, profile.maturity, proof)
            return model.create(group, profile)

        return model.shown(account_id, await self._store.change(account_id, decide))

    async def show(self, request: Request) -> Profile:
        """One of the caller's profiles."""
        account_id = request.passport.account_id
        group = await self._store.read(account_id)
        return model.shown(account_id, model.find(group, request.params["profile_id"]))

    async def change(self, request: Request, body: ProfileChange) -> Profile:
        """Sets what the body names; raising maturity and touching a PIN need a `pin_token`."""
        account_id = request.passport.account_id
        proof = self._proof(account_id, body.pin_token)
        pin_hash = await self._hashed(body.pin) if isinstance(body.pin, str) else None
        changed = await self._store.change(
            account_id,
            lambda group: model.change(group, request.params["profile_id"], body, pin_hash, proof),
        )
        return model.shown(account_id, changed)

    async def remove(self, request: Request) -> None:
        """Deletes one of the caller's profiles; `X-Pin-Token` where it has a PIN."""
        account_id = request.passport.account_id
        proof = self._proof(account_id, request.header(b"x-pin-token"))
        await self._store.change(
            account_id, lambda group: model.remove(group, request.params["profile_id"], proof)
        )

    async def enter_pin(self, request: Request, body: PinEntry) -> PinGrant:
        """Checks a PIN; five wrong ones lock it for 15 minutes."""
        account_id, profile_id = request.passport.account_id, request.params["profile_id"]
        pin = model.check_pin(body.pin)
        tried = await self._store.change(
            account_id, lambda group: model.begin_try(group, profile_id, self._clock.now())
        )
        if not await self._passwords.verify(tried.pin_hash, pin):
            raise model.wrong_pin(tried)
        await self._store.change(account_id, lambda group: model.forgive(group, tried))
        proved = PinToken(account_id=account_id, profile_id=profile_id)
        token = self._seal.seal(PIN_PURPOSE, proved, ttl_s=PIN_TOKEN_S)
        return PinGrant(pin_token=token, expires_at=self._clock.now() + PIN_TOKEN_S)

    async def _stored(self, asked: NewProfile | ProfileDraft, chosen: str | None) -> StoredProfile:
        profile = model.checked(
            StoredProfile(
                chosen if chosen is not None else f"p-{self._clock.entropy(_ID_BYTES).hex()}",
                asked.name,
                asked.maturity,
                asked.language,
                asked.captions,
                asked.autoplay,
            )
        )
        if asked.pin is None:
            return profile
        return model.with_pin(profile, await self._hashed(asked.pin))

    async def _hashed(self, pin: str) -> str:
        return await self._passwords.hash(model.check_pin(pin))

    def _proof(self, account_id: str, pin_token: str | None) -> str | None:
        """The profile whose PIN was checked; a token that does not open proves nothing."""
        if pin_token is None:
            return None
        try:
            proved = self._seal.open(PIN_PURPOSE, pin_token, PinToken)
        except Unauthenticated:
            return None
        return proved.profile_id if proved.account_id == account_id else None
