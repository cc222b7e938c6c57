"""What the URL of a registry says."""

from __future__ import annotations

import pytest

from chassis.discovery.address import Address, address_of
from chassis.errors import ConfigurationFault


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("consul://consul", Address("http", "consul", 8500)),
        ("consuls://[::1]:8501", Address("https", "::1", 8501)),
        ("consul://h:1?prefix=", Address("http", "h", 1)),
        ("consul://h:1?prefix=stage-2", Address("http", "h", 1, "stage-2.")),
    ],
)
def test_an_address_has_a_scheme_a_place_and_a_prefix(url: str, address: Address) -> None:
    assert address_of(url) == address


@pytest.mark.parametrize("prefix", ["a.", "a/b", "-a", "..", "a b", "ä", "a" * 65])
def test_a_prefix_that_names_could_not_begin_with_is_refused(prefix: str) -> None:
    with pytest.raises(ConfigurationFault, match="letters, digits, - and _"):
        address_of(f"consul://h:1?prefix={prefix}")


def test_every_fault_of_the_options_is_said_at_once() -> None:
    with pytest.raises(ConfigurationFault) as failed:
        address_of("consul://h:1?perfix=a&dc=x&prefix=.")
    assert len(failed.value.faults) == 3


@pytest.mark.parametrize(
    "url",
    ["http://h:1", "consul://", "consul://h:port", "consul://h:1/v1", "consul://h:1#a", "h:1"],
)
def test_what_is_no_address_is_shown_with_one_that_is(url: str) -> None:
    with pytest.raises(ConfigurationFault, match="for example consul://") as failed:
        address_of(url)
    assert url in str(failed.value)


@pytest.mark.parametrize(
    "url", ["consul://me:hush@h:1", "consul://hush@h:x", "consul://me:hush/@h:1", "consul://[hush"]
)
def test_a_password_is_refused_where_it_would_mean_nothing_and_is_not_shown(url: str) -> None:
    with pytest.raises(ConfigurationFault, match="write consul://host:port") as failed:
        address_of(url)
    assert "hush" not in str(failed.value)


def test_a_token_belongs_into_the_environment() -> None:
    with pytest.raises(ConfigurationFault, match="CONSUL_HTTP_TOKEN"):
        address_of("consul://token@h:1")
