from __future__ import annotations

import pytest

from chassis.errors import ConfigurationFault
from chassis.urls import ENCODE, parts_of, places_of


def test_a_url_comes_apart() -> None:
    parts = parts_of("kafka://us:p%40ss@a:1,b:2/x?y=z", ENCODE, what="the URL")
    assert (parts.netloc, parts.path, parts.query) == ("us:p%40ss@a:1,b:2", "/x", "y=z")


@pytest.mark.parametrize("mark", "/?#[")
def test_a_password_that_was_not_encoded_is_advice_and_not_shown(mark: str) -> None:
    with pytest.raises(ConfigurationFault, match="percent-encode") as caught:
        parts_of(f"kafka://us:sec{mark}ret@a:1", ENCODE, "as in …", what="the URL")
    assert caught.value.faults == (ENCODE, "as in …")
    assert "sec" not in str(caught.value)
    assert "ret" not in str(caught.value)


def test_places_are_hosts_with_ports_and_a_port_may_be_understood() -> None:
    faults: list[str] = []
    assert places_of("a:1,[::1]:2,b", faults, 3) == (("a", 1), ("::1", 2), ("b", 3))
    assert not faults


@pytest.mark.parametrize(
    "netloc", ["user:sec:ret:9042", "user:secret", "sec ret:1", "a:0", "a:65536", "", "a:1,", "::1"]
)
def test_what_is_no_place_may_be_a_password_and_is_told_by_number(netloc: str) -> None:
    faults: list[str] = []
    places_of(f"good:1,{netloc}", faults)
    assert faults and all(fault.startswith("address ") for fault in faults)
    assert "address 2: " in faults[0] or "address 3: " in faults[0]
    assert not any("sec" in fault or "ret:" in fault for fault in faults)


def test_a_port_that_nobody_understands_has_to_be_written() -> None:
    faults: list[str] = []
    assert places_of("a", faults) == ()
    assert faults == ["address 1: write host:port, and an @ behind a user and a password"]
