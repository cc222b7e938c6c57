"""Tokens from outside: what verifies, what never does, and an issuer that is away."""

from __future__ import annotations

import asyncio
import base64
import hmac
import json
import warnings
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from hypothesis import given
from hypothesis import strategies as st
from joserfc import jws
from joserfc.jwk import ECKey, OctKey, OKPKey, RSAKey

from chassis.clock import ManualClock
from chassis.errors import StoreUnavailable, Unauthenticated
from chassis.identity import Jwks, TokenPolicy, TokenVerifier
from chassis.identity.jwks import parse

POLICY = TokenPolicy(issuer="https://issuer", audience="us")
EC = ECKey.generate_key("P-256", {"kid": "ec"})
RSA = RSAKey.generate_key(2048, {"kid": "rsa"})
ED = OKPKey.generate_key("Ed25519", {"kid": "ed"})
OTHER = ECKey.generate_key("P-256", {"kid": "ec"})
_NUMBERS = rsa.generate_private_key(65537, 1024).public_key().public_numbers()
WEAK = {
    "kty": "RSA",
    "kid": "weak",
    "n": base64.urlsafe_b64encode(_NUMBERS.n.to_bytes(128, "big")).rstrip(b"=").decode(),
    "e": "AQAB",
}


class Issuer:
    """Publishes keys; counts how often it is asked; may be away."""

    def __init__(self, *keys: Any) -> None:
        self.keys = [key.as_dict(private=False) for key in keys]
        self.fetches = 0
        self.away = False
        self.hangs_s = 0.0
        self.clock = ManualClock()

    async def fetch(self) -> bytes:
        self.fetches += 1
        if self.hangs_s:
            await self.clock.sleep(self.hangs_s)
        if self.away:
            raise OSError("away")
        return json.dumps({"keys": self.keys}).encode()


class Setting:
    def __init__(self, *keys: Any) -> None:
        self.clock = ManualClock()
        self.issuer = Issuer(*(keys or (EC, RSA, ED)))
        self.issuer.clock = self.clock
        self.verifier = TokenVerifier(POLICY, Jwks(self.issuer.fetch, self.clock), self.clock)

    def claims(self, **changes: Any) -> dict[str, Any]:
        now = int(self.clock.now())
        values = {"iss": "https://issuer", "aud": "us", "sub": "a1", "iat": now, "exp": now + 900}
        return {name: value for name, value in {**values, **changes}.items() if value is not None}

    def token(self, key: Any = EC, alg: str = "ES256", header: Any = None, **changes: Any) -> bytes:
        protected = {"alg": alg, "kid": key.kid, "typ": "JWT", **(header or {})}
        payload = json.dumps(self.claims(**changes))
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="EdDSA is deprecated")
            return jws.serialize_compact(protected, payload, key, algorithms=[alg]).encode()


@pytest.mark.parametrize(
    ("key", "alg"), [(EC, "ES256"), (RSA, "RS256"), (RSA, "PS256"), (ED, "EdDSA")]
)
async def test_a_good_token_of_each_kind_verifies(key: Any, alg: str) -> None:
    setting = Setting()
    claims = await setting.verifier.verify(setting.token(key, alg, scope="member play"))
    assert (claims.subject, claims.scopes) == ("a1", ("member", "play"))


async def test_a_verified_token_is_remembered_until_it_expires_or_its_key_is_old() -> None:
    setting = Setting()
    token = setting.token()
    assert setting.verifier.verify_cached(token) is None
    await setting.verifier.verify(token)
    assert setting.verifier.verify_cached(token) is not None
    setting.clock.tick(900 + POLICY.leeway_s)
    assert setting.verifier.verify_cached(token) is None


@pytest.mark.parametrize(
    "changes",
    [
        {"exp": 1},
        {"exp": None},
        {"exp": "soon"},
        {"exp": True},
        {"nbf": 4_000_000_000},
        {"iat": 4_000_000_000},
        {"iss": "https://elsewhere"},
        {"aud": "them"},
        {"aud": ["them"]},
        {"aud": None},
        {"sub": None},
        {"sub": ""},
        {"sub": 7},
    ],
    ids=str,
)
async def test_a_token_whose_claims_do_not_hold_is_refused(changes: dict[str, Any]) -> None:
    setting = Setting()
    with pytest.raises(Unauthenticated):
        await setting.verifier.verify(setting.token(**changes))


async def test_one_of_several_audiences_is_enough() -> None:
    setting = Setting()
    assert await setting.verifier.verify(setting.token(aud=["them", "us"]))


async def test_another_key_under_the_same_id_does_not_verify() -> None:
    setting = Setting()
    with pytest.raises(Unauthenticated, match="signature"):
        await setting.verifier.verify(setting.token(OTHER))


async def test_the_algorithm_follows_the_key_and_none_is_never_one() -> None:
    setting = Setting()
    header = base64.urlsafe_b64encode(b'{"alg":"none","kid":"ec"}').rstrip(b"=")
    payload = base64.urlsafe_b64encode(json.dumps(setting.claims()).encode()).rstrip(b"=")
    with pytest.raises(Unauthenticated):
        await setting.verifier.verify(header + b"." + payload + b".")


async def test_a_public_key_is_never_a_shared_secret() -> None:
    setting = Setting()
    _, payload, _ = setting.token().split(b".")
    header = base64.urlsafe_b64encode(b'{"alg":"HS256","kid":"rsa"}').rstrip(b"=")
    signed = header + b"." + payload
    mac = hmac.digest(RSA.as_pem(private=False), signed, "sha256")
    token = signed + b"." + base64.urlsafe_b64encode(mac).rstrip(b"=")
    with pytest.raises(Unauthenticated, match="algorithm"):
        await setting.verifier.verify(token)


