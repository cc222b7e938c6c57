"""The rules the product ships with are sound, and send every path where it belongs."""

from pathlib import Path

import pytest

import deploy
from chassis.clock import ManualClock
from gateway.rules.build import build, check
from gateway.rules.explain import request_of

FILE = Path(deploy.__file__).parent / "rules.yaml"

PUBLIC = {"token", "accounts", "device-code", "issuer-documents", "manifests", "steering"}


@pytest.fixture(scope="module")
def snapshot():
    return build(FILE.read_bytes(), FILE.name, ManualClock(), version=1, folder=FILE.parent)[0]


def test_the_file_has_no_faults_and_no_warnings():
    assert check(FILE.read_bytes(), FILE.name, folder=FILE.parent)[1] == []


def test_only_what_must_be_is_public(snapshot):
    assert {name for name, route in snapshot.routes.items() if route.auth is None} == PUBLIC
    assert {route.auth for route in snapshot.routes.values()} == {None, "member"}


def test_every_rule_has_a_timeout_and_every_body_a_limit(snapshot):
    for route in snapshot.routes.values():
        assert route.timeout_s
        reads_only = set(route.rule.matchers[0].methods) <= {"GET", "HEAD"}
        assert route.body_limit or (route.rule.matchers[0].methods and reads_only)


@pytest.mark.parametrize(
    ("request_line", "cluster"),
    [
        ("POST /v1/token", "identity"),
        ("GET /.well-known/jwks.json", "identity"),
        ("GET /v1/profiles/p1", "profiles"),
        ("GET /v1/titles/t1", "catalog"),
        ("POST /v1/play", "play_api"),
        ("POST /v1/play/sessions/s1/heartbeat", "sessions"),
        ("DELETE /v1/play/sessions/s1", "sessions"),
        ("GET /v1/play/sessions", "sessions"),
        ("POST /v1/device_code", "identity"),
        ("GET /v1/manifests/a.b.c.m3u8", "manifest"),
        ("GET /v1/steering/s1", "steering"),
        ("POST /v1/licence", "licence"),
        ("GET /v1/bookmarks", "bookmarks"),
        ("GET /v1/recommendations", "recommendations"),
        ("POST /v1/events", "beacon"),
    ],
)
def test_a_path_goes_to_its_cluster(snapshot, request_line, cluster):
    method, _, url = request_line.partition(" ")
    found = snapshot.match(request_of(method, url))
    assert found is not None
    assert found.route.choose(0.5) == cluster


def test_the_play_request_has_its_budget_and_goes_first(snapshot):
    play = snapshot.routes["play"]
    assert (play.timeout_s, play.priority) == (1.2, "user")
    assert snapshot.routes["events"].priority == "telemetry"
