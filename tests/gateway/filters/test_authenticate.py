"""Tokens at the edge: a real key, a real JWKS file, a passport that a service can open."""

import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest
from joserfc import jwt
from joserfc.jwk import ECKey

from chassis.clock import SYSTEM
from chassis.identity import Keyring, PassportVerifier, Seal
from gateway.worker import Worker
from tests.support.gateways import Raw, one_rule, running, status_of
from tests.support.scripted import Scripted, answers

KEY = ECKey.generate_key("P-256", {"kid": "k1", "use": "sig", "alg": "ES256"})
OTHER = ECKey.generate_key("P-256", {"kid": "k1"})

AUTH = """
auth:
  member:
    issuer: https://issuer.example
    audience: stagedoor
    jwks: {file: jwks.json}
"""


def token(key: ECKey = KEY, **claims: Any) -> bytes:
    values: Mapping[str, Any] = {
        "iss": "https://issuer.example",
        "aud": "stagedoor",
        "sub": "account-1",
        "exp": int(time.time()) + 600,
        "scope": "play read",
        "device_id": "tv-1",
        **claims,
    }
    return jwt.encode({"alg": "ES256", "kid": "k1", "typ": "JWT"}, dict(values), key).encode()


def rules(port: int, **fields: str) -> str:
    return one_rule(port, auth="member", **fields) + AUTH


def prepare(folder: Path, keys: bool = True) -> tuple[Path, Keyring]:
    """Writes the issuer's public keys and our keyring."""
    if keys:
        public = {"keys": [KEY.as_dict(private=False)]}
        (folder / "jwks.json").write_text(json.dumps(public))
    keyring = Keyring.fresh(SYSTEM)
    (folder / "inside.json").write_bytes(msgspec.json.encode(keyring))
    return folder / "inside.json", keyring


def asks(credential: bytes | None, *, path: bytes = b"/", extra: bytes = b"") -> bytes:
    line = b"Authorization: " + credential + b"\r\n" if credential is not None else b""
    return b"GET " + path + b" HTTP/1.1\r\nHost: a\r\n" + line + extra + b"\r\n"


async def ask(worker: Worker, request: bytes) -> tuple[int, bytes]:
    async with Raw(worker.port) as client:
        client.send(request)
        head, body = await client.answer()
        return status_of(head), head + body


async def test_a_good_token_becomes_a_passport(tmp_path: Path) -> None:
    file, keyring = prepare(tmp_path)
    async with (
        Scripted(answers()) as upstream,
        running(tmp_path, rules(upstream.port), keyring=file) as worker,
    ):
        forged = b"X-Passport: forged\r\nX_Passport: forged\r\n"
        for _ in range(3):
            status, _ = await ask(worker, asks(b"Bearer " + token(jti="t1"), extra=forged))
            assert status == 200
    lines = [line for line in upstream.received.split(b"\r\n") if b"passport" in line.lower()]
    assert len(lines) == 3
    assert b"forged" not in upstream.received
    verifier = PassportVerifier(Seal(keyring, SYSTEM), SYSTEM)
    passport = verifier.verify(lines[0].removeprefix(b"x-passport: "))
    assert (passport.account_id, passport.device_id) == ("account-1", "tv-1")
    assert (passport.scopes, passport.token_id) == (("play", "read"), "t1")


async def test_a_token_is_verified_once_and_its_passport_minted_once(tmp_path: Path) -> None:
    file, _ = prepare(tmp_path)
    async with (
        Scripted(answers()) as upstream,
        running(tmp_path, rules(upstream.port), keyring=file) as worker,
    ):
        credential = b"Bearer " + token()
        for _ in range(5):
            await ask(worker, asks(credential))
        auth = worker.gateway.observer.auth
        assert (auth.child("verified").n, auth.child("cached").n) == (1, 4)
    passports = {line for line in upstream.received.split(b"\r\n") if b"x-passport" in line}
    assert len(passports) == 1


