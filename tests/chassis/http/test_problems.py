"""Failures as responses and back."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chassis import errors
from chassis.errors import (
    ConfigurationFault,
    DependencyFailed,
    NotFound,
    OriginGarbled,
    OriginStatus,
    PeerRefusal,
    RateLimited,
    Retryable,
    Shed,
    StagedoorError,
    Unauthenticated,
)
from chassis.http.problems import CONTENT_TYPE, failure_from, parse_retry_after, problem


def test_a_failure_becomes_a_problem_with_a_stable_code() -> None:
    status, headers, body = problem(NotFound("no such film", code="title_unknown"))
    assert status == 404
    assert json.loads(body) == {
        "type": "about:blank",
        "title": "Not Found",
        "status": 404,
        "code": "title_unknown",
        "detail": "no such film",
    }
    assert headers == [
        (b"content-type", b"application/problem+json"),
        (b"content-length", b"%d" % len(body)),
    ]


@pytest.mark.parametrize("after_s, told", [(0.0, b"1"), (1.2, b"2"), (30.0, b"30")])
def test_when_to_try_again_is_told_in_whole_seconds(after_s: float, told: bytes) -> None:
    _, headers, _ = problem(RateLimited(retry_after_s=after_s))
    assert (b"retry-after", told) in headers


def test_a_missing_credential_is_told_which_scheme_to_use() -> None:
    assert (b"www-authenticate", b"Bearer") in problem(Unauthenticated())[1]


@pytest.mark.parametrize("leaf", [errors.StoreUnavailable, errors.ConnectFailed])
def test_addresses_and_files_are_not_told_to_callers(leaf: type[StagedoorError]) -> None:
    _, _, body = problem(leaf("10.0.0.7:9042: /srv/rows.db"))
    assert b"10.0.0.7" not in body and b"/srv" not in body
    assert json.loads(body)["code"] == leaf.code and json.loads(body)["detail"]


def test_members_stand_beside_but_never_in_place_of_the_problems_own_fields() -> None:
    failure = Shed("busy", members={"status": 200, "policy": "cpu"})
    fields = json.loads(problem(failure)[2])
    assert (fields["status"], fields["policy"]) == (503, "cpu")


def test_the_step_of_a_failed_plan_is_named() -> None:
    fields = json.loads(problem(DependencyFailed("rights", Shed()))[2])
    assert (fields["code"], fields["step"], fields["reason"]) == ("dependency", "rights", "shed")


@pytest.mark.parametrize(
    "failure", [ValueError("password=1"), ConfigurationFault(["password=1"]), KeyError("x")]
)
def test_our_own_faults_are_not_told_to_callers(failure: Exception) -> None:
    status, _, body = problem(failure)
    assert status == 500 and b"password" not in body and json.loads(body)["code"] == "internal"


def leaves(kind: type[StagedoorError]) -> list[type[StagedoorError]]:
    return [kind, *(leaf for child in kind.__subclasses__() for leaf in leaves(child))]


SIMPLE = [
    leaf
    for leaf in leaves(StagedoorError)
    if leaf.__module__ == errors.__name__
    and leaf not in (ConfigurationFault, PeerRefusal, OriginStatus, DependencyFailed)
]


@pytest.mark.parametrize("leaf", SIMPLE)
def test_every_leaf_of_the_tree_is_told_by_its_own_status(leaf: type[StagedoorError]) -> None:
    status, _, body = problem(leaf("why"))
    assert status == leaf.status and json.loads(body)["status"] == status


def test_a_peers_refusal_keeps_its_status_code_and_members() -> None:
    failure = failure_from(
        *problem(RateLimited("slow down", retry_after_s=3, members={"who": "a"}))
    )
    assert isinstance(failure, PeerRefusal)
    assert (failure.status, failure.code, failure.detail) == (429, "rate", "slow down")
    assert (failure.retry_after_s, failure.members) == (3.0, {"who": "a"})


def test_a_peers_failure_keeps_its_code_and_says_whether_to_retry() -> None:
    failure = failure_from(*problem(Shed("busy", retry_after_s=1)))
    assert isinstance(failure, OriginStatus)
    assert (failure.origin_status, failure.code, failure.retry_after_s) == (503, "shed", 1.0)
    assert failure.retryable is Retryable.IDEMPOTENT
    assert failure_from(500, [], b"").retryable is Retryable.NEVER


def test_an_answer_that_is_no_problem_still_becomes_a_failure() -> None:
    refusal = failure_from(404, [(b"Content-Type", b"text/html")], b"<html>")
    assert (refusal.status, refusal.code) == (404, "peer_refused")
    assert failure_from(502, [], b"").code == "origin_status"


@pytest.mark.parametrize("body", [b'{"code":"\xff"}', b'{"code":' + b"[" * 5000])
def test_a_problem_that_no_decoder_takes_still_becomes_a_failure(body: bytes) -> None:
    assert failure_from(503, [(b"content-type", CONTENT_TYPE)], body).code == "origin_status"


def test_an_answer_below_400_is_no_failure_but_a_disagreement() -> None:
    assert isinstance(failure_from(302, [], b""), OriginGarbled)


@given(
    st.integers(400, 599),
    st.binary(max_size=60)
    | st.builds(
        lambda value: json.dumps(value).encode(),
        st.recursive(
            st.none() | st.integers() | st.text(max_size=5),
            lambda inner: st.dictionaries(
                st.sampled_from(["code", "detail", "title", "status", "x"]), inner, max_size=4
            ),
        ),
    ),
)
def test_no_body_whatever_breaks_the_translation(status: int, body: bytes) -> None:
    headers = [(b"content-type", CONTENT_TYPE + b"; charset=utf-8")]
    failure = failure_from(status, headers, body)
    assert isinstance(failure, PeerRefusal if status < 500 else OriginStatus)
    assert isinstance(failure.code, str) and failure.code
    assert problem(failure)[0] == (status if status < 500 else 502)


@pytest.mark.parametrize("value", [None, b"", b"-1", b"soon", b"Wed, 21 Oct 2015 07:28:00 GMT"])
def test_only_seconds_are_read_from_retry_after(value: bytes | None) -> None:
    assert parse_retry_after(value) is None
