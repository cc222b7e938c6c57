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