# Made when the test runs: one made when it is collected has expired by the end of a long run.
@pytest.mark.parametrize(
    ("credential", "code"),
    [
        (lambda: None, b"token_invalid"),
        (lambda: b"Basic abc", b"token_invalid"),
        (lambda: b"Bearer nonsense", b"token_invalid"),
        (lambda: b"Bearer " + token(OTHER), b"token_invalid"),
        (lambda: b"Bearer " + token(aud="elsewhere"), b"token_invalid"),
        (lambda: b"Bearer " + token(iss="https://evil.example"), b"token_invalid"),
        (lambda: b"Bearer " + token(exp=int(time.time()) - 600), b"token_expired"),
    ],
    ids=["none", "basic", "nonsense", "other key", "audience", "issuer", "expired"],
)
async def test_anything_else_is_401_and_goes_nowhere(
    credential: Callable[[], bytes | None], code: bytes, tmp_path: Path
) -> None:
    prepare(tmp_path)
    async with (
        Scripted(answers()) as upstream,
        running(tmp_path, rules(upstream.port)) as worker,
    ):
        status, answer = await ask(worker, asks(credential()))
        assert status == 401
        assert b'"code":"' + code in answer
        assert b"www-authenticate: Bearer" in answer
    assert upstream.received == b""


async def test_two_credentials_are_none(tmp_path: Path) -> None:
    prepare(tmp_path)
    async with running(tmp_path, rules(1)) as worker:
        twice = b"Authorization: Bearer " + token() + b"\r\n"
        status, _ = await ask(worker, asks(b"Bearer " + token(), extra=twice))
        assert status == 401


async def test_keys_that_cannot_be_had_are_503_and_not_401(tmp_path: Path) -> None:
    prepare(tmp_path)
    async with running(tmp_path, rules(1)) as worker:
        (tmp_path / "jwks.json").unlink()
        status, answer = await ask(worker, asks(b"Bearer " + token()))
        assert (status, b'"code":"jwks"' in answer) == (503, True)
        assert worker.gateway.observer.auth.child("unavailable").n == 1


async def test_keys_may_come_from_a_cluster(tmp_path: Path) -> None:
    prepare(tmp_path)
    body = json.dumps({"keys": [KEY.as_dict(private=False)]}).encode()
    served = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
    async with Scripted(answers(served)) as issuer:
        text = rules(issuer.port).replace("{file: jwks.json}", "{cluster: up, path: /keys}")
        async with running(tmp_path, text) as worker:
            assert (await ask(worker, asks(b"Bearer " + token())))[0] == 200
    assert issuer.received.startswith(b"GET /keys HTTP/1.1\r\n")


async def test_a_missing_scope_is_403(tmp_path: Path) -> None:
    prepare(tmp_path)
    async with (
        Scripted(answers()) as upstream,
        running(tmp_path, rules(upstream.port, scopes="[play, admin]")) as worker,
    ):
        status, answer = await ask(worker, asks(b"Bearer " + token()))
        assert (status, b"lacks the scope admin" in answer) == (403, True)
        assert (await ask(worker, asks(b"Bearer " + token(scope="play admin"))))[0] == 200


async def test_rules_may_choose_by_verified_claims(tmp_path: Path) -> None:
    prepare(tmp_path)
    text = (
        "rules:\n"
        "  - {name: beta, match: {path_prefix: /, claims: {ring: beta}}, auth: member,"
        " reply: {status: 201}}\n"
        "  - {name: all, match: {path_prefix: /}, auth: member, reply: {status: 202}}\n" + AUTH
    )
    async with running(tmp_path, text) as worker:
        for _ in range(2):
            assert (await ask(worker, asks(b"Bearer " + token(ring="beta"))))[0] == 201
            assert (await ask(worker, asks(b"Bearer " + token())))[0] == 202
            assert (await ask(worker, asks(None)))[0] == 401


async def test_a_rate_limit_by_account_is_429_with_when_to_come_back(tmp_path: Path) -> None:
    prepare(tmp_path)
    limits = "limits:\n  slow: {per_s: 0.01, burst: 2, key: account}\n"
    async with (
        Scripted(answers()) as upstream,
        running(tmp_path, rules(upstream.port, rate_limit="slow") + limits) as worker,
    ):
        statuses = [(await ask(worker, asks(b"Bearer " + token())))[0] for _ in range(3)]
        assert statuses == [200, 200, 429]
        _, answer = await ask(worker, asks(b"Bearer " + token()))
        assert b"retry-after: " in answer
        assert (await ask(worker, asks(b"Bearer " + token(sub="account-2"))))[0] == 200