@pytest.mark.parametrize(
    "header",
    [{"crit": ["exp"], "exp": 1}, {"jku": "https://evil"}, {"typ": "secevent+jwt"}],
    ids=str,
)
async def test_header_fields_that_redirect_or_confuse_are_refused(header: dict[str, Any]) -> None:
    setting = Setting()
    protected = {"alg": "ES256", "kid": "ec", "typ": "JWT", **header}
    encoded = base64.urlsafe_b64encode(json.dumps(protected).encode()).rstrip(b"=")
    _, payload, signature = setting.token().split(b".")
    with pytest.raises(Unauthenticated):
        await setting.verifier.verify(b".".join([encoded, payload, signature]))


@given(st.binary(max_size=400))
async def test_garbage_is_refused_not_crashed_on(token: bytes) -> None:
    with pytest.raises(Unauthenticated):
        await Setting().verifier.verify(token)


async def test_a_token_that_is_not_strict_base64url_is_refused() -> None:
    setting = Setting()
    token = setting.token()
    for altered in (token + b"=", token + b"\n", b" " + token, token.replace(b".", b"..", 1)):
        with pytest.raises(Unauthenticated):
            await setting.verifier.verify(altered)


async def test_a_huge_token_is_refused_unread() -> None:
    with pytest.raises(Unauthenticated, match="longer"):
        await Setting().verifier.verify(b"a" * 9000)


async def test_an_unknown_key_is_looked_up_once_a_second_at_most() -> None:
    setting = Setting()
    stranger = ECKey.generate_key("P-256", {"kid": "stranger"})
    await setting.verifier.verify(setting.token())
    for _ in range(20):
        with pytest.raises(Unauthenticated, match="no key"):
            await setting.verifier.verify(setting.token(stranger))
    assert setting.issuer.fetches <= 2


async def test_whoever_asks_while_the_issuer_hangs_shares_one_fetch() -> None:
    setting = Setting()
    setting.issuer.hangs_s, setting.issuer.away = 5.0, True
    token = setting.token()
    asked = [asyncio.ensure_future(setting.verifier.verify(token)) for _ in range(10)]
    await setting.clock.advance(5.1)
    assert all(isinstance(one.exception(), StoreUnavailable) for one in asked)
    assert setting.issuer.fetches == 1


async def test_a_held_key_serves_while_another_caller_looks_for_newer_ones() -> None:
    setting = Setting()
    await setting.verifier.verify(setting.token())
    setting.clock.tick(301)
    setting.issuer.hangs_s = 5.0
    first = asyncio.ensure_future(setting.verifier.verify(setting.token()))
    await setting.clock.advance(0.1)
    assert await asyncio.wait_for(setting.verifier.verify(setting.token()), 1)
    assert not first.done()
    await setting.clock.advance(5)
    assert (await first).subject == "a1"


async def test_a_new_key_is_found_by_refetching() -> None:
    setting = Setting(EC)
    await setting.verifier.verify(setting.token())
    setting.issuer.keys.append(RSA.as_dict(private=False))
    setting.clock.tick(2)
    assert await setting.verifier.verify(setting.token(RSA, "RS256"))


async def test_an_outage_of_the_issuer_is_never_a_401() -> None:
    setting = Setting()
    setting.issuer.away = True
    with pytest.raises(StoreUnavailable):
        await setting.verifier.verify(setting.token())


async def test_held_keys_verify_through_an_outage_for_a_day() -> None:
    setting = Setting()
    await setting.verifier.verify(setting.token())
    setting.issuer.away = True
    setting.clock.tick(80_000)
    assert await setting.verifier.verify(setting.token())
    setting.clock.tick(10_000)
    with pytest.raises(StoreUnavailable):
        await setting.verifier.verify(setting.token())


async def test_a_removed_key_stops_within_its_time() -> None:
    setting = Setting()
    await setting.verifier.verify(setting.token())
    before = setting.token()
    await setting.verifier.verify(before)
    setting.issuer.keys = [RSA.as_dict(private=False)]
    setting.clock.tick(301)
    assert setting.verifier.verify_cached(before) is None
    for token in (before, setting.token()):
        with pytest.raises(Unauthenticated, match="no key"):
            await setting.verifier.verify(token)


@pytest.mark.parametrize(
    "entry",
    [
        {**EC.as_dict(private=False), "use": "enc"},
        {**EC.as_dict(private=False), "key_ops": ["sign"]},
        {**EC.as_dict(private=False), "alg": "RS256"},
        {**EC.as_dict(private=False), "crv": "P-521"},
        {**EC.as_dict(private=False), "x": "AA"},
        WEAK,
        OctKey.generate_key(256, {"kid": "oct"}).as_dict(),
        {"kty": "RSA", "kid": "broken"},
        {**EC.as_dict(private=False), "kid": 7},
    ],
    ids=lambda entry: str({name: entry.get(name) for name in ("kty", "crv", "use", "alg", "kid")}),
)
def test_an_unsound_key_is_left_out(entry: dict[str, Any]) -> None:
    keys = parse(json.dumps({"keys": [entry, ED.as_dict(private=False)]}).encode())
    assert not any(key.algorithms for key_id, key in keys.items() if key_id != "ed")
    assert "ed" in keys


def test_two_keys_under_one_id_are_both_left_out() -> None:
    twins = [EC.as_dict(private=False), OTHER.as_dict(private=False)]
    assert parse(json.dumps({"keys": twins}).encode()) == {}
