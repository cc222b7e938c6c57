"""The operations of identity."""

from __future__ import annotations

import msgspec

from chassis.clock import Clock
from chassis.contracts.accounts import (
    INTROSPECT,
    Account,
    Activation,
    DeviceCodeAnswer,
    DeviceCodeRequest,
    Devices,
    Introspection,
    IntrospectQuery,
    SignUp,
    TokenAnswer,
    TokenRequest,
)
from chassis.errors import NotFound, StoreUnavailable, Unauthenticated
from chassis.http.api import Api, Reply, Request
from chassis.identity import TokenVerifier
from microservices.identity.api.accounts import Accounts
from microservices.identity.api.tokens import Tokens
from microservices.identity.model import device_codes, sign_ins
from microservices.identity.model.attempts import USER_CODE, Attempts
from microservices.identity.model.device_codes import DeviceCode
from microservices.identity.model.keys import ALGORITHM
from microservices.identity.model.sign_ins import ISSUER
from microservices.identity.store import DeviceCodeStore, KeyStore, SignInStore

_NEVER_STORED = ((b"cache-control", b"no-store"),)
_STORED_FOR_MINUTES = ((b"cache-control", b"public, max-age=300"),)
_MAXIMUM_ADDRESS = 64

CONFIGURATION = {
    "issuer": ISSUER,
    "jwks_uri": f"{ISSUER}/.well-known/jwks.json",
    "token_endpoint": f"{ISSUER}/v1/token",
    "device_authorization_endpoint": f"{ISSUER}/v1/device_code",
    "grant_types_supported": ["password", "refresh_token", "device_code"],
    "response_types_supported": [],
    "subject_types_supported": ["public"],
    "scopes_supported": [sign_ins.SCOPE],
    "token_endpoint_auth_methods_supported": ["none"],
    "id_token_signing_alg_values_supported": [ALGORITHM],
}


class IdentityApi:
    def __init__(
        self,
        accounts: Accounts,
        tokens: Tokens,
        sign_ins: SignInStore,
        codes: DeviceCodeStore,
        keys: KeyStore,
        verifier: TokenVerifier,
        clock: Clock,
    ) -> None:
        self._accounts = accounts
        self._tokens = tokens
        self._sign_ins = sign_ins
        self._codes = codes
        self._keys = keys
        self._verifier = verifier
        self._clock = clock
        self._typed = Attempts(USER_CODE)

    def mount(self, api: Api) -> None:
        api.call(INTROSPECT, self.introspect)
        api.route(
            "POST",
            "/v1/accounts",
            self.sign_up,
            request=SignUp,
            answer=Account,
            auth=False,
            status=201,
        )
        api.route(
            "POST", "/v1/token", self.token, request=TokenRequest, answer=TokenAnswer, auth=False
        )
        api.route(
            "POST",
            "/v1/device_code",
            self.device_code,
            request=DeviceCodeRequest,
            answer=DeviceCodeAnswer,
            auth=False,
        )
        api.route("POST", "/v1/devices/activate", self.activate, request=Activation, status=204)
        api.route("GET", "/v1/devices", self.devices, answer=Devices)
        api.route("DELETE", "/v1/devices/{device_id}", self.sign_out, status=204)
        api.route("GET", "/.well-known/jwks.json", self.jwks, auth=False)
        api.route("GET", "/.well-known/openid-configuration", self.configuration, auth=False)

    async def sign_up(self, request: Request, body: SignUp) -> Account:
        """Makes an account, its membership and its first profile; a repetition finishes it."""
        return await self._accounts.sign_up(body, _address(request), request.context)

    async def token(self, request: Request, body: TokenRequest) -> Reply:
        """Grants an access token and the next refresh token."""
        request.notes["grant"] = body.grant_type
        answer = await self._tokens.grant(body, _address(request), request.context)
        return Reply(msgspec.json.encode(answer), headers=_NEVER_STORED)

    async def device_code(self, request: Request, body: DeviceCodeRequest) -> Reply:
        """A code that a member types in elsewhere to let this device in (RFC 8628)."""
        device_id = self._tokens.device_id(body.device_id)
        sign_ins.check_device(device_id, body.device_type)
        secret = self._tokens.secret()
        code = DeviceCode(
            digest=device_codes.digest(secret),
            user_code=device_codes.user_code(self._clock.entropy(device_codes.CODE_BYTES)),
            device_id=device_id,
            device_type=body.device_type,
            expires_at=self._clock.now() + device_codes.LIFE_S,
        )
        if not await self._codes.add(code):
            raise StoreUnavailable("no free user code was found; try again", retry_after_s=1.0)
        answer = device_codes.answer(secret, code)
        return Reply(msgspec.json.encode(answer), headers=_NEVER_STORED)

    async def activate(self, request: Request, body: Activation) -> None:
        """Lets the device in that shows this user code, or refuses it."""
        account_id, now = request.passport.account_id, self._clock.now()
        self._typed.check(account_id, now)
        await self._tokens.profile(account_id, body.profile_id, request.context)
        code = device_codes.typed(body.user_code)
        try:
            await self._codes.settle(code, account_id, body.profile_id, body.approve, now)
        except NotFound:
            self._typed.wrong(account_id, now)
            raise
        self._typed.right(account_id)

    async def devices(self, request: Request) -> Devices:
        """The caller's devices that are signed in."""
        passport = request.passport
        found = await self._sign_ins.all(passport.account_id, self._clock.now())
        return Devices(
            devices=tuple(sign_ins.shown(device, passport.device_id) for device in found)
        )

    async def sign_out(self, request: Request) -> None:
        """Signs a device of the caller out: it cannot refresh its token any more."""
        account_id, device_id = request.passport.account_id, request.params["device_id"]
        if not await self._sign_ins.end(account_id, device_id):
            raise NotFound("no such device of this account is signed in", code="device_unknown")

    async def jwks(self, request: Request) -> Reply:
        """The public keys that tokens are verified with (RFC 7517)."""
        return Reply(await self._keys.document(), headers=_STORED_FOR_MINUTES)

    async def configuration(self, request: Request) -> Reply:
        """Where everything is (OpenID Connect Discovery)."""
        return Reply(msgspec.json.encode(CONFIGURATION), headers=_STORED_FOR_MINUTES)

    async def introspect(self, request: Request, body: IntrospectQuery) -> Introspection:
        """Whether an access token holds now: verified, not expired, its device still signed in."""
        try:
            claims = await self._verifier.verify(body.token.encode())
        except Unauthenticated:
            return Introspection(active=False)
        if self._clock.now() >= claims.expires_at:
            return Introspection(active=False)
        device_id = str(claims.values.get("device_id"))
        device = await self._sign_ins.get(claims.subject, device_id)
        if device is None or device.session != claims.values.get("sid"):
            return Introspection(active=False)
        return Introspection(
            active=True,
            account_id=claims.subject,
            device_id=device_id,
            expires_at=int(claims.expires_at),
        )


def _address(request: Request) -> str:
    """The client's address; the gateway makes this header anew for each request."""
    chain = request.header(b"x-forwarded-for") or ""
    return chain.partition(",")[0].strip()[:_MAXIMUM_ADDRESS]
