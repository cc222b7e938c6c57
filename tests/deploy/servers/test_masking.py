"""No address of a package host gets through."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploy.servers.masking import masked

SECRET = "packages.inside.example"


@pytest.mark.parametrize(
    "line",
    [
        f"Downloading from central: https://{SECRET}/maven2/org/a/b/1/b-1.pom",
        f"could not transfer from/to mirror (http://user:pass@{SECRET}:8081/repo): timed out",
        f'github.com/x/y@v1: Get "https://{SECRET}/x/y/@v/v1.mod": no such host',
        f"dial tcp: lookup {SECRET} on 10.1.2.3:53: no such host",
        f"dial tcp {SECRET}:443: connect: connection refused",
        f"Unknown host {SECRET}: Name or service not known",
        "dial tcp [fd00::1:2]:443: connect: network is unreachable",
        "read udp 172.16.0.9:41000->172.16.0.1:53: i/o timeout",
    ],
)
def test_an_address_is_taken_out(line: str) -> None:
    said = masked(line)
    assert SECRET not in said and "(address)" in said
    for part in ("10.1.2.3", "172.16.0", "fd00"):
        assert part not in said


@pytest.mark.parametrize(
    "line",
    [
        "go: downloading github.com/hashicorp/consul v1.19.2",
        "[ERROR] The following artifacts could not be resolved: a:b:jar:4.1.1",
        "compile: version 1.25.0 of 3 packages",
    ],
)
def test_what_helps_stays(line: str) -> None:
    assert masked(line) == line


@given(st.text())
def test_a_masked_line_has_nothing_left_to_mask(line: str) -> None:
    assert masked(masked(line)) == masked(line)
