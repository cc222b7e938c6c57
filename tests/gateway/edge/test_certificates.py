"""Which look at the files takes them over, and which does not."""

from __future__ import annotations

import datetime
from pathlib import Path

import pytest

from chassis.clock import ManualClock
from gateway.edge.certificates import Certificates, Pair, Tls
from tests.support.certificates import Authority

NOW = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


def certificates(authority: Authority, clock: ManualClock) -> Certificates:
    return Certificates(Tls(pairs=(Pair(*authority.issue("a")),)), clock)


def at(moment: datetime.datetime) -> ManualClock:
    return ManualClock(now=moment.timestamp())


def test_files_that_stay_as_they_are_are_left_alone(authority: Authority) -> None:
    found = certificates(authority, at(NOW))
    context = found.context
    assert [found.look() for _ in range(3)] == [None] * 3
    assert found.context is context


def test_changed_files_are_taken_over_once_they_rest_and_only_once(authority: Authority) -> None:
    found = certificates(authority, at(NOW))
    context = found.context
    authority.issue("a")
    assert found.look() is None
    assert found.context is context
    assert found.look() == ""
    assert found.context is not context
    assert [found.look() for _ in range(3)] == [None] * 3
    assert (found.replaced, found.refused) == (1, 0)


def test_files_that_go_on_changing_are_waited_for(authority: Authority) -> None:
    found = certificates(authority, at(NOW))
    for _ in range(3):
        authority.issue("a")
        assert found.look() is None
    assert found.look() == ""


def test_why_files_are_refused_is_told_once(authority: Authority, tmp_path: Path) -> None:
    found = certificates(authority, at(NOW))
    context = found.context
    (tmp_path / "a.key").write_text("nonsense")
    told = [found.look() for _ in range(4)]
    assert told[0] is None and told[2:] == [None, None]
    assert told[1] is not None and "a.key holds no private key" in told[1]
    assert (found.context is context, found.refused) == (True, 1)
    authority.issue("a")
    assert [found.look(), found.look()] == [None, ""]


async def test_files_that_are_not_valid_yet_are_taken_over_when_they_are(
    authority: Authority,
) -> None:
    clock = at(NOW)
    found = certificates(authority, clock)
    authority.issue("a", since=NOW + datetime.timedelta(hours=1))
    assert found.look() is None
    assert "valid from 2026-01-01 01:00" in str(found.look())
    await clock.advance(3_601)
    assert found.look() == ""


def test_the_first_to_expire_is_told(authority: Authority) -> None:
    late = authority.issue("late", until=NOW + datetime.timedelta(days=9))
    soon = authority.issue("soon", until=NOW + datetime.timedelta(days=2))
    found = Certificates(Tls(pairs=(Pair(*late), Pair(*soon))), at(NOW))
    assert found.expires == (NOW + datetime.timedelta(days=2)).timestamp()
