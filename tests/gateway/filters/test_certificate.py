"""Client certificates as credentials: a real handshake, a policy, a passport."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest

from chassis.clock import SYSTEM
from chassis.identity import Keyring, PassportVerifier, Seal
from gateway.rules.build import RulesFault
from tests.support.certificates import Authority
from tests.support.gateways import GET, Raw, one_rule, running, status_of
from tests.support.scripted import Scripted, answers


def rules(port: int, policy: str = "{}", **fields: str) -> str:
    auth = f"auth: {{machine: {{certificate: {policy}}}}}\n"
    return one_rule(port, auth="machine", **fields) + auth


class Edge:
    """A TLS listener that takes client certificates, and one that shows them."""

    def __init__(self, folder: Path) -> None:
        self.authority = Authority(folder)
        cert, key = self.authority.issue("localhost")
        client = f"client=optional&client_ca={self.authority.file}"
        self.listen = f"tls://127.0.0.1:0?cert={cert}&key={key}&{client}"
        self._shown = self.authority.issue("probe", "probe.example", organization="Example")

    async def ask(self, port: int, *, shows: bool = True) -> tuple[int, str]:
        context = self.authority.client(show=self._shown if shows else None)
        async with Raw(port, context) as client:
            client.send(GET)
            head, body = await client.answer()
        status = status_of(head)
        return status, json.loads(body)["code"] if b"problem+json" in head else ""


@pytest.fixture
def edge(tmp_path: Path) -> Edge:
    return Edge(tmp_path)


async def test_a_verified_certificate_becomes_a_passport(tmp_path: Path, edge: Edge) -> None:
    keyring = Keyring.fresh(SYSTEM)
    file = tmp_path / "inside.json"
    file.write_bytes(msgspec.json.encode(keyring))
    async with Scripted(answers()) as upstream:
        text = rules(upstream.port, "{scopes: [read]}", scopes="[read]")
        async with running(tmp_path, text, keyring=file, listen=edge.listen) as worker:
            for _ in range(2):
                assert await edge.ask(worker.port) == (200, "")
        sealed = upstream.received.split(b"x-passport: ")[1].split(b"\r\n")[0]
    passport = PassportVerifier(Seal(keyring, SYSTEM), SYSTEM).verify(sealed)
    assert (passport.account_id, passport.auth, passport.scopes) == (
        "probe",
        "certificate",
        ("read",),
    )


@pytest.mark.parametrize(
    ("policy", "told"),
    [
        ("{}", (200, "")),
        ("{subjects: ['CN=probe,O=Example']}", (200, "")),
        ("{names: [probe.example]}", (200, "")),
        ("{names: [other, probe]}", (200, "")),
        ("{subjects: [probe]}", (403, "certificate_refused")),
        ("{names: ['CN=probe,O=Example']}", (403, "certificate_refused")),
        ("{subjects: ['CN=other'], names: [other]}", (403, "certificate_refused")),
    ],
)
async def test_it_must_be_one_of_those_that_the_policy_names(
    policy: str, told: tuple[int, str], tmp_path: Path, edge: Edge
) -> None:
    async with (
        Scripted(answers()) as upstream,
        running(tmp_path, rules(upstream.port, policy), listen=edge.listen) as worker,
    ):
        assert await edge.ask(worker.port) == told
        assert await edge.ask(worker.port, shows=False) == (401, "certificate_missing")
        assert upstream.received.count(b"GET") == (told[0] == 200)


async def test_a_scope_that_it_has_not_is_missing(tmp_path: Path, edge: Edge) -> None:
    async with running(tmp_path, rules(1, scopes="[write]"), listen=edge.listen) as worker:
        assert await edge.ask(worker.port) == (403, "scope_missing")


async def test_rules_match_what_is_in_it(tmp_path: Path, edge: Edge) -> None:
    document = """
auth: {machine: {certificate: {}}}
rules:
  - {name: probes, auth: machine, match: {claims: {names: probe.example}}, reply: {status: 200}}
  - {name: others, reply: {status: 404}}
"""
    async with running(tmp_path, document, listen=edge.listen) as worker:
        assert await edge.ask(worker.port) == (200, "")
    document = document.replace("probe.example", "other.example")
    async with running(tmp_path, document, listen=edge.listen) as worker:
        assert await edge.ask(worker.port) == (404, "")
        assert await edge.ask(worker.port, shows=False) == (401, "certificate_missing")


@pytest.mark.parametrize(
    ("policy", "said"),
    [
        ("{}", "either 'jwks' or 'certificate'"),
        ("{certificate: {}, jwks: {file: a}}", "either 'jwks' or 'certificate'"),
        ("{certificate: {}, issuer: a}", "'issuer' is of tokens only"),
        ("{certificate: {cn: a}}", "cn"),
    ],
)
async def test_a_policy_that_makes_no_sense_is_refused(
    policy: str, said: str, tmp_path: Path
) -> None:
    document = one_rule(1, auth="machine") + f"auth: {{machine: {policy}}}\n"
    with pytest.raises(RulesFault, match=said):
        async with running(tmp_path, document):
            pass
