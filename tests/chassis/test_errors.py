"""The failure tree: as drawn, and every leaf says what callers need to know."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from chassis import errors
from chassis.errors import (
    ConfigurationFault,
    DependencyFailed,
    OriginReset,
    OriginStatus,
    PeerRefusal,
    Retryable,
    StagedoorError,
)
from chassis.http.problems import problem

_DRAWN = re.compile(
    r"^(?P<bars>[│ ├└─]*)(?P<name>[A-Z]\w+)(?: +(?P<status>\d{3}))?\b", re.MULTILINE
)
OUTCOMES = {
    "client_error",
    "client_not_found",
    "auth_denied",
    "shed",
    "rate_limited",
    "deadline",
    "breaker_open",
    "origin_error",
    "origin_timeout",
    "origin_connect",
    "origin_reset",
    "no_instances",
    "local_error",
}


def drawn() -> Iterator[tuple[str, str | None, str | None]]:
    """Every class of the drawing: its name, its parent's, its status."""
    assert errors.__doc__ is not None
    tree = errors.__doc__.split("```")[1]
    above: list[str] = []
    for line in _DRAWN.finditer(tree):
        depth = (len(line["bars"]) + 3) // 4
        parent = above[depth - 1] if depth else None
        above[depth:] = [line["name"]]
        yield line["name"], parent, line["status"]


def classes() -> dict[str, type[StagedoorError]]:
    return {
        name: value
        for name, value in vars(errors).items()
        if isinstance(value, type) and issubclass(value, StagedoorError)
    }


def test_the_drawing_is_the_tree() -> None:
    found = {name: parent for name, parent, _ in drawn()}
    assert found == {
        name: None if one is StagedoorError else one.__bases__[0].__name__
        for name, one in classes().items()
    }


def test_the_drawn_statuses_are_the_real_ones() -> None:
    statuses = {name: int(status) for name, _, status in drawn() if status is not None}
    assert statuses == {name: classes()[name].status for name in statuses}
    assert len(statuses) > 20


@pytest.mark.parametrize("one", classes().values(), ids=lambda one: one.__name__)
def test_each_failure_has_a_status_a_code_and_a_known_outcome(one: type[StagedoorError]) -> None:
    assert 400 <= one.status <= 599
    assert re.fullmatch(r"[a-z_]+", one.code)
    assert one.outcome in OUTCOMES
    assert isinstance(one.retryable, Retryable)


def test_no_two_leaves_share_a_code() -> None:
    leaves = [one for one in classes().values() if not one.__subclasses__()]
    inherited = {"BadRequest", "PeerRefusal"}
    codes = [one.code for one in leaves if one.__name__ not in inherited]
    assert sorted(codes) == sorted(set(codes))


def test_only_a_failure_before_sending_may_always_be_repeated() -> None:
    always = {name for name, one in classes().items() if one.retryable is Retryable.ALWAYS}
    assert always == {"NoInstances", "ConnectFailed"}
    assert OriginReset(sent=False).retryable is Retryable.ALWAYS
    assert OriginReset().retryable is Retryable.IDEMPOTENT


@pytest.mark.parametrize(
    ("status", "expected"),
    [(500, Retryable.NEVER), (501, Retryable.NEVER), (503, Retryable.IDEMPOTENT)],
)
def test_a_status_is_repeated_only_where_another_may_do_better(
    status: int, expected: Retryable
) -> None:
    assert OriginStatus(status).retryable is expected


def test_one_instances_code_does_not_change_its_class() -> None:
    assert StagedoorError("x", code="mine").code == "mine"
    assert StagedoorError("x").code == "internal"


def test_configuration_faults_are_all_told_one_a_line() -> None:
    fault = ConfigurationFault(["a is wrong", "b is missing"], what="the settings")
    assert str(fault) == "the settings cannot be used:\n  - a is wrong\n  - b is missing"
    assert fault.faults == ("a is wrong", "b is missing")


def test_a_peers_refusal_keeps_the_peers_words() -> None:
    refusal = PeerRefusal(409, "taken", "by another", retry_after_s=2, members={"by": "you"})
    status, headers, body = problem(refusal)
    assert (status, dict(headers)[b"retry-after"]) == (409, b"2")
    assert b'"code":"taken"' in body and b'"by":"you"' in body
    assert PeerRefusal.status == 400


@pytest.mark.parametrize(
    ("cause", "reason"), [(OriginStatus(500), "origin_status"), (KeyError("x"), "KeyError")]
)
def test_a_failed_dependency_names_the_step_and_the_reason(
    cause: BaseException, reason: str
) -> None:
    failure = DependencyFailed("rights", cause, retry_after_s=1)
    assert (failure.members["step"], failure.members["reason"]) == ("rights", reason)
    assert failure.status == 503
