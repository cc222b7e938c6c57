"""The operations on licences."""

from __future__ import annotations

import msgspec

from chassis.clock import Clock
from chassis.contracts.streams import LICENCE_TOKEN, LicenceClaims, LicenceGrant, LicenceRequest
from chassis.errors import Forbidden, Unauthenticated
from chassis.http.api import Api, Reply, Request
from chassis.identity import Seal
from microservices.licence.model import (
    ClearKeyLicence,
    Terms,
    check_holder,
    clear_key_licence,
    decode_clear_key,
    grant,
)
from microservices.licence.store import KeyServers

PURPOSE = "licence"
TOKEN_HEADER = b"x-licence-token"
LICENCE_PATH = "/v1/licence"
KEY_SERVER_S = 5.0


class LicenceApi:
    """Tokens for plays, and keys for tokens."""

    def __init__(self, seal: Seal, clock: Clock, secret: bytes, servers: KeyServers) -> None:
        self._seal = seal
        self._clock = clock
        self._secret = secret
        self._servers = servers

    def mount(self, api: Api) -> None:
        api.call(LICENCE_TOKEN, self.token, at_once=True)
        api.route("POST", LICENCE_PATH, self.licence, answer=ClearKeyLicence)

    async def token(self, request: Request, wanted: LicenceRequest) -> LicenceGrant:
        """The token with which one device may fetch the keys of one play."""
        now = self._clock.now()
        self._servers.check(wanted.drm.system)
        claims, height = grant(wanted, now)
        return LicenceGrant(
            system=claims.system,
            licence_url=LICENCE_PATH,
            licence_token=self._seal.seal(PURPOSE, claims, ttl_s=claims.expires_at - now),
            key_ids=claims.key_ids,
            max_height=height,
            expires_at=claims.expires_at,
        )

    async def licence(self, request: Request) -> Reply:
        """The keys for a token: Clear Key JSON, or another system's own bytes."""
        claims = self._claims(request)
        check_holder(claims, request.passport.account_id)
        request.notes["system"] = claims.system
        if claims.system == "clearkey":
            keys = clear_key_licence(claims, decode_clear_key(request.body), self._secret)
            return Reply(msgspec.json.encode(keys), headers=_NEVER_STORED)
        terms = Terms(key_ids=claims.key_ids, expires_at=claims.expires_at, offline=claims.offline)
        deadline = request.context.deadline.at_most(KEY_SERVER_S)
        body = await self._servers.ask(claims.system, request.body, terms, deadline)
        return Reply(body, content_type=b"application/octet-stream", headers=_NEVER_STORED)

    def _claims(self, request: Request) -> LicenceClaims:
        token = request.header(TOKEN_HEADER) or request.query("token")
        if not token:
            raise Unauthenticated(
                "send the play's licence token in x-licence-token", code="licence_missing"
            )
        try:
            return self._seal.open(PURPOSE, token, LicenceClaims)
        except Unauthenticated as fault:
            if fault.code == "expired":
                raise Forbidden(
                    "this licence token has expired; play again", code="licence_expired"
                ) from None
            raise Forbidden(
                "this is no licence token of ours, or it was altered", code="licence_invalid"
            ) from None


_NEVER_STORED = ((b"cache-control", b"no-store"),)
