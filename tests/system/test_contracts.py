"""Every service keeps to its own OpenAPI document, whatever it is sent."""

from __future__ import annotations

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import content_type_conformance, response_schema_conformance

from chassis.clock import SYSTEM
from chassis.identity import Keyring, Passport, PassportSigner, Seal
from deploy.processes import MICROSERVICES
from tests.support.system import System

CASES = 6
"""A hundred operations times six: the whole of it stays within a minute."""


def address(system: System, service: str) -> str:
    registry = system.where["registry"].replace("consul://", "http://")
    (found, *_) = httpx.get(f"{registry}/v1/health/service/{service}?passing").json()
    return f"http://{found['Service']['Address']}:{found['Service']['Port']}"


def passport(system: System) -> str:
    seal = Seal(Keyring.load(system.home / "keys" / "inside.json"), SYSTEM)
    known = Passport(account_id="nobody", profile_id="nobody", country="US", scopes=("member",))
    return PassportSigner(seal).mint(known).decode()


@pytest.mark.slow
@pytest.mark.parametrize("service", ["play_api", *MICROSERVICES])
def test_a_service_answers_whatever_its_document_allows(system: System, service: str) -> None:
    base = address(system, service)
    schema = schemathesis.openapi.from_url(f"{base}/openapi.json")
    headers = {"x-passport": passport(system)}
    tried = 0
    for found in schema.get_all_operations():
        assert isinstance(found, Ok), found
        operation = found.ok()

        @given(case=operation.as_strategy())
        @settings(
            max_examples=CASES,
            deadline=None,
            database=None,
            derandomize=True,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        def keeps_to_it(case: schemathesis.Case) -> None:
            case.call_and_validate(
                headers=headers,
                checks=[
                    not_a_server_error,
                    content_type_conformance,
                    response_schema_conformance,
                ],
            )

        keeps_to_it()
        tried += 1
    assert tried
    assert [one["starts"] for one in system.processes().values() if one["service"] == service] == [
        1
    ]
